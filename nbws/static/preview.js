/* Draws the line over a preview and the errors under it, from what the framed page says. */
(name, fits) => {
  "use strict";
  const root = [...document.querySelectorAll(`[id="${name}"]`)].find((each) => !each.dataset.live);
  if (!root) return;
  root.dataset.live = "1";
  const frame = root.querySelector("iframe");
  const part = (cls) => root.querySelector(`.nbws-${cls}`);
  const origin = new URL(frame.src).origin;

  const isDark = () => {
    const jupyter = document.body.dataset.jpThemeLight;
    if (jupyter) return jupyter === "false";
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const greet = () => frame.contentWindow && frame.contentWindow.postMessage({ nbws: "frame", dark: isDark() }, origin);

  const pattern = (path) => new RegExp("^" + path.split(/(\{[^}]*\})/).map((piece) =>
    piece.startsWith("{") ? (piece.endsWith(":path}") ? ".*" : "[^/]+") : piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  ).join("") + "$");
  const endpoint = (page, method, path) =>
    page.live.endpoints.find((each) => each.method === method && path && pattern(each.path).test(path));

  function draw(page) {
    const states = page.sockets.map((socket) => socket.state);
    const worst = ["closed", "reconnecting", "connecting", "connected"].find((state) => states.includes(state));
    const state = page.lost && !states.includes("connected") ? "reconnecting" : worst || "no websocket";
    root.dataset.state = state;
    part("state").textContent = states.length > 1 ? `${state} (${states.length})` : state;
    part("path").textContent = page.path;
    const socket = page.sockets[0];
    const handler = socket ? endpoint(page, "WS", socket.path) : endpoint(page, "GET", page.path);
    part("version").textContent = handler ? `${handler.path === page.path ? "" : handler.path + " "}v${handler.version}` : socket ? "retired" : "";
    if (fits && page.height) frame.style.height = `${Math.min(Math.max(page.height, 40), 4000)}px`;
    drawErrors(page.live.errors, page.live.error_count);
  }

  let drawn = "", dismissed = 0;
  function drawErrors(errors, count) {
    const now = errors.map((error) => error.id).join();
    if (now === drawn) return;
    drawn = now;
    const box = part("errors");
    box.replaceChildren();
    if (count <= dismissed || !errors.length) return;
    const head = document.createElement("div");
    head.className = "nbws-errors-head";
    head.append(count === 1 ? "1 error" : `${count} errors`);
    const button = document.createElement("button");
    button.textContent = "dismiss";
    button.onclick = () => { dismissed = count; box.replaceChildren(); };
    head.append(button);
    box.append(head);
    for (const error of [...errors].reverse()) {
      const details = document.createElement("details");
      const summary = document.createElement("summary");
      summary.textContent = error.title;
      const pre = document.createElement("pre");
      pre.textContent = `message: ${error.message}\n${error.text}`;
      details.append(summary, pre);
      box.append(details);
    }
  }

  /* The page lost the focus. Unless somebody clicked or typed in the notebook since it got it, some code took it,
     such as JupyterLab running a cell: whoever was typing in the page goes on there. */
  let touched = false, returned = 0;
  const touch = (event) => { if (event.isTrusted) { touched = true; returned = 0; } };
  const touches = ["pointerdown", "keydown"];
  touches.forEach((kind) => window.addEventListener(kind, touch, true));
  function giveBackFocus() {
    if (touched || !document.hasFocus() || ++returned > 5) return;
    frame.focus({ preventScroll: true });
    frame.contentWindow.postMessage({ nbws: "frame", dark: isDark(), focus: true }, origin);
  }

  function onMessage(event) {
    if (!root.isConnected) return stop();
    if (event.source !== frame.contentWindow || event.origin !== origin || !event.data) return;
    if (event.data.nbws === "hello") greet();
    else if (event.data.nbws === "page") draw(event.data);
    else if (event.data.nbws === "focus") touched = false;
    else if (event.data.nbws === "blur") giveBackFocus();
  }
  const themes = new MutationObserver(greet);
  function stop() {
    window.removeEventListener("message", onMessage);
    touches.forEach((kind) => window.removeEventListener(kind, touch, true));
    themes.disconnect();
  }
  window.addEventListener("message", onMessage);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  frame.addEventListener("load", greet);
}
