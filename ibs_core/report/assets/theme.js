(() => {
  "use strict";
  // The reader's system chooses until the reader does.
  const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  let chosen = null;
  const apply = () => {
    const before = root.dataset.theme;
    root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
    const button = document.getElementById("theme");
    if (button) button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
    if (before !== root.dataset.theme) root.dispatchEvent(new Event("theme"));
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      apply();
    });
  });
})();
