/* The panel: what goes on in an app, drawn from what `look` of the Python side gives. As an anywidget it talks over the
   notebook's comm, as a page under a preview over HTTP; `panel` knows neither. */

const LINES = 500;      // kept of the log
const SHOWN = 14;       // in the diagram
const LANES = 5;        // clients in the diagram
const LOOK_SECONDS = 0.4;
const ALIVE_SECONDS = 60;

/** anywidget's entry: the notebook's author, over the comm. */
export default {
  render({ model, el }) {
    const waiting = new Map();
    let number = 0;
    const shown = panel(el, (asked) => new Promise((resolve) => {
      waiting.set(++number, resolve);
      model.send({ id: number, act: asked });
    }));
    const hear = (message) => {
      if (message.look) shown.draw(message.look);
      if (waiting.has(message.id)) waiting.get(message.id)(message.answer), waiting.delete(message.id);
    };
    const open = () => model.send({ open: true, seen: shown.seen() });
    model.on("msg:custom", hear);
    open();
    const alive = setInterval(open, ALIVE_SECONDS * 1000);
    return () => { clearInterval(alive); model.off("msg:custom", hear); };
  },
};

/** The page under a preview, which asks at the address and with the key that *el* has; the output gave it the key. */
export function page(el) {
  const { address, key } = el.dataset;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (isDark) => document.documentElement.toggleAttribute("data-dark", isDark);
  history.replaceState(null, "", location.pathname);  // without the key
  paint(dark.matches);
  addEventListener("message", (event) => event.source === parent && event.data?.nbws === "panel" && paint(event.data.dark));
  if (parent !== window) parent.postMessage({ nbws: "panel" }, "*");
  const ask = async (message) => {
    const headers = { "content-type": "application/json", "x-nbws-panel": key };
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(message) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.json();
  };
  const shown = panel(el, (asked) => ask({ act: asked }).catch((error) => ({ problem: `not done: ${error.message}` })));
  const looks = async () => {
    try {
      if (!document.hidden) shown.draw(await ask({ seen: shown.seen() }));
      shown.lost(false);
    } catch { shown.lost(true); }
    setTimeout(looks, LOOK_SECONDS * 1000);
  };
  looks();
}

let panels = 0;

