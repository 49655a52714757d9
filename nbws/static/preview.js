/* Draws the line over a preview and the errors under it, from what the framed page says. */
(name, fits) => {
  "use strict";
  const root = [...document.querySelectorAll(`[id="${name}"]`)].find((each) => !each.dataset.live);
  if (!root) return;
  root.dataset.live = "1";
  const frame = root.querySelector("iframe");
  const part = (cls) => root.querySelector(`.nbws-${cls}`);
  const { origin, searchParams } = new URL(frame.src);
  const ticket = searchParams.get("nbws-ticket");

  const isDark = () => {
    const jupyter = document.body.dataset.jpThemeLight;
    if (jupyter) return jupyter === "false";
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const greet = () => frame.contentWindow && frame.contentWindow.postMessage({ nbws: "frame", ticket, dark: isDark() }, origin);

  const pattern = (path) => new RegExp("^" + path.split(/(\{[^}]*\})/).map((piece) =>
    piece.startsWith("{") ? (piece.endsWith(":path}") ? ".*" : "[^/]+") : piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  ).join("") + "$");
  const endpoint = (method, path) =>
    shared.live.endpoints.find((each) => each.method === method && path && pattern(each.path).test(path));

  /* What all previews of the app in this notebook know: few of them have a feed. What was dismissed stays so in the
     preview that takes the place of this one when the cell is run again. */
  const known = (window.nbwsPreviews ||= new Map()), port = new URL(frame.src).port;
  if (!known.has(port)) known.set(port, { live: null, dismissed: new Set(), dismissedCount: 0, draws: new Set() });
  const shared = known.get(port);

  part("beside").onclick = () =>
    root.dispatchEvent(new CustomEvent("nbws:beside", { bubbles: true, detail: part("path").textContent }));

  let page = null;
  function draw() {
    if (!page || !root.isConnected) return;
    const states = page.sockets.map((socket) => socket.state);
    const worst = ["closed", "reconnecting", "connecting", "connected"].find((state) => states.includes(state));
    const state = page.lost && !states.includes("connected") ? "reconnecting" : worst || "no websocket";
    root.dataset.state = state;
    part("state").textContent = states.length > 1 ? `${state} (${states.length})` : state;
    part("path").textContent = page.path;
    if (shared.live) {
      part("version").replaceChildren(...versions());
      drawSaid(shared.live.said);
      drawNotices(shared.live.notices);
      drawErrors(shared.live.errors, shared.live.error_count);
    }
  }

  /* What answers the page: the handlers of its websockets, or else the one that made it. */
  function versions() {
    const paths = [...new Set(page.sockets.map((socket) => socket.path))];
    const answering = paths.length
      ? paths.map((path) => [path, endpoint("WS", path)])
      : [[page.path, endpoint("GET", page.path)]].filter(([, handler]) => handler);
    return answering.flatMap(([path, handler]) => {
      const where = make("span", handler ? handler.path : path);
      const which = make("b", handler ? `v${handler.version}` : "retired");
      return handler && handler.path === page.path ? [which] : [where, " ", which];
    });
  }

  function make(tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  }

  /* A page whose height follows the frame's, as with 100vh, has none of its own: it fills whatever it is given, or
     outgrows it. That is tried out with ever more room, so that a page which only grows fast is not taken for one. */
  const FILLED = 400, LEAST = 40, MOST = 4000;
  let room = 0, outgrown = 0, tried = 0;
  function fit() {
    if (tried && Math.abs(page.room - tried) > 2) return;  // measured before the frame had that height
    const fills = !room && page.height === page.room;
    if (page.height <= page.room) outgrown = 0;
    else if (page.room !== room) outgrown += 1;
    room = page.room;
    const wanted = fills || outgrown > 4 ? FILLED : page.height + (outgrown > 1 ? 60 * outgrown : 0);
    const height = Math.min(Math.max(wanted, LEAST), MOST);
    tried = wanted === page.height ? 0 : height;
    frame.style.height = `${height}px`;
  }

  /* What handlers printed, folded; somebody who has opened it and scrolled down sees what comes. */
  let lastSaid = 0;
  function drawSaid(said) {
    const box = part("said"), newest = said.length ? said[said.length - 1].id : 0;
    if (newest === lastSaid && said.length) return;
    lastSaid = newest;
    box.hidden = !said.length;
    part("said-head").textContent = `Output of handlers (${said.length < 30 ? said.length : "the last 30"})`;
    const lines = part("said-lines"), isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
    lines.replaceChildren(...said.flatMap(({ who, path, text }) => [make("b", `${path} ${who}  `), make("span", text)]));
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  }

  function drawNotices(notices) {
    part("notices").replaceChildren(...notices.filter(({ id }) => !shared.dismissed.has(id)).map(({ id, text }) => {
      const line = make("p", text);
      const button = make("button", "dismiss");
      button.onclick = () => { shared.dismissed.add(id); shared.draws.forEach((each) => each()); };
      line.append(button);
      return line;
    }));
  }

  const drawn = new Map();  // id of an error -> its element, which stays open when the next one comes
  function drawErrors(errors, count) {
    const fresh = errors.filter((error) => !shared.dismissed.has(error.id));
    fresh.forEach((error) => drawn.has(error.id) && drawTitle(drawn.get(error.id).firstChild, error));
    if (fresh.map((error) => error.id).join() === [...drawn.keys()].join()) return;
    const box = part("errors");
    const elements = fresh.map((error) => drawn.get(error.id) || drawError(error));
    drawn.clear();
    fresh.forEach((error, index) => drawn.set(error.id, elements[index]));
    if (!fresh.length) return box.replaceChildren();
    shared.dismissedCount = Math.min(shared.dismissedCount, count - fresh.length);  // a new kernel counts from 0
    const number = fresh.length < errors.length ? fresh.length : count - shared.dismissedCount;
    const title = number === 1 ? "1 error" : number > fresh.length ? `${number} errors, the last ${fresh.length}:` : `${number} errors`;
    const head = make("div", title);
    head.className = "nbws-errors-head";
    const button = make("button", "dismiss");
    button.onclick = () => {
      errors.forEach((error) => shared.dismissed.add(error.id));
      shared.dismissedCount = count;
      shared.draws.forEach((each) => each());
    };
    head.append(button);
    box.replaceChildren(head, ...elements.reverse());
  }
  function drawError(error) {
    const details = document.createElement("details");
    details.append(drawTitle(make("summary", ""), error), make("pre", `message: ${error.message}\n${error.text}`));
    return details;
  }
  function drawTitle(summary, error) {
    const title = error.times > 1 ? `${error.title} (${error.times} times)` : error.title;
    if (summary.textContent !== title) summary.textContent = title;
    return summary;
  }

  /* A page that does not answer is none of nbws: the server's error page, or the browser's where there is no server. */
  async function onLoad() {
    start();
    page = null;
    room = outgrown = tried = 0;
    greet();
    const file = origin + "/_nbws/static/nbws.css" + new URL(frame.src).search;  // with the ticket
    const runs = await fetch(file, { mode: "no-cors" }).then(() => true, () => false);
    if (page || !root.isConnected) return;
    root.dataset.state = runs ? "unknown" : "closed";
    part("state").textContent = runs ? "state unknown" : "not running";
    part("version").replaceChildren();
    part("note").textContent = runs ? "" : "No app answers here. Run this cell to start it.";
    frame.hidden = !runs;
    if (panel) panel.hidden = !runs;
  }

  /* The page lost the focus. Unless somebody clicked or typed in the notebook since it got it, some code took it,
     such as JupyterLab running a cell: whoever was typing in the page goes on there. What is clicked in another
     frame, such as a second preview, is not seen here; that frame has the focus then. */
  let touched = false, returned = 0;
  const touch = (event) => { if (event.isTrusted) { touched = true; returned = 0; } };
  const touches = ["pointerdown", "keydown"];
  function giveBackFocus() {
    const now = document.activeElement;
    const isElsewhere = now && now !== frame && now.tagName === "IFRAME";
    if (touched || isElsewhere || !document.hasFocus() || ++returned > 5) return;
    frame.focus({ preventScroll: true });
    frame.contentWindow.postMessage({ nbws: "frame", ticket, dark: isDark(), focus: true }, origin);
  }

  function onMessage(event) {
    if (!root.isConnected) return stop();
    if (panelFrame && event.source === panelFrame.contentWindow && event.data && event.data.nbws === "panel") paintPanel();
    if (event.source !== frame.contentWindow || event.origin !== origin || !event.data) return;
    if (event.data.nbws === "hello") greet();
    else if (event.data.nbws === "page") hear(event.data);
    else if (event.data.nbws === "focus") touched = false;
    else if (event.data.nbws === "touch") returned = 0;
    else if (event.data.nbws === "blur") giveBackFocus();
  }
  function hear(said) {
    page = said;
    part("note").textContent = "";
    frame.hidden = false;
    if (panel) panel.hidden = false;
    if (fits && page.height) fit();
    if (page.live) {
      shared.live = page.live;
      shared.draws.forEach((each) => each());
    } else draw();
  }
  /* The panel is a frame of its own, which is there while it is unfolded. */
  const panel = part("inspector");
  let panelFrame = null;
  const paintPanel = () => panelFrame && panelFrame.contentWindow && panelFrame.contentWindow.postMessage({ nbws: "panel", dark: isDark() }, origin);
  if (panel) panel.ontoggle = () => {
    if (panelFrame) panelFrame.remove();
    panelFrame = null;
    if (!panel.open) return;
    panelFrame = document.createElement("iframe");
    panelFrame.title = "Panel of the app";
    panelFrame.src = panel.dataset.src;
    panelFrame.onload = paintPanel;
    panel.append(panelFrame);
  };

  const themes = new MutationObserver(() => { greet(); paintPanel(); });
  function start() {
    window.addEventListener("message", onMessage);
    touches.forEach((kind) => window.addEventListener(kind, touch, true));
    themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    shared.draws.add(draw);
  }
  function stop() {  // until the output is shown again, which loads the frame anew
    shared.draws.delete(draw);
    window.removeEventListener("message", onMessage);
    touches.forEach((kind) => window.removeEventListener(kind, touch, true));
    themes.disconnect();
  }
  frame.addEventListener("load", onLoad);
  start();
}
