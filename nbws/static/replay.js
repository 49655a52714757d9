/* Plays recorded sessions in a page of documentation: each client in a frame of its own, with the recording in the place
   of its websockets. Nothing is made up: what the recording does not answer is refused, and the page says so. It loads
   nothing, and works from file://. */
(() => {
  "use strict";
  if (window.nbwsReplay) return;
  const ASSETS = window.nbwsReplayAssets || {};  // what pages load of nbws: name -> text
  // Milliseconds: the longest wait between two lines, the shortest before an input, and until an input counts as said.
  const LONGEST = 2000, BEFORE_INPUT = 700, UNHEARD = 1000;
  const REDACTED = "(redacted)";
  const POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data:; style-src 'unsafe-inline' data:; "
    + "img-src data: blob:; media-src data: blob:; font-src data:; form-action 'none'";

  /* -- in a client's frame, before anything else of its page */
  function inFrame() {
    const say = (what, rest) => parent.postMessage({ nbws: "replay", what, ...rest }, "*");
    const addressOf = (url) => {
      try {
        const { pathname, search } = new URL(url, "ws://recorded/");
        return pathname + search;
      } catch { return String(url); }
    };
    const sockets = [], queue = [];
    let sends = 0;

    class RecordedSocket extends EventTarget {
      constructor(url) {
        super();
        Object.assign(this, { url: String(url), readyState: 0, binaryType: "blob", bufferedAmount: 0, protocol: "", extensions: "" });
        this.at = addressOf(url);
        sockets.push(this);
        setTimeout(settle);
      }
      send(data) {
        if (this.readyState !== 1) throw new DOMException("the recorded websocket is not open", "InvalidStateError");
        sends += 1;
        say("send", { at: this.at, data: typeof data === "string" ? data : null });
      }
      close() { this.end(1000); }
      end(code) {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.emit(new CloseEvent("close", { code, wasClean: true }));
      }
      emit(event) {
        this.dispatchEvent(event);
        const handler = this[`on${event.type}`];
        if (handler) handler.call(this, event);
      }
    }
    ["CONNECTING", "OPEN", "CLOSING", "CLOSED"].forEach((name, value) => {
      RecordedSocket[name] = RecordedSocket.prototype[name] = value;
    });
    window.WebSocket = RecordedSocket;

    const socketAt = (at) => {
      const alive = sockets.filter((each) => each.readyState < 2);
      return alive.find((each) => each.at === at) || alive.find((each) => each.at.split("?")[0] === at.split("?")[0]);
    };
    /* What is to happen on websockets, in order, as soon as they are there. */
    function settle() {
      while (queue.length) {
        const { what, at, data } = queue[0], socket = socketAt(at);
        if (!socket) return;
        queue.shift();
        if (what === "open" && socket.readyState === 0) {
          socket.readyState = 1;
          socket.emit(new Event("open"));
          say("opened", { at });
        } else if (what === "deliver") {
          socket.emit(new MessageEvent("message", { data: typeof data === "string" ? data : received(data, socket) }));
        } else if (what === "close") {
          socket.end(1000);
        }
      }
    }
    const received = ({ bytes }, socket) => {
      const array = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
      return socket.binaryType === "arraybuffer" ? array.buffer : new Blob([array]);
    };

    /* -- what was said then, said again by the page's own form or button */
    const attribute = (element, name) => element.getAttribute(name) ?? element.getAttribute(`data-${name}`);
    const SENDERS = "[ws-send], [data-ws-send], [hx-ws='send'], [data-hx-ws='send']";
    const isSame = (one, other) => other === "(redacted)" || JSON.stringify([].concat(one).map(String)) === JSON.stringify([].concat(other).map(String));

    function controlsOf(element) {
      const form = element.matches("form") ? element : element.form || element.closest("form");
      return form ? [...form.elements] : element.name ? [element] : [];
    }
    function valuesOf(element) {
      const holder = element.closest("[hx-vals], [data-hx-vals]");
      try { return holder ? JSON.parse(attribute(holder, "hx-vals")) : {}; } catch { return {}; }
    }
    const isFixed = (control) => control.type === "hidden";
    function suits(element, fields) {
      const values = valuesOf(element), controls = controlsOf(element);
      return Object.entries(fields).every(([name, value]) => {
        if (name in values) return isSame(values[name], value);
        const named = controls.filter((each) => each.name === name && !each.disabled);
        const buttons = named.filter((each) => each.matches("button, [type=submit]"));
        if (buttons.length && buttons.length === named.length) return buttons.some((each) => isSame(each.value, value));
        return named.length > 0 && (!named.every(isFixed) || isSame(named.map((each) => each.value), value));
      }) && Object.entries(values).every(([name, value]) => !(name in fields) || isSame(value, fields[name]));
    }
    function senderOf(fields) {
      const suited = [...document.querySelectorAll(SENDERS)].filter((each) => suits(each, fields));
      const size = (each) => controlsOf(each).filter((control) => control.name).length + Object.keys(valuesOf(each)).length;
      return suited.sort((one, other) => Math.abs(size(one) - Object.keys(fields).length) - Math.abs(size(other) - Object.keys(fields).length))[0];
    }

    const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    async function fill(control, value, stroke) {
      if (control.type === "checkbox" || control.type === "radio") {
        control.checked = [].concat(value).map(String).includes(control.value) || (control.type === "checkbox" && value === true);
      } else if (control.tagName === "SELECT" && control.multiple) {
        for (const option of control.options) option.selected = [].concat(value).map(String).includes(option.value);
      } else if (control.type !== "file" && !isFixed(control) && value !== REDACTED_TEXT) {
        const text = String(value ?? "");
        const isTyped = stroke && control.matches("textarea, input:not([type]), input[type=text], input[type=search], input[type=email], input[type=url], input[type=tel]");
        for (let length = isTyped ? 1 : text.length; length < text.length; length += Math.ceil(text.length / 30)) {
          control.value = text.slice(0, length);
          await pause(stroke);
        }
        control.value = text;
      }
    }
    const REDACTED_TEXT = "(redacted)";
    async function offer({ fields, press, stroke }) {
      const element = fields && senderOf(fields);
      if (!element) return say("offered", { found: false });
      const before = sends;
      let submitter = null;
      for (const control of controlsOf(element)) {
        if (!control.name || control.disabled || !(control.name in fields)) continue;
        if (control.matches("button, [type=submit]")) {
          if (isSame(control.value, fields[control.name])) submitter = control;
          continue;
        }
        await fill(control, fields[control.name], press ? stroke : 0);
        if (press) for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
      }
      if (press && stroke) await pause(stroke * 6);
      if (press && sends === before) trigger(element, submitter);
      say("offered", { found: true, sent: sends > before });
    }
    function trigger(element, submitter) {
      const asked = (attribute(element, "hx-trigger") || "").split(",")[0].trim().split(/[\s[]/)[0];
      if (element.matches("form") && (!asked || asked === "submit")) {
        const button = submitter || element.querySelector("button:not([type=button], [type=reset]), [type=submit]");
        if (!element.checkValidity()) return;
        if (button) button.click();  // htmx sends the name of a button that was clicked, and not of one that submits otherwise
        else element.requestSubmit();
      } else if (!asked || asked === "click") {
        if (element.matches("input:not([type=button], [type=submit]), select, textarea")) element.dispatchEvent(new Event("change", { bubbles: true }));
        else element.click();
      } else {
        element.dispatchEvent(new Event(asked, { bubbles: true, cancelable: true }));
      }
    }

    /* -- the recording has no other pages */
    document.addEventListener("click", (event) => {
      const link = event.target.closest && event.target.closest("a[href]");
      if (!link || link.getAttribute("href").startsWith("#") || event.defaultPrevented) return;
      event.preventDefault();
      say("left", { to: link.getAttribute("href") });
    });
    window.addEventListener("submit", (event) => {
      if (event.defaultPrevented) return;
      event.preventDefault();
      say("left", { to: event.target.getAttribute("action") || "this form" });
    });
    document.addEventListener("htmx:configRequest", (event) => {
      event.preventDefault();
      say("left", { to: event.detail.path });
    });

    let told = 0;
    function measure() {
      const html = document.documentElement, body = document.body;
      const height = Math.ceil(Math.max(html.getBoundingClientRect().height, body.getBoundingClientRect().bottom + scrollY));
      if (height !== told) say("height", { height: told = height });
    }
    window.addEventListener("message", ({ source, data }) => {
      if (source !== parent || !data || data.nbws !== "replay") return;
      if (data.what === "offer") return void offer(data);
      if (data.what === "theme") return void (document.documentElement.dataset.theme = data.theme);
      queue.push(data);
      settle();
    });
    document.addEventListener("DOMContentLoaded", () => {
      const watched = new ResizeObserver(measure);
      watched.observe(document.documentElement);
      watched.observe(document.body);
      measure();
      setTimeout(() => say("ready"));
    });
  }

  /* -- the page around the frames */
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const isSaid = (entry) => !("to" in entry || "connects" in entry || "leaves" in entry);
  const prefersStill = matchMedia("(prefers-reduced-motion: reduce)");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  function theme() {
    const asked = document.documentElement.dataset.theme || document.body.dataset.theme;
    return asked === "dark" || asked === "light" ? asked : prefersDark.matches ? "dark" : "light";
  }
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }
  const inlined = (page) => page
    .replace(/<script\b[^>]*?src="[^"]*\/_nbws\/static\/([\w.-]+)"[^>]*><\/script>/gi, (whole, name) => (name in ASSETS ? `<script>${ASSETS[name]}<\/script>` : ""))
    .replace(/<link\b[^>]*?href="[^"]*\/_nbws\/static\/([\w.-]+)"[^>]*>/gi, (whole, name) => (name in ASSETS ? `<style>${ASSETS[name]}</style>` : ""));

  class Client {
    constructor(player, told, place, section) {
      const first = told.page === undefined ? null : player.data.pages[told.page];
      Object.assign(this, { player, place, section, name: told.name, first, page: first });
      this.snapshot = section.querySelector("iframe");
      this.lines = section.querySelector(".nbws-replay-lines");
      this.final = this.lines && [...this.lines.children];
      this.frame = null;
      if (this.snapshot) {
        this.snapshot.addEventListener("load", () => this.fit());
        this.fit();
      }
    }
    /* The frame with the last state cannot say how high it is: no script runs in it. */
    fit() {
      const inside = this.snapshot.contentDocument;
      if (!inside || !inside.body) return;
      inside.documentElement.dataset.theme = theme();
      const height = Math.max(inside.documentElement.getBoundingClientRect().height, inside.body.scrollHeight);
      if (height > 20 && !this.player.height) this.snapshot.style.height = `${Math.ceil(height)}px`;
    }
    reset() {
      this.leave(this.first);
      if (this.lines) this.lines.replaceChildren();
    }
    /* Its frame is gone, and *page* is the one that it loads next. */
    leave(page) {
      if (this.frame) this.frame.remove();
      this.frame = this.ready = null;
      this.page = page;
      this.section.dataset.state = "away";
    }
    /* Its page as it was served, alive; once it stands there. */
    load() {
      if (!this.page) return Promise.resolve();
      Object.assign(this, { isFixed: false, growths: 0, grownTo: 0, grewAt: 0 });
      this.ready = new Promise((resolve) => { this.isReady = resolve; });
      this.frame = make("iframe", { class: "nbws-replay-frame", title: `${this.name}, played again`, sandbox: "allow-scripts allow-forms" });
      this.frame.style.height = this.snapshot.style.height || "";
      const boot = `<meta http-equiv="Content-Security-Policy" content="${POLICY}"><script>(${inFrame})()<\/script>`;
      const page = inlined(this.page).replace(/<html\b/i, `<html data-theme="${theme()}"`);
      this.frame.srcdoc = /<head\b[^>]*>/i.test(page) ? page.replace(/<head\b[^>]*>/i, (head) => head + boot) : boot + page;
      this.snapshot.after(this.frame);
      return this.ready;
    }
    /* As high as its page, but for one that is always a little higher than its frame, as with `100vh`. */
    grow(height) {
      if (this.player.height || this.isFixed) return;
      const now = performance.now();
      this.growths = height > this.grownTo && now - this.grewAt < 300 ? this.growths + 1 : 0;
      [this.grownTo, this.grewAt] = [height, now];
      this.isFixed = this.growths > 8;
      this.frame.style.height = this.isFixed ? "400px" : `${Math.min(Math.max(height, 40), 2000)}px`;
    }
    tell(what, rest) {
      if (this.frame && this.frame.contentWindow) this.frame.contentWindow.postMessage({ nbws: "replay", what, ...rest }, "*");
    }
    opened() {
      return new Promise((resolve) => { this.isOpened = resolve; });
    }
    line(mark, text) {
      if (!this.lines) return;
      this.lines.append(make("li", { class: `nbws-replay-${mark}` }, text));
      this.lines.scrollTop = this.lines.scrollHeight;
    }
    hear({ what, height, at, data, to, found, sent }) {
      if (what === "ready") this.isReady();
      else if (what === "height") this.grow(height);
      else if (what === "opened") { if (this.isOpened) this.isOpened(true); }
      else if (what === "send") this.player.heard(this, at, data);
      else if (what === "left") this.player.refuse(`This is a recording: it has no page beyond this one (${to}).`);
      else if (what === "offered" && this.offered) this.offered({ found, sent });
    }
  }

  class Player {
    constructor(root) {
      this.root = root;
      this.data = JSON.parse(root.querySelector(".nbws-replay-data").textContent);
      this.entries = this.data.entries;
      this.height = Number(root.dataset.height) || 0;
      const sections = root.querySelectorAll(".nbws-replay-client");
      this.clients = this.data.clients.map((each, n) => new Client(this, each, n, sections[n]));
      this.at = -1;  // the next entry; -1 while the last state is shown
      this.turn = 0;
      this.auto = false;
      this.speed = 1;
      this.build();
      this.show();
    }

    build() {
      this.root.dataset.alive = "";
      const here = window.nbwsRunHere && this.root.querySelector(".nbws-run-here");
      const button = (text, label, act, name) => make("button", { type: "button", "aria-label": label, title: label, onclick: act, class: `nbws-replay-${name}` }, text);
      const run = here ? button("Run it here", "Run it here: the app itself, in this browser", () => this.runHere(here), "run") : "";
      if (!this.entries.length) {  // nothing to play: the page as it is served
        if (here) this.root.prepend(make("div", { class: "nbws-replay-bar" }, run));
        return;
      }
      this.playing = button("▶ Play", "Play the recording", () => this.toggle(), "play");
      this.next = button("Next", "Say what was said next", () => this.step(), "next");
      this.again = button("↺", "From the beginning", () => this.restart(false), "again");
      this.fast = make("select", { "aria-label": "Speed", title: "Speed", class: "nbws-replay-speed" },
        ...[["0.5", "½×"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["Infinity", "at once"]].map(([value, text]) => make("option", { value, selected: value === "1" }, text)));
      this.fast.addEventListener("change", () => { this.speed = Number(this.fast.value); });
      this.count = make("span", { class: "nbws-replay-count", title: "What was said so far, and the version of the handler that answered last" });
      this.progress = make("progress", { max: this.entries.length, value: 0, "aria-label": "How much of the recording was played" });
      const bar = make("div", { class: "nbws-replay-bar", role: "group", "aria-label": "Recorded session" },
        make("span", { class: "nbws-replay-badge" }, "recorded"), this.playing, this.next, this.again, this.fast, this.count, run);
      this.root.prepend(bar, this.progress);
      this.note = this.root.querySelector(".nbws-replay-note");
    }

    runHere(here) {
      this.turn += 1;
      this.root.dataset.state = "here";
      here.hidden = false;
      const notebook = document.getElementById("nbws-notebook");
      const { cells, base } = notebook ? JSON.parse(notebook.textContent) : { cells: [], base: null };
      const stopped = () => {
        here.hidden = true;
        if (this.entries.length) this.restart(false);
        else delete this.root.dataset.state;
      };
      const { clients, path, app } = here.dataset;
      window.nbwsRunHere(here, { base, cells, clients: Math.max(2, Number(clients)), path, app, ready: true, stopped });
    }

    get entry() { return this.entries[this.at]; }

    restart(auto) {
      this.turn += 1;
      this.at = 0;
      delete this.root.dataset.unsaid;
      this.version = null;  // of the handler that took up the last message
      this.auto = auto;
      this.clients.forEach((each) => each.reset());
      this.say("");
      return this.run();
    }
    toggle() {
      if (this.auto && this.isRunning) {
        this.auto = false;
        this.turn += 1;
        this.isRunning = false;
        return this.show();
      }
      if (this.at < 0 || !this.entry) return this.restart(true);
      this.auto = true;
      return this.run();
    }
    /* What was said next is said now, by its own page, and what it brought about follows. */
    async step() {
      if (this.at < 0 || !this.entry) return this.restart(false);
      if (!isSaid(this.entry)) return this.run(true);
      const turn = ++this.turn;
      this.auto = false;
      if (await this.perform(this.entry, turn)) return this.run();
    }

    wait(entry) {
      const before = this.entries[this.at - 1];
      const gap = before ? (entry.at - before.at) * 1000 : 0;
      return Math.min(Math.max(gap, isSaid(entry) ? BEFORE_INPUT : 0), LONGEST) / this.speed;
    }

    /* Goes on until it is the reader's turn, or the end. */
    async run(atOnce) {
      const turn = ++this.turn;
      this.isRunning = true;
      this.show();
      while (this.entry) {
        const entry = this.entry;
        if (isSaid(entry) && !this.auto) break;
        if (!atOnce) await pause(this.wait(entry));
        if (turn !== this.turn) return;
        if (isSaid(entry)) {
          if (!(await this.perform(entry, turn))) return;
        } else {
          await this.apply(entry);
          if (turn !== this.turn) return;
          this.at += 1;
        }
        this.show();
      }
      this.isRunning = false;
      if (!this.entry) this.auto = false;
      this.show();
      if (this.entry) this.offer(this.entry);
    }

    async apply(entry) {
      if ("to" in entry) {
        for (const place of entry.to) {
          const client = this.clients[place], at = entry.on || this.addressOf(place);
          if ("size" in entry) this.say(`A fragment of ${entry.size} characters followed, which the recording does not hold.`);
          else client.tell("deliver", { at, data: "html" in entry ? entry.html : { bytes: entry.bytes } });
          client.line("sent", "html" in entry ? entry.html : "size" in entry ? `(${entry.size} characters)` : "(bytes)");
        }
        return;
      }
      const client = this.clients[entry.client];
      if ("connects" in entry) {
        if ("page" in entry) client.leave(this.data.pages[entry.page]);
        if (!client.frame) await client.load();
        client.section.dataset.state = "here";
        client.tell("open", { at: entry.connects });
        if (client.frame && !(await Promise.race([client.opened(), pause(UNHEARD * 3).then(() => false)]))) {
          this.say(`The page of ${client.name} does not open ${entry.connects} here, so nothing of the recording reaches it.`);
        }
      } else if ("leaves" in entry) {
        client.tell("close", { at: entry.on || this.addressOf(entry.client) });
        client.section.dataset.state = "left";
      }
    }
    addressOf(place) {
      return this.entries.find((each) => each.client === place && "connects" in each).connects;
    }

    /* Whether it was said: by its page where that can say it, and else by nobody's hand. */
    async perform(entry, turn) {
      const client = this.clients[entry.client];
      this.focus(client);
      const before = this.at;
      const stroke = prefersStill.matches || this.speed > 4 ? 0 : 35 / this.speed;
      const offered = new Promise((resolve) => { client.offered = resolve; });
      this.performs = entry;
      client.tell("offer", { fields: entry.says, press: true, stroke });
      const { found } = client.frame && entry.says ? await Promise.race([offered, pause(10000).then(() => ({}))]) : {};
      for (let waited = 0; found && waited < UNHEARD && this.at === before && turn === this.turn; waited += 20) await pause(20);
      this.performs = null;
      if (turn !== this.turn) return false;
      if (this.at === before) {  // it was said by other means than this page has: a pointer that drew, a client of tests
        this.root.dataset.unsaid = Number(this.root.dataset.unsaid || 0) + 1;
        this.accept(entry);
      }
      return turn === this.turn;
    }
    accept(entry) {
      this.clients[entry.client].line("said", shown(entry));
      if (entry.version) this.version = entry.version;
      this.at += 1;
      this.say("");
      this.show();
    }

    /* It is the reader's turn: what was typed then is in the field, to be sent. */
    offer(entry) {
      const client = this.clients[entry.client];
      this.focus(client);
      client.offered = null;
      client.tell("offer", { fields: entry.says, press: false });
      this.show();
    }

    /* A client's page has sent something, by the reader's hand or by the player's. */
    async heard(client, at, data) {
      const next = this.entries.findIndex((each, n) => n >= this.at && isSaid(each));
      const entry = this.entries[next];
      if (!entry) return this.refuse("This is a recording, and it has ended: it answers only what was said then.");
      if (entry.client !== client.place || !matches(entry, data)) {
        if (this.performs) return;  // what the page has now says it otherwise
        return this.refuse(`This is a recording: it answers only what was said then. Next, ${this.clients[entry.client].name} said ${shown(entry)}.`, entry);
      }
      if (this.performs === entry) return this.accept(entry);
      const turn = ++this.turn;
      while (this.at < next) {  // the reader was faster than the answers
        await this.apply(this.entry);
        this.at += 1;
      }
      if (turn !== this.turn) return;
      this.accept(entry);
      return this.run();
    }
    refuse(text, entry) {
      this.say(text, entry && make("button", { type: "button", onclick: () => { this.say(""); this.offer(entry); } }, "Fill it in"));
    }

    say(text, ...more) {
      this.note.replaceChildren(...(text ? [text, ...more.filter(Boolean).flatMap((each) => [" ", each])] : []));
      this.root.dataset.refused = text ? "true" : "false";
      this.show();
    }
    focus(client) {
      this.clients.forEach((each) => each.section.toggleAttribute("data-next", each === client));
    }
    show() {
      if (!this.entries.length) return;
      const said = this.data.entries.filter(isSaid).length, entry = this.entry;
      this.root.dataset.state = this.at < 0 ? "last" : entry ? "playing" : "ended";
      const isPlaying = this.auto && this.isRunning;
      this.playing.textContent = isPlaying ? "❚❚ Pause" : "▶ Play";
      this.playing.setAttribute("aria-label", isPlaying ? "Pause" : "Play the recording");
      this.playing.title = this.playing.getAttribute("aria-label");
      this.again.disabled = this.at < 0;
      const isTurn = entry && isSaid(entry) && !isPlaying;
      this.next.textContent = isTurn ? "Send it" : "Step";
      this.next.disabled = this.at >= 0 && !entry;
      this.next.setAttribute("aria-label", isTurn ? `Send what ${this.clients[entry.client].name} said next` : this.at < 0 ? "Play it step by step" : "Go on to what was said next");
      this.next.title = this.next.getAttribute("aria-label");
      this.progress.value = this.at < 0 ? this.entries.length : this.at;
      const past = this.at < 0 ? said : this.entries.slice(0, this.at).filter(isSaid).length;
      this.count.textContent = this.at < 0 ? counted(this.clients.length, said) : `${past} of ${said} said${this.version ? `, v${this.version}` : ""}`;
      if (this.root.dataset.refused === "true") return;
      let text = "";
      if (this.at < 0) text = "This is how it looked in the end. Play it, or send yourself what was sent then.";
      else if (!entry) text = this.data.cut ? "The recording ends here, though the session went on." : "That was all of it.";
      else if (isTurn) text = `Next, ${this.clients[entry.client].name} said ${shown(entry)}. Send it there, or press “Send it”.`;
      if (this.note.textContent !== text) this.note.replaceChildren(text);
      if (!entry) this.focus(null);
    }
  }

  function counted(clients, said) {
    const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
    return `${count(clients, "client")}, ${count(said, "message")}`;
  }
  function shown(entry) {
    if (!entry.says) return entry.text !== undefined ? `“${entry.text}”` : "something binary";
    const text = (value) => (typeof value === "string" ? `“${value}”` : JSON.stringify(value)), fields = Object.entries(entry.says);
    if (fields.length === 1) return text(fields[0][1]);
    return fields.map(([name, value]) => `${name}: ${text(value)}`).join(", ") || "something without words";
  }
  /* Whether a message of a page says what was said then; what the page sends beyond that does not matter. */
  function matches(entry, data) {
    if (!entry.says) return entry.text === data;
    let fields;
    try { fields = JSON.parse(data); } catch { return false; }
    const text = (value) => JSON.stringify([].concat(value ?? "").map(String));
    return fields !== null && typeof fields === "object"
      && Object.entries(entry.says).every(([name, value]) => value === REDACTED || text(fields[name]) === text(value));
  }

  const players = [];
  function start() {
    for (const root of document.querySelectorAll("[data-nbws-replay]:not([data-alive])")) players.push(new Player(root));
  }
  window.addEventListener("message", ({ source, data }) => {
    if (!data || data.nbws !== "replay") return;
    for (const { clients } of players) {
      const client = clients.find(({ frame }) => frame && frame.contentWindow === source);
      if (client) client.hear(data);
    }
  });
  function themed() {
    for (const { clients } of players) for (const client of clients) {
      client.tell("theme", { theme: theme() });
      if (client.snapshot) client.fit();
    }
  }
  const watching = new MutationObserver(themed);
  prefersDark.addEventListener("change", themed);
  window.nbwsReplay = { players, start };
  function begin() {
    start();
    for (const element of [document.documentElement, document.body]) watching.observe(element, { attributeFilter: ["data-theme"] });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