/** Draws into *el*; *ask* takes what a button asks for and gives the promise of its answer. */
export function panel(el, ask) {
  const prefix = `nbws-panel-${++panels}`;
  const parts = {}, digests = {}, lines = [];
  let newest = 0, missed = 0, paused = null, filter = "", chosen = "messages";

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element[name] = value;
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.flat(9).filter((child) => child != null && child !== false && child !== ""));
    return element;
  };
  const button = (text, act, attributes = {}) => make("button", { type: "button", onclick: act, ...attributes }, text);

  /* -- the frame: a head, tabs, one page of each, and what was answered last */
  const head = make("div", { class: "nbws-p-head" });
  const said = make("div", { class: "nbws-p-answer", role: "status", hidden: true });
  const names = { messages: "Messages", diagram: "Diagram", connections: "Connections", endpoints: "Endpoints", errors: "Errors", output: "Output" };
  const pages = {}, tabs = {};
  for (const [name, title] of Object.entries(names)) {
    tabs[name] = make("button", {
      type: "button", role: "tab", id: `${prefix}-${name}-tab`, "aria-controls": `${prefix}-${name}`, onclick: () => choose(name),
    }, make("span", {}, title), make("b", {}));
    pages[name] = make("div", { role: "tabpanel", id: `${prefix}-${name}`, "aria-labelledby": `${prefix}-${name}-tab`, tabindex: "0", class: `nbws-p-page nbws-p-${name}` });
  }
  const list = make("div", { role: "tablist", "aria-label": "The app" }, Object.values(tabs));
  list.onkeydown = (event) => {
    const order = Object.keys(names), at = order.indexOf(chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + order.length, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(order[to % order.length]);
    tabs[chosen].focus();
  };
  const root = make("section", { class: "nbws-panel", "aria-label": "Panel of the app" }, head, list, said, Object.values(pages));
  el.replaceChildren(root);

  function choose(name) {
    chosen = name;
    for (const each of Object.keys(names)) {
      tabs[each].setAttribute("aria-selected", each === name);
      tabs[each].tabIndex = each === name ? 0 : -1;
      pages[each].hidden = each !== name;
    }
    drawPage(name);
  }

  async function tell(asked) {
    const answer = await ask(asked);
    if (answer.html !== undefined || answer.text !== undefined) return answer;
    say(answer.problem || answer.done, Boolean(answer.problem));
    return answer;
  }
  function say(text, isProblem, ...more) {
    said.hidden = false;
    said.dataset.problem = isProblem;
    said.replaceChildren(make("span", {}, text), ...more, button("×", () => { said.hidden = true; }, { "aria-label": "dismiss" }));
  }

  /* A button that does what cannot be taken back asks once more, by its own text. */
  const sure = (text, act) => {
    const it = button(text, () => {
      if (it.dataset.sure) return act();
      it.dataset.sure = "1";
      it.textContent = `${text}: sure?`;
      it.onblur = () => { delete it.dataset.sure; it.textContent = text; };
    });
    return it;
  };

  /* -- what came */
  function draw(look) {
    for (const [name, [digest, value]] of Object.entries(look.parts || {})) {
      digests[name] = digest;
      parts[name] = value;
    }
    if (look.log) take(look.log);
    if (look.parts) { drawHead(); drawCounts(); }
    if (look.parts && !["messages", "diagram"].includes(chosen)) drawPage(chosen);
  }

  function take(log) {
    newest = log.newest;
    missed += log.missed;
    for (const line of log.lines) {
      const known = lines.findLast ? lines.findLast((each) => each.number === line.number) : null;
      if (known) Object.assign(known, line), known.row && !known.row.hidden && redraw(known);
      else lines.push(line), line.isNew = true;
    }
    lines.splice(0, Math.max(0, lines.length - LINES)).forEach((line) => line.row && line.row.remove());
    if (paused === null) { if (chosen === "messages") drawMessages(); else if (chosen === "diagram") drawDiagram(); }
    drawCounts();
  }

  const number = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const short = (id) => id.slice(0, 4);
  const time = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const ms = (seconds) => (seconds === null ? "…" : seconds < 0.0095 ? `${(seconds * 1000).toFixed(1)} ms` : `${Math.round(seconds * 1000)} ms`);
  const size = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(0)} KB` : `${(bytes / 1048576).toFixed(1)} MB`);
  const who = (line) => (line.more ? `${line.who.length + line.more} clients` : line.who.map(short).join(", "));
  const words = { opened: "connects", received: "→ app", sent: "← app", closed: "leaves" };

  function drawHead() {
    const { name, url, connections, records } = parts.app;
    head.replaceChildren(
      make("span", { class: "nbws-p-dot", "data-on": url ? "true" : "false" }), make("strong", {}, name), make("span", {}, url || "not started"),
      make("span", {}, number(connections, "connection")),
      ...(records ? [] : [make("em", {}, "messages are not recorded: App(record=20)")]),
    );
  }
  function drawCounts() {
    const count = (name, number) => { tabs[name].lastChild.textContent = number || ""; };
    if (!parts.app) return;
    count("connections", parts.app.connections);
    count("endpoints", parts.endpoints.length);
    count("errors", parts.errors.length);
    count("output", parts.said.length);
    tabs.errors.dataset.alarm = parts.errors.length > 0;
  }
  function drawPage(name) {
    if (!parts.app) return;
    ({ messages: drawMessages, diagram: drawDiagram, connections: drawConnections, endpoints: drawEndpoints, errors: drawErrors, output: drawOutput })[name]();
  }

  /* -- messages */
  const rows = make("ol", { class: "nbws-p-rows" });
  const notShown = make("span", { class: "nbws-p-quiet" });
  const search = make("input", { type: "search", placeholder: "filter", "aria-label": "Show only lines with this text", oninput: () => { filter = search.value.toLowerCase(); sift(); } });
  const pause = button("pause", () => {
    paused = paused === null ? newest : null;
    pause.textContent = paused === null ? "pause" : "go on";
    pause.setAttribute("aria-pressed", paused !== null);
    drawMessages();
  }, { "aria-pressed": "false" });
  const clear = button("clear", () => { lines.splice(0).forEach((line) => line.row && line.row.remove()); missed = 0; drawMessages(); });
  pages.messages.append(make("div", { class: "nbws-p-tools" }, search, pause, clear, notShown), rows);

  const matches = (line) => !filter || `${line.path} ${line.kind} ${line.who.join(" ")} ${line.text} ${line.error || ""}`.toLowerCase().includes(filter);
  function sift() { lines.forEach((line) => { if (line.row) line.row.hidden = !matches(line); }); drawNotShown(); }
  function drawNotShown() {
    const hidden = filter ? `${lines.filter(matches).length} of ${lines.length}` : "";
    const left = missed ? `${missed.toLocaleString()} came too fast to be listed` : "";
    notShown.textContent = [hidden, left].filter(Boolean).join(" · ");
  }
  function redraw(line) {
    const open = line.row.firstChild.open;
    const row = rowOf(line);
    row.firstChild.open = open;
    line.row.replaceWith(row);
    line.row = row;
    row.hidden = !matches(line);
  }
  function rowOf(line) {
    const facts = [
      make("time", {}, time(line.at)), make("code", { title: line.who.join(", ") }, who(line)), make("span", { class: "nbws-p-way" }, words[line.kind]),
      make("span", { class: "nbws-p-path" }, line.path), line.version && make("span", {}, `v${line.version}`),
      line.kind === "received" && make("span", { class: "nbws-p-quiet" }, ms(line.seconds)),
    ];
    const text = line.text && make("code", { class: "nbws-p-text" }, line.text);
    const error = line.error && make("span", { class: "nbws-p-error" }, line.error);
    const summary = make("summary", {}, make("span", { class: "nbws-p-facts" }, facts), text, error);
    const all = line.text ? [make("pre", {}, line.text), make("span", { class: "nbws-p-quiet" }, number(line.size, "character"))] : [];
    return make("li", { "data-kind": line.kind }, make("details", {}, summary, all));
  }
  function drawMessages() {
    drawNotShown();
    if (paused !== null) return;
    const isAtEnd = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 24;
    const fresh = lines.filter((line) => !line.row);
    fresh.forEach((line) => { line.row = rowOf(line); line.row.hidden = !matches(line); });
    rows.append(...fresh.map((line) => line.row));
    if (!lines.length) rows.replaceChildren(make("li", { class: "nbws-p-quiet" }, "Nothing has been said yet."));
    else if (rows.firstChild && rows.firstChild.className === "nbws-p-quiet") rows.firstChild.remove();
    if (isAtEnd) rows.scrollTop = rows.scrollHeight;
  }

  /* What is said, without the tags of a fragment and the braces of a message. */
  const plain = (text) => {
    const read = new DOMParser().parseFromString(text.replace(/></g, "> <"), "text/html").body.textContent;
    try {
      const fields = JSON.parse(text);
      return Object.entries(fields).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ") || text;
    } catch { return read.replace(/\s+/g, " ").trim() || text; }
  };

  /* -- the sequence diagram */
  function drawDiagram() {
    const last = lines.slice(-SHOWN);
    const lanes = [...new Set(last.flatMap((line) => line.who))].slice(-LANES);
    if (!last.length) return pages.diagram.replaceChildren(make("p", { class: "nbws-p-quiet" }, "Nothing has been said yet."));
    const svg = (tag, attributes, ...children) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
      element.append(...children);
      return element;
    };
    const room = pages.diagram.clientWidth - 20;
    const step = 26, top = 34, left = 52, gap = Math.min(260, Math.max(118, (room - 2 * left) / lanes.length)), height = top + last.length * step + 12;
    const width = left * 2 + lanes.length * gap, appAt = left;
    const x = (id) => appAt + (lanes.indexOf(id) + 1) * gap;
    const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
    const drawn = [];
    for (const [at, label] of [[appAt, "app"], ...lanes.map((id) => [x(id), short(id)])]) {
      drawn.push(svg("text", { x: at, y: 16, "text-anchor": "middle", class: "nbws-p-lane" }, label));
      drawn.push(svg("line", { x1: at, x2: at, y1: 24, y2: height - 4, class: "nbws-p-life" }));
    }
    last.forEach((line, index) => {
      const y = top + index * step + 10;
      for (const id of line.who.filter((each) => lanes.includes(each))) {
        const to = line.kind === "received" || line.kind === "opened" || line.kind === "closed" ? [x(id), appAt] : [appAt, x(id)];
        const dash = line.kind === "opened" || line.kind === "closed" ? { "stroke-dasharray": "3 3" } : {};
        drawn.push(svg("line", { x1: to[0], x2: to[1], y1: y, y2: y, class: `nbws-p-arrow ${line.error ? "nbws-p-failed" : ""}`, ...dash }));
        const tip = to[1], back = Math.sign(to[0] - to[1]) * 7;
        drawn.push(svg("path", { d: `M${tip} ${y}l${back} -4v8z`, class: `nbws-p-tip ${line.error ? "nbws-p-failed" : ""}` }));
      }
      const label = line.kind === "received" || line.kind === "sent" ? plain(line.text) : words[line.kind];
      const at = line.who.find((each) => lanes.includes(each));
      if (at) drawn.push(svg("text", { x: (appAt + x(at)) / 2, y: y - 4, "text-anchor": "middle" }, svg("title", {}, line.text || label), clip(label, Math.floor((lanes.indexOf(at) + 1) * gap / 6.4))));
    });
    const words_ = last.map((line) => `${who(line)} ${words[line.kind]}: ${plain(line.text)}`).join("; ");
    pages.diagram.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `The last ${last.length} messages: ${clip(words_, 600)}` }, ...drawn));
  }

  /* -- connections */
  const table = (titles, body) => make("table", {}, make("thead", {}, make("tr", {}, titles.map((title) => make("th", { scope: "col" }, title || make("span", { class: "nbws-p-unseen" }, "what can be done"))))), make("tbody", {}, body));
  const cell = (label, ...children) => make("td", { "data-label": label }, ...children);
  const composer = make("form", { class: "nbws-p-composer", hidden: true });
  let composing = null;
  function compose(id) {
    composing = id;
    const text = make("textarea", { rows: "2", "aria-label": "A fragment of HTML", placeholder: '<p id="note" hx-swap-oob="true">hello</p>' });
    composer.hidden = false;
    composer.replaceChildren(make("label", {}, `A fragment for ${id ? short(id) : "all"}`, text), button("send", () => {
      tell({ do: "send", connection: composing, html: text.value });
    }), button("cancel", () => { composer.hidden = true; }));
    text.focus();
  }
  const connections = make("div");
  pages.connections.append(make("div", { class: "nbws-p-tools" }, button("send to all", () => compose(null))), composer, connections);
  function drawConnections() {
    const found = parts.connections;
    redrawn(connections, found.length ? table(["id", "path", "since", "in", "out", "outbox", "version", "rooms", ""], found.map((each) => make("tr", { "data-state": each.state, "data-of": each.id },
      cell("id", make("code", { title: each.id }, short(each.id)), each.state === "open" ? "" : ` ${each.state}`), cell("path", make("code", {}, each.path)),
      cell("since", each.since ? time(each.since) : ""), cell("in", each.received ?? ""), cell("out", each.sent ?? ""), cell("outbox", size(each.outbox)),
      cell("version", each.version ? `v${each.version}${each.pinned ? " (pinned)" : ""}` : "retired"), cell("rooms", each.rooms.join(", ")),
      cell("", button("send", () => compose(each.id), { "aria-label": `send to ${short(each.id)}` }), " ", button("close", () => tell({ do: "close", connection: each.id }), { "aria-label": `close ${short(each.id)}` })),
    ))) : make("p", { class: "nbws-p-quiet" }, "Nobody is connected."));
    if (parts.app.connections > found.length) connections.append(make("p", { class: "nbws-p-quiet" }, `and ${parts.app.connections - found.length} more, which came earlier`));
  }
  /* What is drawn anew under somebody's keyboard: the button that had the focus has it again. */
  function redrawn(element, ...children) {
    const active = element.getRootNode().activeElement, held = element.contains(active) ? keyOf(active) : null;
    if (held && active.dataset.sure) return;
    element.replaceChildren(...children);
    if (held) [...element.querySelectorAll("button, summary")].find((each) => keyOf(each) === held)?.focus({ preventScroll: true });
  }
  function keyOf(element) {
    const of = element.closest("[data-of]");
    return `${of ? of.dataset.of : ""}/${element.getAttribute("aria-label") || element.textContent}`;
  }

  /* -- endpoints */
  const endpoints = make("div"), shown = make("div", { class: "nbws-p-shown", hidden: true });
  pages.endpoints.append(shown, endpoints);
  const opened = new Set();
  function show(title, content) {
    shown.hidden = false;
    shown.replaceChildren(make("div", { class: "nbws-p-tools" }, make("strong", {}, title), button("close", () => { shown.hidden = true; })), content);
    shown.scrollIntoView({ block: "nearest" });
  }
  async function diff(name, old, now) {
    const answer = await tell({ do: "diff", endpoint: name, old, new: now });
    if (answer.text === undefined) return;
    const drawn = answer.text.split("\n").map((line) => make(line[0] === "+" ? "ins" : line[0] === "-" ? "del" : "span", {}, `${line}\n`));
    show(`${name}: what v${now} has changed`, make("pre", {}, answer.text ? drawn : "the same text"));
  }
  async function replay(name) {
    say("running the last messages again …", false);
    const answer = await tell({ do: "replay", endpoint: name, count: 5 });
    if (answer.html === undefined) return;
    said.hidden = true;
    const box = make("div", {});
    box.innerHTML = answer.html;  // of the Python side, which has escaped what was said
    show(`${name}: the last messages on the live version`, box);
  }
  function drawEndpoints() {
    redrawn(endpoints, ...(parts.endpoints.length ? parts.endpoints.map((each) => {
      const live = each.history[each.history.length - 1], isSocket = each.method === "WS";
      const versions = [...each.history].reverse().map((version, index) => make("tr", {},
        cell("version", make("strong", {}, `v${version.number}`), version.of ? ` (code of v${version.of})` : ""), cell("since", time(version.at)), cell("messages", version.messages), cell("errors", version.errors || ""), cell("running", version.running || ""),
        cell("", index < each.history.length - 1 ? button("diff", () => diff(each.name, each.history[each.history.length - 2 - index].number, version.number), { "aria-label": `what v${version.number} has changed` }) : "", " ", index ? button("roll back", () => tell({ do: "rollback", endpoint: each.name, to: version.number }), { "aria-label": `roll back to v${version.number}` }) : ""),
      ));
      const details = make("details", { open: opened.has(each.name), ontoggle: (event) => opened[event.target.open ? "add" : "delete"](each.name) }, make("summary", {}, number(each.history.length, "version")), table(["version", "since", "messages", "errors", "running", ""], versions));
      return make("article", { "data-of": each.name }, make("div", { class: "nbws-p-tools" },
        make("strong", {}, make("code", {}, `${each.method} ${each.path}`)), make("span", { class: "nbws-p-badge" }, `v${live.number}`),
        make("span", { class: "nbws-p-quiet" }, [number(live.messages, isSocket ? "message" : "request"), live.errors && number(live.errors, "error")].filter(Boolean).join(", ")),
        isSocket ? button("retry", () => tell({ do: "retry", endpoint: each.name }), { title: "Run the message that failed last again" }) : null,
        isSocket ? button("replay", () => replay(each.name), { title: "Run the last messages again, on shadows of their connections" }) : null,
        sure("retire", () => tell({ do: "retire", endpoint: each.name })),
      ), each.stale.length ? make("p", { class: "nbws-p-error" }, `reads what is stale: ${each.stale.join("; ")}`) : null, details);
    }) : [make("p", { class: "nbws-p-quiet" }, "Nothing is defined yet.")]));
  }

  /* -- errors, and what handlers printed */
  const drawnErrors = new Map();
  function drawErrors() {
    if (!parts.errors.length) { drawnErrors.clear(); return pages.errors.replaceChildren(make("p", { class: "nbws-p-quiet" }, "No handler has failed.")); }
    const known = new Map(drawnErrors);
    drawnErrors.clear();
    for (const error of parts.errors) drawnErrors.set(error.id, known.get(error.id) || drawError(error));
    pages.errors.replaceChildren(...[...drawnErrors.values()].reverse());
  }
  function drawError(error) {
    const text = make("pre", {}, "…");
    const open = async (event) => {
      if (!event.target.open || text.dataset.read) return;
      const answer = await ask({ do: "traceback", error: error.id });
      text.dataset.read = "1";
      text.textContent = answer.text || answer.problem;
    };
    return make("details", { ontoggle: open }, make("summary", {}, make("time", {}, time(error.at)), " ", make("span", { class: "nbws-p-error" }, error.title)), text);
  }
  function drawOutput() {
    const box = pages.output, isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    box.replaceChildren(parts.said.length ? make("pre", {}, parts.said.flatMap(({ path, who, text }) => [make("b", { title: who }, `${path} ${who.replace(/(· \w{4})\w+$/, "$1")}  `), text])) : make("p", { class: "nbws-p-quiet" }, "No handler has printed anything."));
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }

  choose("messages");
  return {
    draw,
    seen: () => ({ parts: { ...digests }, log: newest, open: lines.filter((line) => !line.finished).slice(-40).map((line) => line.number) }),
    lost: (isLost) => { root.dataset.lost = isLost; if (isLost && parts.app) { parts.app.url = null; drawHead(); delete digests.app; } },
  };
}
