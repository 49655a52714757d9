/* The worker of *run it here*: Python, nbws and the app. It is told where its files are, says how far it is, and then
   hands messages in and out as they are; see nbws/inpage/host.py for what they say. Bytes go beside the text.

   A page that was opened as a file may fetch nothing, so it hands over the files themselves, by name and gzipped. */
"use strict";

let receive = null;
const waiting = [];

self.onmessage = ({ data }) => {
  if (data.begin) begin(data.begin, data.files).catch((error) => self.postMessage({ failed: `${error && error.message || error}` }));
  else if (receive) receive(data.text, data.bytes || undefined);
  else waiting.push(data);
};

async function begin(base, files) {
  const say = (stage) => self.postMessage({ stage });
  say("python");
  if (files) serve(files);
  const get = async (name) => {
    const answer = await fetch(new URL(name, base));
    if (!answer.ok) throw new Error(`${name} is not there (${answer.status}); build the page again`);
    return answer;
  };
  const manifest = await (await get("run-here.json")).json();
  if (manifest.format !== 1) throw new Error(`run-here.json is of format ${manifest.format}, and this script reads 1; build the page again`);
  const archives = [manifest.packages, ...manifest.wheels].map(async (name) => [name, await (await get(name)).arrayBuffer()]);
  const home = new URL(manifest.pyodide.base, base).href;
  const script = async (name) => import(files ? URL.createObjectURL(await (await fetch(home + name)).blob()) : home + name);
  const { loadPyodide } = await script("pyodide.mjs");
  const options = { indexURL: home };
  if (files) {
    options.createPyodideModule = (await script("pyodide.asm.mjs")).default;
    options.lockFileContents = await (await get("pyodide-lock.json")).text();
  }
  const python = await loadPyodide(options);
  say("packages");
  const into = python.runPython("import site; site.getsitepackages()[0]");
  for (const [name, content] of await Promise.all(archives)) {
    python.unpackArchive(content, name.endsWith(".whl") ? "wheel" : "zip", { extractDir: into });
  }
  if (manifest.from_pyodide.length) await python.loadPackage(manifest.from_pyodide);
  const missing = manifest.from_pyodide.find((name) => !python.loadedPackages[name]);  // it only warns of these
  if (missing) throw new Error(`${missing} could not be loaded from ${home}`);
  say("nbws");
  const hand = (text, bytes) => self.postMessage({ text, bytes });
  receive = python.runPython("from nbws.inpage.host import host_in_worker; host_in_worker")(hand);
  say("ready");
  for (const { text, bytes } of waiting.splice(0)) receive(text, bytes || undefined);
}

/* Have `fetch` find *files*, whatever folder they are asked for in. */
function serve(files) {
  // A page that is a file gets no module worker in Chromium. A classic one imports as well, but Pyodide would not believe it.
  self.importScripts = () => { throw new TypeError("this worker imports modules"); };
  const types = { mjs: "text/javascript", json: "application/json", wasm: "application/wasm" };
  self.fetch = async (asked) => {
    const name = `${asked.url || asked}`.split("/").pop();
    if (!files[name]) return new Response(null, { status: 404 });
    const content = new Blob([files[name]]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(content, { headers: { "content-type": types[name.split(".").pop()] || "application/octet-stream" } });
  };
}
