/* *Run it here*: the page's half. It loads the app into a web worker, opens clients of it in frames, and lets the reader
   edit cells and run them. `nbwsRunHere(element, {base, cells, clients, path, ready})` fills *element*:

     base     where the folder of nbws.docs_pyodide.collect is
     cells    [{id, source, tags}], in the order in which they are run; one that is tagged `raises-exception` may fail
     clients  how many frames show the page at `path`, at the least; a cell that shows the app says where, and may ask for more
     app      the number of the app that they show, and nothing of what cells show; null is what the notebook shows
     ready    start at once, without a button
     stopped  called when the reader wants to be back at what the page shows without it

   and gives {start, stop, host}, which is `element.nbwsRun` as well. A frame is a document of its own that has no server: what it fetches, posts and opens as a
   websocket is handed to the worker, and nothing goes over the network. */
(() => {
  "use strict";

  const STAGES = {
    worker: "Starting a worker…",
    python: "Loading Python…",
    packages: "Unpacking the packages…",
    nbws: "Starting nbws…",
  };
  const PREVIEW = "application/vnd.nbws.preview+json";
  const HOST = "http://testserver";  // what the app takes itself to be at, as in its tests
  const KEPT_LINES = 200, LINES = 24;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  /* -- the worker: messages out, and each answer to who has asked */

  class Host {
    constructor(base, on) {
      this.on = on;
      this.waiting = new Map();  // id -> what takes the answers
      this.number = 0;
      this.begin(base).catch((error) => on.failed(`${error && error.message || error}`));
    }
    async begin(base) {
      const files = location.protocol === "file:" ? await filesOf(base) : null;
      if (this.stopped) return;
      const script = files ? URL.createObjectURL(new Blob([files["inpage-worker.js"]], { type: "text/javascript" })) : new URL("inpage-worker.js", base);
      this.worker = new Worker(script, { type: files ? "classic" : "module" });
      this.worker.onmessage = ({ data }) => this.take(data);
      this.worker.onerror = (event) => this.on.failed(event.message || "its worker could not be loaded");
      this.worker.postMessage({ begin: base.href, files: files && files.gzipped });
    }
    take({ stage, failed, text, bytes }) {
      if (failed) return this.on.failed(failed);
      if (stage) return this.on.stage(stage);
      const message = JSON.parse(text);
      if (bytes) message.data = bytes;
      const asker = this.waiting.get(message.id);
      if (message.id === undefined) return this.on[message.kind](message);
      if (message.kind === "end" || message.kind === "closed") this.waiting.delete(message.id);
      if (asker) asker(message);
    }
    tell(message, bytes) {
      if (this.worker) this.worker.postMessage({ text: JSON.stringify(message), bytes });
    }
    ask(message, bytes, take) {
      const id = ++this.number;
      this.waiting.set(id, take);
      this.tell({ ...message, id }, bytes);
      return id;
    }
    /* A request of *client*. Gives {status, headers, url, body}, the last a stream; aborted by *signal*. */
    request(client, { method = "GET", path, headers = [], data = null, signal = null }) {
      return new Promise((resolve, reject) => {
        let stream, over = false;
        const abort = () => {
          if (over) return;
          over = true;
          this.waiting.delete(id);
          this.tell({ kind: "abort", id });
          const reason = signal && signal.reason || new DOMException("aborted", "AbortError");
          if (stream) { try { stream.error(reason); } catch { } }
          reject(reason);
        };
        const body = new ReadableStream({ start: (controller) => { stream = controller; }, cancel: abort });
        const id = this.ask({ kind: "request", ...client, method, path, headers }, data, (message) => {
          if (over) return;
          if (message.kind === "head") resolve({ status: message.status, headers: message.headers, url: message.url, body });
          else if (message.kind === "body") stream.enqueue(message.data);
          else { over = true; stream.close(); }
        });
        if (signal) {
          if (signal.aborted) abort();
          else signal.addEventListener("abort", abort);
        }
      });
    }
    stop() {
      this.stopped = true;
      if (this.worker) this.worker.terminate();
      this.worker = null;
      for (const [id, take] of this.waiting) take({ kind: "closed", id, code: 1001, reason: "" });
      this.waiting.clear();
    }
  }

  /* A page that was opened as a file may load scripts and nothing else, so all that runs is in one: the worker's own script
     as text, and files gzipped, in base64. */
  async function filesOf(base) {
    if (!window.nbwsRunHereFiles) {
      await new Promise((resolve, reject) => {
        const wrong = () => reject(new Error("this page was opened as a file, and it was not built for that. Serve its folder, "
          + "with `python -m http.server`, and open it at http://localhost:8000, or build it with run-here.js"));
        document.head.append(make("script", { src: new URL("run-here.js", base).href, onload: resolve, onerror: wrong }));
      });
    }
    const { worker, gzipped } = window.nbwsRunHereFiles;
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return { "inpage-worker.js": worker, gzipped: Object.fromEntries(Object.entries(gzipped).map(([name, text]) => [name, bytes(text)])) };
  }

  /* Server-sent events: *take* is given (name, data, id) of each. */
  async function readEvents(body, take) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        let name = "message", id = "";
        const data = [];
        for (const line of part.split(/\r?\n/)) {
          const [, field, text] = /^([^:]*):? ?(.*)$/.exec(line);
          if (field === "event") name = text;
          else if (field === "data") data.push(text);
          else if (field === "id") id = text;
        }
        if (data.length) take(name, data.join("\n"), id);
      }
    }
  }

  /* -- a client: a frame whose document has the app behind it */

  const blobs = new WeakMap();  // host -> path -> promise of a blob's address

  class Frame {
    constructor(host, app, path, number, onsocket) {
      Object.assign(this, { host, app, number, onsocket, here: new URL(path, HOST), sockets: new Set(), document: new AbortController() });
      this.client = { client: `client ${number}`, app };
      this.path = make("code", {}, path);
      this.state = make("span", { class: "nbws-run-socket" });
      const again = make("button", { type: "button", title: "Load this client's page again", onclick: () => this.go(this.here) }, "reload");
      this.frame = make("iframe", { title: `Client ${number}`, allow: "clipboard-write" });
      Object.assign(this, { address: HOST, readEvents });
      this.frame.nbws = this;
      this.element = make("figure", { class: "nbws-run-client" },
        make("figcaption", {}, make("b", {}, `Client ${number}`), " ", this.path, this.state, again), this.frame);
      this.go(this.here);
    }

    /* Show the page at *url* of the app. */
    async go(url, { method = "GET", headers = [], data = null } = {}) {
      if (url.origin !== HOST) return void window.open(url, "_blank", "noopener");
      const turn = this.turn = {};
      const accept = [["accept", "text/html,application/xhtml+xml,*/*;q=0.8"], ...headers];
      const path = url.pathname + url.search;
      const answer = await this.host.request(this.client, { method, path, headers: accept, data }).catch(() => null);
      if (!answer || turn !== this.turn) return;
      const elsewhere = answer.headers.find(([name]) => name === "location");
      if (elsewhere) return void window.open(elsewhere[1], "_blank", "noopener");
      const response = new Response(answer.body);
      const type = (answer.headers.find(([name]) => name === "content-type") || ["", "text/plain"])[1];
      const text = type.includes("html") ? await this.prepared(await response.text())
        : `<!doctype html><meta charset="utf-8"><pre>${(await response.text()).replace(/[&<]/g, (c) => c === "&" ? "&amp;" : "&lt;")}</pre>`;
      if (turn !== this.turn) return;
      this.leave();
      this.here = new URL(answer.url + url.hash, HOST);
      this.path.textContent = this.here.pathname + this.here.search;
      this.frame.srcdoc = text;
    }

    /* *html* with what it loads from the app as blobs, and with what stands in for the network before all its scripts. */
    async prepared(html) {
      const page = new DOMParser().parseFromString(html, "text/html");
      const parts = [...page.querySelectorAll("script[src], link[href], img[src], source[src], video[src], audio[src]")];
      await Promise.all(parts.map(async (element) => {
        const name = element.hasAttribute("src") ? "src" : "href";
        const path = this.pathOf(element.getAttribute(name));
        const blob = path && await this.blob(path);
        if (blob) element.setAttribute(name, blob);
      }));
      const script = page.createElement("script");
      script.textContent = `(${standIn})(frameElement.nbws); document.currentScript.remove();`;
      page.head.prepend(script);
      return `<!doctype html>\n${page.documentElement.outerHTML}`;
    }

    /* The path in the app that *address* stands for; null where it is elsewhere. */
    pathOf(address) {
      if (address === null || address === undefined) return null;
      let url;
      try { url = new URL(address, this.here); } catch { return null; }
      const ours = url.origin === HOST || url.origin === location.origin && url.protocol.startsWith("http")
        || url.host === location.host && url.protocol.startsWith("ws") || url.protocol === "ws:" && url.host === "testserver";
      return ours ? url.pathname + url.search : null;
    }

    blob(path) {
      const known = blobs.get(this.host) || blobs.set(this.host, new Map()).get(this.host);
      if (!known.has(path)) known.set(path, this.fetchBlob(path).catch(() => null));
      return known.get(path);
    }
    async fetchBlob(path) {
      const answer = await this.host.request(this.client, { path });
      const type = (answer.headers.find(([name]) => name === "content-type") || ["", ""])[1];
      let content = await new Response(answer.body).blob();
      if (answer.status !== 200) return null;
      if (type.includes("css")) content = await this.withBlobs(await content.text(), new URL(path, HOST));
      return URL.createObjectURL(new Blob([content], { type }));
    }
    async withBlobs(css, at) {
      const found = [...css.matchAll(/url\(\s*(["']?)([^"')]+)\1\s*\)/g)];
      const made = await Promise.all(found.map(([, , address]) => {
        const url = new URL(address, at);
        return url.origin === HOST ? this.blob(url.pathname + url.search) : null;
      }));
      let n = 0;
      return css.replace(/url\(\s*(["']?)([^"')]+)\1\s*\)/g, (whole) => { const blob = made[n++]; return blob ? `url(${blob})` : whole; });
    }

    paint() {
      const page = this.frame.contentDocument;
      if (page && page.documentElement) page.documentElement.dataset.theme = isDark() ? "dark" : "light";
    }
    tellSockets() {
      const open = [...this.sockets].filter(({ readyState }) => readyState === 1).length;
      this.state.textContent = open ? "connected" : "";
      this.onsocket();
    }
    /* What the document that is about to go has opened is closed, as by a browser. */
    leave() {
      this.document.abort();
      this.document = new AbortController();
      if (this.onleave) this.onleave();
      for (const socket of this.sockets) this.host.tell({ kind: "close", id: socket.id, code: 1001 });
      this.sockets.clear();
      this.tellSockets();
    }
  }

  /* What stands in for the network in a client's document. Its source is the first script there, so that all that it
     makes is of that document: Chromium gives an element that a function of another document is told of first that
     document's classes, for good. *frame* is the Frame. */
  function standIn(frame) {
    const isFrom = (value, name) => Object.prototype.toString.call(value) === `[object ${name}]`;
    const HOST = frame.address, ended = frame.document.signal;
    window.nbwsHere = frame.here;
    window.origin = HOST;  // htmx takes paths to be of it
    frame.paint();
    const native = { fetch: window.fetch.bind(window), WebSocket: window.WebSocket };

    const fetch = window.fetch = async (input, options) => {
      const asked = typeof input === "string" || isFrom(input, "URL") ? `${input}` : null;
      const path = frame.pathOf(asked === null ? input.url : asked);
      if (path === null) return native.fetch(input, options);
      const request = new Request(asked === null ? input : HOST + path, options);
      const data = ["GET", "HEAD"].includes(request.method) ? null : new Uint8Array(await request.arrayBuffer());
      const headers = [...request.headers].filter(([name]) => name !== "content-length");
      const signal = AbortSignal.any([request.signal, ended]);
      const answer = await frame.host.request(frame.client, { method: request.method, path, headers, data, signal });
      const empty = [204, 205, 304].includes(answer.status) || request.method === "HEAD";
      const response = new Response(empty ? null : answer.body, { status: answer.status, headers: answer.headers });
      Object.defineProperty(response, "url", { value: HOST + answer.url });
      Object.defineProperty(response, "redirected", { value: answer.url !== path });
      return response;
    };

    window.XMLHttpRequest = class extends EventTarget {
      constructor() {
        super();
        Object.assign(this, { readyState: 0, status: 0, statusText: "", response: "", responseText: "", responseURL: "",
          responseType: "", timeout: 0, withCredentials: false, upload: new EventTarget() });
        for (const name of ["load", "loadend", "loadstart", "progress", "error", "abort", "timeout", "readystatechange"]) this[`on${name}`] = null;
      }
      say(name) {
        const event = new ProgressEvent(name);
        if (typeof this[`on${name}`] === "function") this[`on${name}`](event);
        this.dispatchEvent(event);
      }
      open(method, url) { this.asked = [method.toUpperCase(), url, new Headers()]; this.readyState = 1; this.say("readystatechange"); }
      setRequestHeader(name, value) { this.asked[2].append(name, value); }
      overrideMimeType() { }
      getResponseHeader(name) { return this.headers ? this.headers.get(name) : null; }
      getAllResponseHeaders() { return this.headers ? [...this.headers].map(([name, value]) => `${name}: ${value}\r\n`).join("") : ""; }
      abort() { if (this.stopping) this.stopping.abort(); }
      async send(body = null) {
        const [method, url, headers] = this.asked;
        this.stopping = new AbortController();
        this.say("loadstart");
        let ended = "load";
        try {
          const hasBody = body !== null && !["GET", "HEAD"].includes(method);
          const answer = await fetch(url, { method, headers, body: hasBody ? body : undefined, signal: this.stopping.signal });
          const content = await answer.blob();
          this.headers = answer.headers;
          const leads = this.headers.get("hx-redirect");
          if (leads || this.headers.get("hx-refresh") === "true") {  // htmx would ask the frame itself, which leads out of the app
            for (const name of ["hx-redirect", "hx-refresh"]) this.headers.delete(name);
            frame.go(leads ? new URL(leads, frame.here) : frame.here);
          }
          this.responseURL = answer.url;
          [this.status, this.statusText] = [answer.status, answer.statusText];
          if (!this.responseType || this.responseType === "text") this.response = this.responseText = await content.text();
          else if (this.responseType === "json") this.response = JSON.parse(await content.text());
          else this.response = this.responseType === "blob" ? content : await content.arrayBuffer();
        } catch (error) {
          ended = error && error.name === "AbortError" ? "abort" : "error";
        }
        this.readyState = 4;
        this.say("readystatechange");
        this.say(ended);
        this.say("loadend");
      }
    };

    window.WebSocket = class extends EventTarget {
      static CONNECTING = 0; static OPEN = 1; static CLOSING = 2; static CLOSED = 3;
      constructor(url, protocols) {
        super();
        const path = frame.pathOf(url);
        if (path === null) return new native.WebSocket(url, protocols);
        Object.assign(this, { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3, readyState: 0, bufferedAmount: 0, extensions: "", protocol: "",
          url: `${url}`, binaryType: "blob", onopen: null, onmessage: null, onclose: null, onerror: null });
        const say = (event) => {
          if (typeof this[`on${event.type}`] === "function") this[`on${event.type}`](event);
          this.dispatchEvent(event);
        };
        frame.sockets.add(this);
        this.id = frame.host.ask({ kind: "connect", ...frame.client, path, headers: [] }, null, ({ kind, data, code, reason }) => {
          if (this.left) return;
          if (kind === "open") {
            this.readyState = 1;
            frame.tellSockets();
            say(new Event("open"));
          } else if (kind === "message") {
            const given = typeof data === "string" ? data : this.binaryType === "blob" ? new Blob([data]) : new Uint8Array(data).buffer;
            say(new MessageEvent("message", { data: given, origin: HOST }));
          } else if (kind === "closed") {
            const before = this.readyState;
            this.readyState = 3;
            frame.sockets.delete(this);
            frame.tellSockets();
            if (before === 0) say(new Event("error"));
            say(new CloseEvent("close", { code: this.code || code, reason, wasClean: code !== 1006 }));
          }
        });
      }
      send(data) {
        if (this.readyState === 0) throw new DOMException("Still in CONNECTING state.", "InvalidStateError");
        if (this.readyState !== 1) return;
        const hand = (bytes) => frame.host.tell({ kind: "send", id: this.id }, new Uint8Array(bytes));
        if (typeof data === "string") frame.host.tell({ kind: "send", id: this.id, data });
        else if (isFrom(data, "Blob") || isFrom(data, "File")) data.arrayBuffer().then(hand);
        else hand(data.buffer ? data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) : data.slice(0));
      }
      close(code = 1000, reason = "") {
        if (this.readyState >= 2) return;
        this.readyState = 2;
        this.code = code;
        frame.host.tell({ kind: "close", id: this.id, code, reason });
      }
    };

    window.EventSource = class extends EventTarget {
      static CONNECTING = 0; static OPEN = 1; static CLOSED = 2;
      constructor(url) {
        super();
        Object.assign(this, { CONNECTING: 0, OPEN: 1, CLOSED: 2, readyState: 0, url: `${url}`, withCredentials: false,
          onopen: null, onmessage: null, onerror: null, stopping: new AbortController() });
        this.read();
      }
      say(event) {
        if (typeof this[`on${event.type}`] === "function") this[`on${event.type}`](event);
        this.dispatchEvent(event);
      }
      async read() {
        try {
          const answer = await fetch(this.url, { headers: { accept: "text/event-stream" }, signal: this.stopping.signal });
          if (!answer.ok || !(answer.headers.get("content-type") || "").startsWith("text/event-stream")) throw new Error(answer.status);
          this.readyState = 1;
          this.say(new Event("open"));
          await frame.readEvents(answer.body, (name, data, lastEventId) => {
            if (this.readyState !== 2) this.say(new MessageEvent(name, { data, lastEventId, origin: HOST }));
          });
        } catch { }
        if (this.readyState === 2) return;
        this.readyState = 2;
        this.say(new Event("error"));
      }
      close() {
        this.readyState = 2;
        this.stopping.abort();
      }
    };
    frame.onleave = () => { for (const socket of frame.sockets) socket.left = true; };

    /* What is put into the page later: the browser would look for it beside the docs. */
    for (const [kind, name] of [["HTMLScriptElement", "src"], ["HTMLImageElement", "src"], ["HTMLMediaElement", "src"], ["HTMLLinkElement", "href"]]) {
      const { prototype } = window[kind], property = Object.getOwnPropertyDescriptor(prototype, name);
      const set = (element, value) => {
        const path = `${value}`.startsWith("blob:") ? null : frame.pathOf(value);
        if (path === null) return property.set.call(element, value);
        frame.blob(path).then((blob) => blob ? property.set.call(element, blob) : element.dispatchEvent(new Event("error")));
      };
      Object.defineProperty(prototype, name, { ...property, set(value) { set(this, value); } });
      const { setAttribute } = Element.prototype;
      prototype.setAttribute = function (attribute, value) {
        return attribute.toLowerCase() === name ? set(this, value) : setAttribute.call(this, attribute, value);
      };
    }
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) for (const node of addedNodes) {
        if (node.nodeType !== 1) continue;
        for (const element of [node, ...node.querySelectorAll("img[src], source[src], video[src], audio[src]")]) {
          const given = element.matches("img, source, video, audio") ? element.getAttribute("src") : null;
          if (given && !given.startsWith("blob:") && frame.pathOf(given)) element.setAttribute("src", given);
        }
      }
    }).observe(document, { childList: true, subtree: true });

    /* Links and forms lead to another page of the app, in this frame. */
    window.addEventListener("click", (event) => {
      const link = event.target.closest && event.target.closest("a[href], area[href]");
      if (!link || event.defaultPrevented || event.button) return;
      const given = link.getAttribute("href");
      if (/^[a-z][a-z0-9+.-]*:/i.test(given) && !/^https?:/i.test(given)) return;
      event.preventDefault();
      if (given.startsWith("#")) {
        const target = given.length > 1 && document.getElementById(decodeURIComponent(given.slice(1)));
        return target ? target.scrollIntoView() : given === "#" ? undefined : null;
      }
      frame.go(new URL(given, frame.here));
    });
    window.addEventListener("submit", async (event) => {
      if (event.defaultPrevented) return;
      event.preventDefault();
      const form = event.target, by = event.submitter;
      const given = (name) => by && by.getAttribute(`form${name}`) || form.getAttribute(name);
      const fields = new FormData(form, by), url = new URL(given("action") || frame.here, frame.here);
      if ((given("method") || "get").toLowerCase() !== "post") {
        url.search = new URLSearchParams([...fields].filter(([, value]) => typeof value === "string"));
        return frame.go(url);
      }
      const isMultipart = (given("enctype") || "").includes("multipart");
      const request = new Response(isMultipart ? fields : new URLSearchParams([...fields].map(([name, value]) => [name, value.name ?? value])));
      const headers = [["content-type", request.headers.get("content-type")]];
      frame.go(url, { method: "POST", headers, data: new Uint8Array(await request.arrayBuffer()) });
    });
    for (const name of ["pushState", "replaceState"]) {
      window.history[name] = (state, title, address) => {  // its address cannot change, so what is written there is remembered
        const path = address === undefined || address === null ? null : frame.pathOf(address);
        if (path === null) return;
        frame.here.href = HOST + path;
        frame.path.textContent = path;
      };
    }

    const measure = () => {
      const { body, documentElement: html } = document;
      if (body) frame.frame.style.height = `${Math.min(Math.max(Math.ceil(Math.max(html.offsetHeight, body.scrollHeight)), 120), 520)}px`;
    };
    document.addEventListener("DOMContentLoaded", () => {
      const watched = new ResizeObserver(measure);
      watched.observe(document.documentElement);
      watched.observe(document.body);
      measure();
    });
  }

  /* *act* when the page's colours have become others. */
  function whenThemeChanges(act) {
    const watched = new MutationObserver(act), options = { attributes: true, attributeFilter: ["data-theme"] };
    watched.observe(document.documentElement, options);
    watched.observe(document.body, options);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
  }

  function isDark() {
    for (const element of [document.body, document.documentElement]) {
      const { theme } = element.dataset;
      if (theme === "dark" || theme === "light") return theme === "dark";
    }
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }

  /* -- a cell: an editor, a button, and what it shows */

  class Cell {
    constructor(given, number, run) {
      Object.assign(this, { id: given.id, number, source: given.source, mayFail: (given.tags || []).includes("raises-exception") });
      this.editor = make("textarea", {
        spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": `Cell ${number}`,
        onkeydown: (event) => this.key(event, run), oninput: () => this.changed(),
      });
      this.editor.value = given.source;
      this.button = make("button", { type: "button", class: "nbws-run-cell-run", title: "Run this cell (Shift+Enter)", onclick: () => run(this) }, "Run");
      this.reset = make("button", { type: "button", title: "As it was written", hidden: true, onclick: () => this.undo() }, "undo edits");
      this.state = make("span", { class: "nbws-run-cell-state", role: "status" });
      this.output = make("div", { class: "nbws-run-output" });
      this.fold = make("button", { type: "button", class: "nbws-run-fold", onclick: () => { this.isFolded = !this.isFolded; this.changed(); } });
      this.isFolded = !/^\s*(@|%%ws)/m.test(given.source);  // what defines handlers is what one comes to edit
      this.element = make("div", { class: "nbws-run-cell", "data-state": "" },
        make("div", { class: "nbws-run-cell-head" }, make("span", { class: "nbws-run-number" }, `[${number}]`), this.button, this.fold, this.state, this.reset),
        this.editor, this.output);
      this.changed();
    }
    changed() {
      const lines = this.editor.value.split("\n");
      this.editor.rows = Math.min(lines.length, LINES);
      this.editor.hidden = this.isFolded;
      this.fold.setAttribute("aria-expanded", !this.isFolded);
      this.fold.title = this.isFolded ? "Show the code" : "Fold the code";
      this.fold.textContent = this.isFolded ? lines.find((line) => line.trim() && !line.startsWith("#|")) || "…" : "fold";
      this.reset.hidden = this.editor.value === this.source;
    }
    undo() {
      this.editor.value = this.source;
      this.isFolded = false;
      this.changed();
      this.editor.focus();
    }
    key(event, run) {
      if (event.key !== "Enter" || event.isComposing) return;
      if (event.shiftKey || event.ctrlKey || event.metaKey) {
        event.preventDefault();
        return run(this);
      }
      const { value, selectionStart: at } = this.editor, line = value.slice(value.lastIndexOf("\n", at - 1) + 1, at);
      const indent = /^\s*/.exec(line)[0] + (/:\s*$/.test(line) ? "    " : "");
      if (!indent) return;
      event.preventDefault();
      this.editor.setRangeText(`\n${indent}`, at, this.editor.selectionEnd, "end");
      this.changed();
    }
    say(state, words) {
      this.element.dataset.state = state;
      this.state.textContent = words;
    }
    clear() { this.output.replaceChildren(); }
    show({ shows, text, title, name, data }) {
      const last = this.output.lastElementChild;
      if (shows === "stream") {
        if (last && last.dataset.name === name) last.append(text);
        else this.output.append(make("pre", { "data-name": name }, text));
      } else if (shows === "error") {
        this.output.append(make("div", { class: "nbws-run-error", role: "alert" }, make("b", {}, title), make("pre", {}, text)));
      } else if (!data[PREVIEW]) {
        this.output.append(shown(data));
      }
    }
  }

  function shown(data) {
    if (data["image/png"]) return make("img", { src: `data:image/png;base64,${data["image/png"]}`, alt: data["text/plain"] || "" });
    const html = data["text/html"] || data["image/svg+xml"];
    if (!html) return make("pre", {}, data["text/plain"] || "");
    const host = make("div", { class: "nbws-run-html" });
    host.attachShadow({ mode: "open" }).innerHTML = html;  // its styles are its own
    return host;
  }

  /* -- the whole */

  let running = null;  // what stops the one that runs

  function nbwsRunHere(element, { base, cells, clients = 2, path = "/", app = null, ready = false, stopped = null }) {
    const home = new URL(base, document.baseURI);
    const button = make("button", { type: "button", class: "nbws-run-start", onclick: () => start() }, "Run it here");
    const stopping = make("button", { type: "button", hidden: true, title: "End the app and all its clients", onclick: () => stop() }, stopped ? "Back to the recording" : "Stop");
    const status = make("span", { class: "nbws-run-status", role: "status", "aria-live": "polite" });
    const frames = make("div", { class: "nbws-run-clients" }), log = make("div", { class: "nbws-run-log", role: "log", "aria-label": "What the app says" });
    const own = make("div", { class: "nbws-run-cells" });
    const all = make("div", { class: "nbws-run-live", hidden: true }, make("div", { class: "nbws-run-seen" }, frames, log), own);
    element.classList.add("nbws-run");
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", "Run it here");
    element.replaceChildren(make("div", { class: "nbws-run-bar" }, button, stopping, status), all);
    let host = null, opened = [], ran = null, editors = [], asked = [], versions = new Map(), watched = new Map(), began = 0, line = Promise.resolve(), pending = [];

    say("", "The real app, in this browser: Python is loaded from this site, about 14 MB once.");
    function say(state, words) {
      element.dataset.state = state;
      status.textContent = words;
    }

    function start() {
      if (host) return;
      if (running) running();  // one at a time: each has a Python of its own
      running = stop;
      began = performance.now();
      button.hidden = true;
      stopping.hidden = false;
      all.hidden = false;
      say("loading", STAGES.worker);
      [opened, asked, versions, watched] = [[], [], new Map(), new Map()];
      editors = cells.map((given, place) => new Cell(given, place + 1, run));
      for (const cell of editors) {
        cell.button.disabled = true;
        own.append(cell.element);
      }
      try {
        host = new Host(home, { stage, failed, shown: showIn, ran: hasRun, told: ({ text }) => note("notice", text.trim()) });
      } catch (error) {
        failed(`${error.message || error}`);
      }
    }

    function stop() {
      if (host) host.stop();
      host = null;
      if (running === stop) running = null;
      if (ran) ran({ ok: false, apps: [], own: null });
      own.replaceChildren();
      editors = [];
      frames.replaceChildren();
      log.replaceChildren();
      stopping.hidden = true;
      button.hidden = false;
      all.hidden = true;
      say("", "Stopped.");
      if (stopped) stopped();
      else button.focus();
    }

    function failed(words) {
      if (host) host.stop();
      host = null;
      all.hidden = true;
      own.replaceChildren();
      editors = [];
      button.hidden = false;
      stopping.hidden = !stopped;
      say("failed", `It could not be started: ${words}`);
    }

    function stage(name) {
      if (name !== "ready") return say("loading", STAGES[name] || name);
      pending = [...editors];
      line = line.then(runPending);
    }

    /* The cells that have not run yet, down to one that fails. */
    async function runPending() {
      const mine = host;
      let told = null;
      while (pending.length) {
        const cell = pending[0];
        say("loading", `Running cell ${cell.number} of ${editors.length}…`);
        told = await runNow(cell);
        if (host !== mine) return;
        if (!told.ok && !cell.mayFail) break;
        pending.shift();
      }
      for (const cell of editors) cell.button.disabled = false;
      if (pending.length) return say("broken", `Cell ${pending[0].number} fails, so those below it have not run. Mend it and run it: they follow.`);
      openClients(told);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      say("live", `Running in this browser, ready after ${seconds} s. Edit a cell and press Shift+Enter: the clients stay connected.`);
    }

    function run(cell) {
      if (cell.button.disabled) return;
      line = line.then(async () => {
        if (!host) return;
        const told = await runNow(cell);
        if (!host) return;
        if (cell === pending[0] && told.ok) {
          pending.shift();
          if (pending.length || !opened.length) return runPending();
        }
        for (const [app, given] of asked.splice(0)) openMore(app, given);
        if (!opened.length && !pending.length) openClients(told);
      });
    }

    function runNow(cell) {
      cell.clear();
      cell.say("busy", "running…");
      cell.changed();
      return new Promise((resolve) => {
        ran = (told) => {
          ran = null;
          if (!told.ok && cell.isFolded) { cell.isFolded = false; cell.changed(); }
          cell.say(told.ok ? "ok" : "failed", told.ok ? "ran" : "failed; what was live stays live");
          setTimeout(() => { if (told.ok && cell.element.dataset.state === "ok") cell.say("", ""); }, 4000);
          for (const app of told.apps) watch(app);
          element.dataset.ran = (Number(element.dataset.ran) || 0) + 1;
          resolve(told);
        };
        host.tell({ kind: "run", cell: cell.id, number: cell.number, source: cell.editor.value });
      });
    }
    function hasRun(told) { if (ran) ran(told); }

    function showIn(message) {
      const cell = editors.find(({ id }) => id === message.cell);
      const wanted = message.shows === "display" && message.data[PREVIEW];
      if (wanted) asked.push([wanted.app, wanted]);
      if (cell) cell.show(message);
    }

    /* The clients that cells have asked for by showing the app, at least so many as the page wants. */
    function openClients(told) {
      let wanted = asked.splice(0);
      const chosen = app === null || app === "" ? null : Number(app);
      if (told && told.apps.includes(chosen)) wanted = [[chosen, { path, clients }]];
      if (!wanted.length && told && told.own !== null) wanted.push([told.own, { path, clients }]);
      const first = wanted[0];
      if (first && first[1].clients < clients && wanted.length === 1) first[1].clients = clients;
      for (const [app, given] of wanted) openMore(app, given);
    }
    function openMore(app, given) {
      const there = opened.filter((frame) => frame.app === app && frame.first === given.path).length;
      for (let n = there; n < given.clients; n++) {
        const frame = new Frame(host, app, given.path, opened.length + 1, tellConnected);
        frame.first = given.path;
        opened.push(frame);
        frames.append(frame.element);
      }
    }
    function tellConnected() {
      element.dataset.connected = opened.reduce((sum, frame) => sum + [...frame.sockets].filter(({ readyState }) => readyState === 1).length, 0);
    }

    /* What the app says of itself: versions that are live, errors of handlers, what they print. */
    async function watch(app) {
      if (watched.has(app)) return;
      watched.set(app, new Set());
      const mine = host;
      try {
        const answer = await mine.request({ client: "the page", app }, { path: "/_nbws/feed" });
        await readEvents(answer.body, (name, data) => { if (name === "message" && host === mine) tell(app, JSON.parse(data)); });
      } catch { }
    }
    function tell(app, { endpoints, errors, said }) {
      const seen = watched.get(app), changed = [];
      for (const { method, path, version } of endpoints) {
        const key = `${app} ${method} ${path}`, before = versions.get(key);
        versions.set(key, version);
        if (before && before !== version && element.dataset.state === "live") changed.push(`${method} ${path} v${before} → v${version}`);
      }
      if (changed.length) note("swap", `${changed.join(", ")}; ${element.dataset.connected || 0} connections stayed open`);
      for (const { id, title, message, text, times } of errors) {
        if (seen.has(`error ${id} ${times}`)) continue;
        seen.add(`error ${id} ${times}`);
        note("error", times > 1 ? `${title} (${times} times)` : title, `message: ${message}\n${text}`);
      }
      for (const { id, who, text } of said) {
        if (seen.has(`said ${id} ${text}`)) continue;
        seen.add(`said ${id} ${text}`);
        note("said", `${who}: ${text.trimEnd()}`);
      }
    }
    function note(kind, words, more) {
      const entry = more ? make("details", { class: `nbws-run-${kind}` }, make("summary", {}, words), make("pre", {}, more))
        : make("p", { class: `nbws-run-${kind}` }, words);
      log.append(entry);
      while (log.children.length > KEPT_LINES) log.firstElementChild.remove();
      log.scrollTop = log.scrollHeight;
    }

    whenThemeChanges(() => opened.forEach((frame) => frame.paint()));
    if (ready) start();
    return element.nbwsRun = { start, stop, get host() { return host; } };
  }

  window.nbwsRunHere = nbwsRunHere;

  /* Where the page says by its markup what is to be run. */
  function begin() {
    for (const data of document.querySelectorAll("div.nbws-run > script[type='application/json']")) {
      nbwsRunHere(data.parentElement, JSON.parse(data.textContent));
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
