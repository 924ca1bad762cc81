// Light or dark: as the system has it, until the button is pressed; then as it was pressed last.
import { recall, remember } from "./storage.js";

const system = matchMedia("(prefers-color-scheme: dark)");
let chosen = ["light", "dark"].find((theme) => theme === recall("theme")); // another program may have left its own

/** Show the theme, and let the button change it. */
export function wear(button) {
  const dark = () => (chosen ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.ariaPressed = String(dark());
  };
  button.addEventListener("click", () => {
    chosen = dark() ? "light" : "dark";
    remember("theme", chosen);
    show();
  });
  system.addEventListener("change", show);
  show();
}
