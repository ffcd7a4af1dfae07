// Draws the diagrams of a page, in the colours of the theme. Without scripts their text stays. `path_to_root` is mdBook's.
"use strict";
(() => {
  const diagrams = [...document.querySelectorAll("code.language-mermaid")].map((code) => ({ text: code.textContent, block: code.closest("pre") }));
  if (diagrams.length === 0) return;

  const isDark = () => ["navy", "coal", "ayu"].some((theme) => document.documentElement.classList.contains(theme));

  async function draw() {
    window.mermaid.initialize({ startOnLoad: false, theme: isDark() ? "dark" : "default" });
    for (const [index, diagram] of diagrams.entries()) {
      const figure = document.createElement("figure");
      figure.className = "diagram";
      const { svg } = await window.mermaid.render(`diagram-${index}`, diagram.text);
      figure.innerHTML = svg;
      diagram.block.replaceWith(figure);
      diagram.block = figure;
    }
  }

  const script = document.createElement("script");
  script.src = `${path_to_root}mermaid.js`;
  script.addEventListener("load", () => {
    let drawing = draw();
    let dark = isDark();
    new MutationObserver(() => {
      if (dark === isDark()) return;
      dark = isDark();
      drawing = drawing.then(draw);
    }).observe(document.documentElement, { attributeFilter: ["class"] });
  });
  document.head.append(script);
})();
