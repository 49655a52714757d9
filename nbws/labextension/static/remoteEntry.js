/* Opens the output that a preview is in beside its notebook, as JupyterLab's "Create New View for Cell Output" opens it
   below. An output's own script cannot: it has no way to the application. Written as what webpack would make of it (a
   container of module federation), so that nothing has to be built. */
var _JUPYTERLAB = window._JUPYTERLAB || {};

_JUPYTERLAB.nbws = (() => {
  const STYLE = `
    .nbws-view { overflow: auto; padding: 8px; background: var(--jp-layout-color1); }
    .nbws-view .jp-OutputPrompt { display: none; }`;

  function activate(app) {
    if (app.name !== "JupyterLab") return;  // the shell of Notebook 7 shows one thing at a time
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    document.body.addEventListener("nbws:beside", (event) => open(app.shell, event.target, event.detail));
    document.body.dataset.nbwsBeside = "";  // shows the button in every preview, whichever was there first
  }

  const views = new Map();  // a cell -> the view of its output; both are Lumino widgets

  function open(shell, preview, label) {
    const panel = [...shell.widgets("main")].find((each) => each.content?.widgets && each.node.contains(preview));
    const cell = panel?.content.widgets.find((each) => each.node.contains(preview));
    if (!cell?.cloneOutputArea) return;
    const known = views.get(cell);
    if (known) return shell.activateById(known.id);
    const view = cell.cloneOutputArea();  // shows whatever the cell puts out from now on
    view.id = `nbws-beside-${panel.id}-${cell.model.id}`;
    view.title.label = `Preview of ${label}`;
    view.title.caption = `Preview of ${label}, in ${panel.title.label}`;
    view.title.closable = true;
    view.addClass("nbws-view");
    const last = [...views.values()].filter((each) => each.isVisible).pop();
    const place = last ? { mode: "tab-after", ref: last.id } : { mode: "split-right", ref: panel.id };
    views.set(cell, view);
    view.onCloseRequest = () => view.dispose();
    view.disposed.connect(() => views.delete(cell));
    cell.disposed.connect(() => view.dispose());
    shell.add(view, "main", { ...place, activate: !!last, type: "nbws preview" });
  }

  const plugin = { id: "nbws:beside", autoStart: true, description: "Opens previews beside the notebook.", activate };
  return { init: () => {}, get: async () => () => ({ __esModule: true, default: plugin }) };
})();
