/* The worker of *run it here*: Python, nbws and the app. It is told where its files are, says how far it is, and then
   hands messages in and out as they are; see nbws/inpage/host.py for what they say. Bytes go beside the text. */
"use strict";

let receive = null;
const waiting = [];

self.onmessage = ({ data }) => {
  if (data.begin) begin(data.begin).catch((error) => self.postMessage({ failed: `${error && error.message || error}` }));
  else if (receive) receive(data.text, data.bytes || undefined);
  else waiting.push(data);
};

async function begin(base) {
  const say = (stage) => self.postMessage({ stage });
  const get = async (name) => {
    const answer = await fetch(new URL(name, base));
    if (!answer.ok) throw new Error(`${name} is not there (${answer.status}); build the page again`);
    return answer;
  };
  say("python");
  const manifest = await (await get("run-here.json")).json();
  if (manifest.format !== 1) throw new Error(`run-here.json is of format ${manifest.format}, and this script reads 1; build the page again`);
  const archives = [manifest.packages, ...manifest.wheels].map(async (name) => [name, await (await get(name)).arrayBuffer()]);
  const home = new URL(manifest.pyodide.base, base).href;
  const { loadPyodide } = await import(new URL("pyodide.mjs", home).href);
  const python = await loadPyodide({ indexURL: home });
  say("packages");
  const into = python.runPython("import site; site.getsitepackages()[0]");
  for (const [name, content] of await Promise.all(archives)) {
    python.unpackArchive(content, name.endsWith(".whl") ? "wheel" : "zip", { extractDir: into });
  }
  if (manifest.from_pyodide.length) await python.loadPackage(manifest.from_pyodide);
  say("nbws");
  const hand = (text, bytes) => self.postMessage({ text, bytes });
  receive = python.runPython("from nbws.inpage.host import host_in_worker; host_in_worker")(hand);
  say("ready");
  for (const { text, bytes } of waiting.splice(0)) receive(text, bytes || undefined);
}
