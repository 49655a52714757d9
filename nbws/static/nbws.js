/* The page's own script. In every page: it takes credentials out of the address bar, before htmx reads it. While its
   author works on it: it changes the page in place when its code does. In a preview: it tells the notebook how high the
   page is, how its websockets are and which versions are live. */
(() => {
  "use strict";
  const own = document.currentScript;
  const root = own.dataset.root || "";
  const here = window.nbwsHere || location;  // where the page takes itself to be; in a page of docs its own address says nothing

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
  });

  /* -- a websocket that was cut off goes on where it was: both sides count what they have received, and send again what
     the other has missed. Where that is not possible, the page is fetched anew. */

  /* In place of the ws extension's own as soon as that is there, so that what an author sets stays. */
  document.addEventListener("load", function takeOver({ target }) {
    if (target.tagName !== "SCRIPT" || !window.htmx || !window.htmx.createWebSocket) return;
    document.removeEventListener("load", takeOver, true);
    window.htmx.createWebSocket = connect;
  }, true);

  const MARK = "\0nbws", COMES_BACK = [1006, 1011, 1012, 1013], KEPT = 256, KEPT_CHARACTERS = 1 << 20, ACKNOWLEDGED = 32;
  // Milliseconds: without a word until the server is asked, for its answer, and until one that does not greet is another's.
  const SILENT = 20000, PATIENCE = 10000, GREETS = 1000;
  const conversations = new WeakMap();  // socket -> what was said on it and on those before it
  const served = new Set();  // sockets on which the server has greeted
  const others = new Set();  // addresses at which something else serves: an app that is mounted, say
  let continued = null;  // the conversation with which the next socket goes on

  function connect(url) {
    const address = new URL(url, window.nbwsHere || document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const place = address.href;
    if (address.host !== location.host || others.has(place)) return asItIs(new WebSocket(address));
    const said = continued && continued.place === place ? continued
      : { place, key: "", received: 0, sent: 0, log: [], size: 0, held: [], late: null, left: [] };
    address.searchParams.set("nbws-resume", said.key && `${said.key}.${said.received}`);
    const socket = said.socket = asItIs(new WebSocket(address));
    conversations.set(socket, said);
    const transmit = socket.send.bind(socket);
    let maySpeak = false, isOther = false, isLeft = false, asked = null, heard = 0;

    const drop = () => { said.size -= said.log.shift().length || 0; };
    socket.send = (data) => {
      // While the page is fetched anew, the answer would be taken for a part of it.
      if (!maySpeak || said.late) return void said.held.push(data);
      said.sent += 1;
      said.log.push(data);
      said.size += data.length || 0;
      while (said.log.length > KEPT || said.size > KEPT_CHARACTERS) drop();
      transmit(data);
      if (isOther) return;
      if (said.sent % ACKNOWLEDGED === 0 || said.size > KEPT_CHARACTERS / 4) transmit(`${MARK}${said.received}?`);
    };
    const acknowledge = (got) => { while (said.log.length > said.sent - got) drop(); };
    const speak = () => {
      maySpeak = true;
      sendHeld(said);
    };
    const isAnothers = () => {
      if (maySpeak || said.key || socket.readyState !== WebSocket.OPEN) return;
      isOther = true;
      speak();
    };
    const greet = ({ key, got, resync }) => {
      let isWhole = !resync;
      if (isOther) {  // it was only slow
        isOther = false;
        said.key = key;
      } else if (said.key === key) {
        isWhole = said.log.length >= said.sent - got;
        acknowledge(got);
        said.log.forEach((data) => transmit(data));
      } else {
        Object.assign(said, { key, received: 0, sent: 0, log: [], size: 0 });
      }
      served.add(socket);
      for (const old of said.left.splice(0)) old.close();
      if (!isWhole) resynchronise(said);
      speak();
    };
    socket.addEventListener("message", (event) => {
      if (event.again) return;
      if (isLeft) return event.stopImmediatePropagation();  // it comes again
      [heard, asked] = [performance.now(), null];
      if (typeof event.data === "string" && event.data.startsWith(MARK)) {
        event.stopImmediatePropagation();
        const told = JSON.parse(event.data.slice(MARK.length));
        return told.key ? greet(told) : acknowledge(told.got);
      }
      if (!said.key) {
        others.add(place);
        return isAnothers();
      }
      said.received += 1;
      if (said.received % ACKNOWLEDGED === 0) transmit(MARK + said.received);
      if (said.late) {
        event.stopImmediatePropagation();
        said.late.push([said.received, event.data]);
      }
    });
    socket.addEventListener("close", (event) => {
      if (isLeft) return event.stopImmediatePropagation();
      served.delete(socket);
      if (!COMES_BACK.includes(event.code)) conversations.delete(socket);
    });

    /* A cable that was pulled closes nothing, so a server that has long been silent is asked whether it is there. */
    socket.askWhether = (isUrgent) => {
      if (asked || socket.readyState !== WebSocket.OPEN || !isUrgent && performance.now() - heard < SILENT) return;
      const mine = asked = {};
      transmit(`${MARK}${said.received}?`);
      setTimeout(() => asked === mine && leaveAlone(), PATIENCE);
    };
    /* To htmx it was cut. It is not closed before another one is there: should the server still hear it, it would take
       that for a goodbye. */
    const leaveAlone = () => {
      if (socket.readyState === WebSocket.CONNECTING) socket.close();
      if (socket.readyState !== WebSocket.OPEN) return;
      Object.defineProperty(socket, "readyState", { value: WebSocket.CLOSED });
      said.left.push(socket);
      socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
      isLeft = true;
    };
    socket.addEventListener("open", () => setTimeout(isAnothers, GREETS));
    setTimeout(() => maySpeak || leaveAlone(), SILENT);
    return socket;
  }
  function asItIs(socket) {
    socket.binaryType = window.htmx.config.wsBinaryType;
    return socket;
  }
  const askAll = (isUrgent) => served.forEach((socket) => socket.askWhether(isUrgent));
  setInterval(() => askAll(false), SILENT / 4);
  window.addEventListener("online", () => askAll(true));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) askAll(true); });

  /* Two elements may have the same address, so what goes on is told by the element: by htmx's wrapper of its socket. */
  document.addEventListener("htmx:wsClose", ({ target }) => {
    const wrapper = (target["htmx-internal-data"] || {}).webSocket;
    if (!wrapper || wrapper.goesOn) return;
    const init = wrapper.init;
    wrapper.goesOn = true;
    wrapper.init = () => {
      continued = wrapper.socket.readyState === WebSocket.OPEN ? null : conversations.get(wrapper.socket);
      try { init.call(wrapper); } finally { continued = null; }
    };
    wrapper.publicInterface.reconnect = wrapper.init;
  });

  /* What comes meanwhile waits, and goes where the page has it already: the server says how much was sent before. */
  const sendHeld = (said) => { for (const data of said.held.splice(0)) said.socket.send(data); };
  function resynchronise(said) {
    said.late = [];
    const fetched = said.fetched = fetchAnew(said);
    fetched.then((sent) => {
      if (said.fetched !== fetched) return;  // another one is on its way
      const events = said.late.filter(([number]) => number > (sent.get(said.key) || 0));
      said.late = null;
      for (const [, data] of events) said.socket.dispatchEvent(Object.assign(new MessageEvent("message", { data }), { again: true }));
      sendHeld(said);
    });
  }

  let following = null, last = Promise.resolve();
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  function fetchAnew(said) {
    following = following || { of: [] };
    const { of } = following;
    of.push(said);
    following.done = following.done || (last = last.then(async () => {
      await pause(50);  // in which the page's other sockets are back; one that comes later needs a later page
      following = null;
      const keys = of.map(({ key }) => key), sent = new Map();
      try {
        const answer = await fetchPage(keys);
        const isPage = answer !== null && answer.ok && (answer.headers.get("content-type") || "").includes("html");
        if (isPage) {
          await change({ old: null, new: await answer.text() });
          (answer.headers.get("nbws-sent") || "").split(",").forEach((number, n) => sent.set(keys[n], Number(number)));
        } else {
          console.warn("nbws: the page could not be fetched anew; reload it");
        }
        document.dispatchEvent(new CustomEvent("nbws:resync", { detail: { fetched: isPage } }));
      } catch (error) {
        console.warn("nbws: the page could not be fetched anew; reload it", error);
      }
      return sent;
    }));
    return following.done;
  }
  async function fetchPage(keys) {
    for (const wait of [1000, 3000, 0]) {
      const headers = { "nbws-resync": keys.join() };
      const answer = await fetch(location.href, { cache: "no-store", headers, signal: AbortSignal.timeout(5000) }).catch(() => null);
      if (answer || !wait) return answer;
      await pause(wait);
    }
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
    return given ? new URL(given, here.href).pathname : null;
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
        nbws: "page", path: here.pathname, height: pageHeight(), room: window.innerHeight, sockets: [...sockets.values()],
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
      const at = here.pathname.slice(root.length) + here.search;
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
