/* The button of the page that `nbws docs` writes: as the system, light, dark. */
(() => {
  "use strict";
  const root = document.documentElement, names = ["auto", "light", "dark"];
  const button = document.createElement("button");
  const show = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    button.textContent = name;
    button.title = button.ariaLabel = `Colours: ${name}`;
  };
  let kept = "auto";
  try { kept = localStorage.getItem("nbws-theme") || "auto"; } catch { }
  show(names.includes(kept) ? kept : "auto");
  button.type = "button";
  button.className = "theme";
  button.addEventListener("click", () => {
    const next = names[(names.indexOf(button.textContent) + 1) % names.length];
    show(next);
    try { localStorage.setItem("nbws-theme", next); } catch { }
  });
  document.body.append(button);
})();
