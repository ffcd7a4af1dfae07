// The theme switch: light, dark, or the system's preference.

const KEY = "broker-theme";
const NAMES = ["system", "light", "dark"];
const root = document.documentElement;

function apply(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  document.dispatchEvent(new Event("themechange"));
}

/**
 * Connects the theme switch. The document gets a `themechange` event after every change, because a canvas does not
 * follow CSS.
 */
export function startTheme(select) {
  const saved = localStorage.getItem(KEY);
  select.value = NAMES.includes(saved) ? saved : "system";
  apply(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem(KEY, select.value);
    apply(select.value);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(select.value));
}
