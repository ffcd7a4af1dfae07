// Light, dark, or what the system says.

const KEY = "broker-theme";
const NAMES = ["system", "light", "dark"];
const root = document.documentElement;

function apply(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  document.dispatchEvent(new Event("themechange"));
}

/** Wires the switch, and tells the document of changes (`themechange`), since a canvas does not follow CSS by itself. */
export function startTheme(select) {
  const kept = localStorage.getItem(KEY);
  select.value = NAMES.includes(kept) ? kept : "system";
  apply(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem(KEY, select.value);
    apply(select.value);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(select.value));
}
