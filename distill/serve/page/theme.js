// Light or dark theme: the system's, until the user chooses one with the button.
import { load, save } from "./storage.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const saved = load("theme"); // may be another program's value: localStorage belongs to the address
let chosen = ["light", "dark"].find((theme) => theme === saved);

/** Apply the theme and make `button` switch it. */
export function setUpTheme(button) {
  const isDark = () => (chosen ?? (system.matches ? "dark" : "light")) === "dark";
  const apply = () => {
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.ariaPressed = String(isDark());
  };
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    save("theme", chosen);
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
