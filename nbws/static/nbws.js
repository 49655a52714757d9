/* The page's own script. In every page: it takes credentials out of the address bar, before htmx reads it. While its
   author works on it: it changes the page in place when its code does. In a preview: it tells the notebook how high the
   page is, how its websockets are and which versions are live. */
(() => {
  "use strict";
  const own = document.currentScript;
  const root = own.dataset.root || "";

  const url = new URL(location.href);
  /* What frames the page hears what goes on in it, tracebacks and all, if it knows the ticket that the page, or one
     before it in this tab, was opened with: any page of another port could frame it too. */
  const tickets = new Set();
  try { JSON.parse(sessionStorage.getItem("nbws-tickets") || "[]").forEach((each) => tickets.add(each)); } catch { }
  if (own.hasAttribute("data-knows-ticket")) {
    url.searchParams.getAll("nbws-ticket").forEach((each) => tickets.add(each));
    try { sessionStorage.setItem("nbws-tickets", JSON.stringify([...tickets].slice(-20))); } catch { }
  }
  const credentials = ["nbws-ticket", ...(own.hasAttribute("data-strips-token") ? ["token"] : [])];
  if (credentials.some((name) => url.searchParams.has(name))) {
    credentials.forEach((name) => url.searchParams.delete(name));
    history.replaceState(history.state, "", url);
  }

  /* -- a server that restarts is back soon: look for it every few seconds, where htmx waits for up to a minute */
  document.addEventListener("DOMContentLoaded", () => {
    const config = window.htmx && window.htmx.config;
    if (config && config.wsReconnectDelay === "full-jitter") {
      config.wsReconnectDelay = (tries) => Math.min(250 * 2 ** tries, 3000) * (0.5 + Math.random() / 2);
    }
    if (window.htmx && window.htmx.createWebSocket) window.htmx.createWebSocket = connect;
  });

  /* -- a websocket that was cut off goes on where it was: both sides count what they have received, and send again what
     the other has missed. Where the server cannot, the page is fetched anew. */
  const MARK = "\0nbws", COMES_BACK = [1006, 1011, 1012, 1013], KEPT = 256, KEPT_CHARACTERS = 1 << 20, ACKNOWLEDGED = 32;
  const cutOff = new Map();  // address -> what was said on the sockets to it that are to come back
  function connect(url) {
    const address = new URL(url, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const waiting = cutOff.get(address.href) || [];
    const said = waiting.shift() || { key: "", received: 0, sent: 0, log: [], size: 0, held: [] };
    const place = address.href;
    address.searchParams.set("nbws-resume", said.key && `${said.key}.${said.received}`);
    const socket = new WebSocket(address);
    socket.binaryType = window.htmx.config.wsBinaryType;
    const transmit = socket.send.bind(socket);
    let greeted = false, late = null;  // what came while the page was fetched anew
    const keep = (data) => {
      said.sent += 1;
      said.log.push(data);
      said.size += data.length || 0;
      while (said.log.length > KEPT || said.size > KEPT_CHARACTERS) said.size -= said.log.shift().length || 0;
    };
    socket.send = (data) => {
      if (!greeted) return void said.held.push(data);
      keep(data);
      transmit(data);
    };
    const greet = ({ key, got, resync }) => {
      if (said.key === key) {
        const missed = Math.min(said.sent - got, said.log.length);
        for (const data of said.log.slice(said.log.length - missed)) transmit(data);
      } else {
        Object.assign(said, { key, received: 0, sent: 0, log: [], size: 0 });
      }
      greeted = true;
      for (const data of said.held.splice(0)) socket.send(data);
      if (!resync) return;
      late = [];
      fetchAnew().then(() => {
        const events = late;
        late = null;
        for (const data of events) socket.dispatchEvent(Object.assign(new MessageEvent("message", { data }), { again: true }));
      });
    };
    socket.addEventListener("message", (event) => {
      if (event.again) return;
      if (typeof event.data === "string" && event.data.startsWith(MARK)) {
        event.stopImmediatePropagation();
        return greet(JSON.parse(event.data.slice(MARK.length)));
      }
      said.received += 1;
      if (said.received % ACKNOWLEDGED === 0) transmit(MARK + said.received);
      if (late) {
        event.stopImmediatePropagation();
        late.push(event.data);
      }
    });
    socket.addEventListener("close", ({ code }) => {
      if (COMES_BACK.includes(code)) cutOff.set(place, [...(cutOff.get(place) || []), said]);
    });
    return socket;
  }

  let fetching = null;
  function fetchAnew() {
    fetching = fetching || (async () => {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (answer.ok && (answer.headers.get("content-type") || "").includes("html")) {
        await change({ old: null, new: await answer.text() });
      }
      document.dispatchEvent(new CustomEvent("nbws:resync"));
    })().catch((error) => console.warn("nbws: the page could not be fetched anew", error)).finally(() => { fetching = null; });
    return fetching;
  }

  /* -- the state of the page's websockets, for the line over the preview */
  const sockets = new Map();  // element -> {path, state}
  const note = (state) => (event) => {
    if (state === "connecting" && window.htmx && window.htmx.createWebSocket.isNone) return;
    const wrapper = event.detail && event.detail.event;
    const target = wrapper && wrapper.target;
    const known = sockets.get(event.target) || {};
    const path = target && target.url ? new URL(target.url).pathname : known.path || connectPath(event.target);
    sockets.set(event.target, { path, state });
    tell();
  };
  function connectPath(element) {
    const given = element.getAttribute && (element.getAttribute("ws-connect") || element.getAttribute("data-ws-connect"));
    return given ? new URL(given, location.href).pathname : null;
  }
  document.addEventListener("htmx:wsConnecting", note("connecting"));
  document.addEventListener("htmx:wsOpen", note("connected"));
  document.addEventListener("htmx:wsClose", (event) => {
    const code = event.detail && event.detail.event && event.detail.event.code;
    note(COMES_BACK.includes(code) ? "reconnecting" : "closed")(event);
  });

  /* -- the notebook around the page; it speaks first */
  let notebook = null;
  let live = null;  // what the feed said last
  let lost = false, ended = false;
  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || window.parent === window || !event.data || event.data.nbws !== "frame") return;
    if (!tickets.has(event.data.ticket)) return;
    const first = !notebook;
    notebook = event.origin;
    if (first) { measure(); keepFocus(); }
    if (event.data.focus) refocus();
    document.documentElement.dataset.theme = event.data.dark ? "dark" : "light";
    tell();
  });

  /* The height that shows the whole page, with the scrollbar of one that is too wide; 0 while it is not known. */
  function pageHeight() {
    const html = document.documentElement, body = document.body;
    if (!body || document.readyState === "loading") return 0;
    const view = document.scrollingElement || html;
    const content = Math.max(html.getBoundingClientRect().height, body.getBoundingClientRect().bottom + window.scrollY);
    const overflow = view.scrollHeight > view.clientHeight ? view.scrollHeight : 0;
    return Math.ceil(Math.max(content, overflow)) + window.innerHeight - view.clientHeight;
  }

  let queued = false;
  function tell() {
    if (!notebook || queued) return;
    queued = true;
    queueMicrotask(() => {  // no animation frame: there is none for a frame of another site that is off screen
      queued = false;
      for (const element of sockets.keys()) if (!element.isConnected) sockets.delete(element);
      window.parent.postMessage({
        nbws: "page", path: location.pathname, height: pageHeight(), room: window.innerHeight, sockets: [...sockets.values()],
        live: ended || lost ? null : live, lost,
      }, notebook);
    });
  }

  /* -- the focus: code that runs in the notebook may take it from a field in which somebody is typing */
  let field = null;
  let leaves = false;  // with the Tab key, which must lead out of the page
  function keepFocus() {
    const say = (what) => window.parent.postMessage({ nbws: what }, notebook);
    let touched = false;  // since it got the focus
    const touch = (event) => { if (event.isTrusted && !touched) { touched = true; say("touch"); } };
    ["pointerdown", "keydown"].forEach((kind) => window.addEventListener(kind, touch, true));
    document.addEventListener("keydown", (event) => { leaves = event.key === "Tab"; }, true);
    document.addEventListener("focusin", (event) => { field = event.target; leaves = false; });
    document.addEventListener("focusout", () => setTimeout(() => { if (document.hasFocus() && !focused()) field = null; }));
    window.addEventListener("blur", () => { touched = false; if (field && !leaves) say("blur"); });
    window.addEventListener("focus", () => { say("focus"); refocus(); });
    if (document.hasFocus()) say("focus");
    field = focused();
  }
  const focused = () => (document.activeElement !== document.body ? document.activeElement : null);
  function refocus() {
    if (field && field.isConnected && !focused()) field.focus({ preventScroll: true });
  }

  function measure() {
    const watched = new ResizeObserver(tell);
    watched.observe(document.documentElement);
    whenReady(() => { watched.observe(document.body); tell(); });
    window.addEventListener("load", tell);
    window.addEventListener("resize", tell);
  }

  function whenReady(act) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", act);
    else act();
  }

  /* -- while its author works on it: what is live, and the page as its code makes it now */
  function listen() {
    let stream = null;
    const open = () => {
      if (stream && stream.readyState !== EventSource.CLOSED) return;
      ended = false;
      const at = location.pathname.slice(root.length) + location.search;
      stream = new EventSource(`${root}/_nbws/feed?page=${own.dataset.page}&at=${encodeURIComponent(at)}`);
      stream.onmessage = (event) => { live = JSON.parse(event.data); lost = false; tell(); overlay(); };
      stream.onerror = () => { lost = true; tell(); };
      stream.addEventListener("page", (event) => change(JSON.parse(event.data)));
      // Another preview took the place of this one; it gets it back when the author comes near.
      stream.addEventListener("end", () => { ended = true; stream.close(); });
    };
    open();
    window.addEventListener("pointerenter", open);
    document.addEventListener("pointerover", open);
    document.addEventListener("focusin", open);
    window.addEventListener("pagehide", () => stream.close());
    window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  }

  /* In a tab there is no output around the page to show errors in, so they lie over it: in a shadow, outside the body,
     so that neither the author's styles nor changes of the page touch them. */
  const dismissed = new Set();
  let host = null;
  function overlay() {
    if (window.parent !== window) return;
    const errors = live.errors.filter(({ id }) => !dismissed.has(id));
    const notices = live.notices.filter(({ id }) => !dismissed.has(id));
    if (host) host.remove();
    if (!errors.length && !notices.length) return host = null;
    host = document.createElement("nbws-errors");
    const make = (tag, text, ...children) => {
      const element = document.createElement(tag);
      element.textContent = text;
      element.append(...children);
      return element;
    };
    const button = make("button", "dismiss");
    button.onclick = () => { [...errors, ...notices].forEach(({ id }) => dismissed.add(id)); overlay(); };
    host.attachShadow({ mode: "open" }).append(
      make("style", `:host { position: fixed; inset: auto 0 0 0; z-index: 2147483647; max-height: 50vh; overflow: auto; padding: .6rem 1rem;
        background: #1d2229; color: #e4e7ec; border-top: 3px solid #e5534b; font: 13px/1.45 system-ui, sans-serif }
        pre { margin: .3rem 0; overflow: auto; font: 12px/1.45 ui-monospace, monospace } summary { cursor: pointer }
        p { margin: .2rem 0 } button { float: right; font: inherit; color: inherit; background: none; border: 0; cursor: pointer }`),
      button, ...notices.map(({ text }) => make("p", text)),
      ...errors.reverse().map(({ title, message, text, times }) =>
        make("details", "", make("summary", times > 1 ? `${title} (${times} times)` : title), make("pre", `message: ${message}\n${text}`))));
    host.setAttribute("role", "log");
    document.documentElement.append(host);
  }

  let read = null;  // the elements that the page consisted of when it had been read
  let changing = Promise.resolve();
  function change(said) {
    return changing = changing.then(async () => {
      await new Promise(whenReady);
      for (const file of window.nbwsMorph ? [] : ["idiomorph.min.js", "morph.js"]) await load(file);
      const digest = window.nbwsMorph(said, read);
      if (digest) own.dataset.page = digest;
      for (const element of sockets.keys()) if (!element.isConnected) leave(element);
      tell();
    }).catch((error) => console.error("nbws: the page could not be changed in place; reload it", error));
  }
  const load = (file) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${root}/_nbws/static/${file}`;
    script.onerror = reject;
    script.onload = () => { script.remove(); resolve(); };
    document.head.append(script);
  });
  function leave(element) {
    const data = element["htmx-internal-data"];
    if (data && data.webSocket) data.webSocket.close();
    sockets.delete(element);
  }

  if (own.dataset.page) {
    whenReady(() => { read = [...document.body.querySelectorAll("*")]; });
    listen();
  }
  if (window.parent !== window) window.parent.postMessage({ nbws: "hello" }, "*");
})();
