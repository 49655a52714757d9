/* Turns an open page into what its code makes of it now, in place. Loaded when a page changes for the first time.

   Three documents take part: the page as it was served, as it would be served now, and as it stands in the browser,
   where websockets and people have changed it since. Only what the server changed is changed; everything else stays as
   it is, and so do typed text, caret, scroll, open details, media and what websockets have put there. */
window.nbwsMorph = (() => {
  "use strict";
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");
  /* A form has its fields as properties, so `form.children` may be one of them. */
  const property = (type, name) => {
    const { get } = Object.getOwnPropertyDescriptor(type.prototype, name);
    return (element) => [...get.call(element)];
  };
  const childrenOf = property(Element, "children"), nodesOf = property(Node, "childNodes"), attributesOf = property(Element, "attributes");
  const idOf = (element) => element.getAttribute("id");
  const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;
  const equals = (one, other) => one.isEqualNode(other)  // which does not look into templates
    && (!one.querySelector("template") && one.tagName !== "TEMPLATE" || one.outerHTML === other.outerHTML);
  const isHtmx = (name) => /^(data-)?(hx|ws)-/.test(name);

  let served = null;  // the page as it was served last
  let standing = new Map();  // element of `served` -> the element in the browser that it became

  /* Which element of the page before is which of the page after: by id, else by place below what is known. */
  function pairs(before, after) {
    const found = new Map(), taken = new Set();
    const take = (old, child) => { found.set(child, old); taken.add(old); };
    const alike = (old, child) => !taken.has(old) && old.tagName === child.tagName;
    take(before.body, after.body);
    for (const child of after.body.querySelectorAll("[id]")) {
      const old = before.getElementById(idOf(child));
      if (old && alike(old, child)) take(old, child);
    }
    const fresh = [after.body, ...after.body.querySelectorAll("*")];
    for (const parent of fresh) {
      const old = found.get(parent);
      if (!old) continue;
      if (equals(old, parent)) {
        childrenOf(parent).forEach((child, n) => take(childrenOf(old)[n], child));
        continue;
      }
      const nameless = childrenOf(old).filter((child) => !idOf(child));
      for (const same of [(each, child) => equals(each, child), (each, child) => !idOf(child)]) {
        for (const child of childrenOf(parent)) {
          const match = found.has(child) ? null : nameless.find((each) => alike(each, child) && same(each, child));
          if (match) take(match, child);
        }
      }
    }
    /* What stands in a new element may have stood elsewhere before. */
    const left = [...before.body.querySelectorAll("*")].filter((each) => !taken.has(each));
    for (const child of fresh.filter((each) => !found.has(each) && !found.has(each.parentElement))) {
      const match = left.find((each) => alike(each, child) && equals(each, child));
      if (match) take(match, child);
    }
    return found;
  }

  /* The elements that the page consisted of when it had been read, by those of its source. */
  function standingOf(page, elements) {
    const sources = [...page.body.querySelectorAll("*")].filter((each) => !each.parentElement.closest("noscript"));
    const isWhole = sources.length === elements.length && sources.every((each, n) => each.tagName === elements[n].tagName);
    if (isWhole) return new Map([[page.body, document.body], ...sources.map((each, n) => [each, elements[n]])]);
    const before = new Map();  // a script has changed it while it was read: by likeness, then
    for (const [source, live] of pairs(document, page)) before.set(source, live);
    return before;
  }

  /* Gives the digest of the page that stands then. Where the server does not know what it sent, or what websockets have
     brought is not to be kept, everything becomes as the server has it, but for what people did to it. */
  function morph(change, elements) {
    const isAnew = change.old === null;
    if (isAnew) {
      served = parse(document.documentElement.outerHTML);
      standing = standingOf(served, [...document.body.querySelectorAll("*")]);
    } else if (!served) {
      served = parse(change.old);
      standing = standingOf(served, elements);
    }
    const after = parse(change.new);
    const found = pairs(served, after);
    const known = new Set(standing.values()), next = new Map();
    const added = [], scripts = [], attributed = new Map();

    const liveOf = (old) => {
      const live = standing.get(old);
      if (live && live.isConnected) return live;
      const id = idOf(old);
      const other = id && document.getElementById(id);  // a websocket has put another one in its place
      return other && other.tagName === old.tagName ? other : null;
    };

    function mergeAttributes(live, old, fresh) {
      const names = new Set([...attributesOf(old), ...attributesOf(fresh)].map((each) => each.name));
      for (const name of names) {
        const given = fresh.getAttributeNode(name);
        if (isAnew && name === "open") continue;  // somebody opened it, or closed it
        if (given && old.getAttribute(name) === given.value) continue;
        if (given) live.setAttributeNode(given.cloneNode());  // setAttribute refuses names such as @click
        else live.removeAttribute(name);
        attributed.set(live, [...(attributed.get(live) || []), name]);
      }
    }

    /* Whether a websocket or a script has put it there. */
    const made = new Set();
    const isDynamic = (live) => !known.has(live) && !made.has(live) && !(idOf(live) && served.getElementById(idOf(live)));

    /* *fresh* stands as *live* now, and so does all that is in it. */
    function settle(live, fresh) {
      next.set(fresh, live);
      const lives = childrenOf(live).filter((each) => !isDynamic(each));
      childrenOf(fresh).forEach((child, n) => {
        if (!next.has(child) && lives[n] && lives[n].tagName === child.tagName) settle(lives[n], child);
      });
    }
    function settleEqual(old, fresh) {
      const live = liveOf(old);
      if (live) next.set(fresh, live);
      childrenOf(fresh).forEach((child, n) => settleEqual(childrenOf(old)[n], child));
    }

    function merge(live, old, fresh) {
      if (equals(old, fresh)) return settleEqual(old, fresh);
      next.set(fresh, live);
      mergeAttributes(live, old, fresh);
      if (live.tagName === "TEMPLATE") return live.innerHTML = fresh.innerHTML;
      if (live.tagName === "SCRIPT") {
        live.textContent = fresh.textContent;
        return scripts.push([live, fresh]);
      }
      const olds = nodesOf(old), freshes = nodesOf(fresh);
      const inPlace = olds.length === freshes.length && freshes.every((each, n) =>
        isElement(each) ? found.get(each) === olds[n] : each.nodeType === olds[n].nodeType);
      if (!inPlace) return rearrange(live, fresh);
      freshes.forEach((each, n) => {
        if (isElement(each)) {
          const child = liveOf(olds[n]);
          if (child) merge(child, olds[n], each);
        } else if (each.nodeValue !== olds[n].nodeValue) {
          const text = nodesOf(live).find((node) => node.nodeType === each.nodeType && node.nodeValue === olds[n].nodeValue);
          if (text) text.nodeValue = each.nodeValue;
        }
      });
    }

    /* Children came, went or moved. Idiomorph matches them by id, so what is known to belong together gets one. */
    function rearrange(live, fresh) {
      const pinned = new Map(), ids = [];
      const pin = (element, id) => { ids.push([element, idOf(element)]); element.setAttribute("id", id); };
      const collect = (parent) => {
        for (const child of childrenOf(parent)) {
          const old = found.get(child), stands = old && liveOf(old);
          if (stands && live.contains(stands) && stands !== live) pinned.set(child, stands);
          else collect(child);
        }
      };
      collect(fresh);
      const placed = new Set(pinned.values());
      const kept = childrenOf(live).filter((child) => !placed.has(child) && isDynamic(child));
      const brought = new Set();
      /* What a websocket has brought and the code has now as well, such as the lines of a chat, is there once. */
      for (const child of childrenOf(fresh)) {
        const same = pinned.has(child) ? -1 : kept.findIndex((each) => equals(each, child));
        if (same < 0) continue;
        const [stands] = kept.splice(same, 1);
        pinned.set(child, stands);
        brought.add(child);
        for (const each of [stands, ...stands.querySelectorAll("*")]) made.add(each);
      }
      let number = 0;
      for (const [child, stands] of pinned) {
        const id = `nbws-pinned-${number++}`;
        pin(child, id);
        pin(stands, id);
      }
      for (const child of kept) pin(child, `nbws-kept-${number++}`);
      const came = [];
      Idiomorph.morph(live, fresh, {
        morphStyle: "outerHTML", ignoreActiveValue: true, restoreFocus: true,
        callbacks: {
          beforeNodeMorphed: (node, by) => !(pinned.has(by) && pinned.get(by) === node),
          beforeAttributeUpdated: (name, element) => element !== live,
          beforeNodeRemoved: (node) => !kept.includes(node),
          afterNodeAdded: (node) => { if (isElement(node)) came.push(node); },
        },
      });
      for (const [element, id] of ids) id === null ? element.removeAttribute("id") : element.setAttribute("id", id);
      for (const node of came) {
        for (const each of [node, ...node.querySelectorAll("*")]) if (!known.has(each)) made.add(each);
        added.push(node);
      }
      for (const [child, stands] of pinned) {
        if (brought.has(child)) settle(stands, child);
        else merge(stands, found.get(child), child);
      }
      settle(live, fresh);
    }

    function mergeHead(live, old, fresh) {
      const others = (head) => childrenOf(head).filter((each) => each.tagName !== "TITLE" && !each.dataset.page);
      const without = (some, those) => {
        const left = [...those];
        return some.filter((each) => {
          const same = left.findIndex((other) => other.isEqualNode(each));
          if (same >= 0) left.splice(same, 1);
          return same < 0;
        });
      };
      const gone = without(others(old), others(fresh)).map((each) => childrenOf(live).find((other) => other.isEqualNode(each)));
      for (const each of without(others(fresh), others(old))) {
        const place = gone.findIndex((other) => other && other.tagName === each.tagName);
        const element = each.tagName === "SCRIPT" ? runnable(each) : document.importNode(each, true);
        if (place >= 0) gone.splice(place, 1)[0].replaceWith(element);
        else live.append(element);
      }
      for (const each of gone) if (each) each.remove();
    }

    if (!isAnew) {  // else it is not known what scripts have put there
      mergeAttributes(document.documentElement, served.documentElement, after.documentElement);
      mergeHead(document.head, served.head, after.head);
    }
    if (served.title !== after.title) document.title = after.title;
    merge(document.body, served.body, after.body);
    for (const node of added) {
      for (const script of [node, ...node.querySelectorAll("script")]) {
        if (script.tagName === "SCRIPT" && script.isConnected) scripts.push([script, null]);
      }
    }
    for (const [script, fresh] of scripts) {
      const running = runnable(script);
      script.replaceWith(running);
      for (const [source, live] of next) if (live === script) next.set(source, running);
    }
    for (const [element, names] of attributed) if (names.some(isHtmx) && window.htmx) process(element, names);
    for (const node of added) if (node.isConnected && window.htmx) htmx.process(node);
    served = after;
    standing = next;
    document.dispatchEvent(new CustomEvent("nbws:morph"));
    const own = after.querySelector("script[data-page]");
    return own && own.dataset.page;
  }

  /* A script that came as HTML does not run; one that is made here does, once. */
  function runnable(script) {
    const made = document.createElement("script");
    for (const { name, value } of attributesOf(script)) made.setAttribute(name, value);
    made.textContent = script.textContent;
    return made;
  }

  /* Has htmx look at an element whose attributes have changed. Its ws extension would open the sockets in it anew, and
     forget those that are open, so they are hidden from it. */
  function process(element, names) {
    const dataOf = (each) => each["htmx-internal-data"] || {};
    const connects = (each) => each.matches("[ws-connect], [data-ws-connect]");
    const holders = [element, ...element.querySelectorAll("*")].filter((each) => connects(each) && dataOf(each).webSocket);
    const leaves = holders.filter((each) => each === element && names.some((name) => name.endsWith("ws-connect")));
    for (const each of leaves) dataOf(each).webSocket.close();
    const kept = leaves.length ? [] : holders.map((each) => [each, dataOf(each).webSocket]);
    const open = htmx.createWebSocket;
    if (kept.length) {
      htmx.createWebSocket = () => ({ readyState: WebSocket.CLOSED, addEventListener() {}, close() {}, send() {} });
      htmx.createWebSocket.isNone = true;
    }
    try {
      htmx.process(element);
    } finally {
      htmx.createWebSocket = open;
      for (const [each, socket] of kept) dataOf(each).webSocket = socket;
    }
  }

  return morph;
})();
