"""Drive a real JupyterLab in a real Chromium, with playwright's sync API.

    write_nb(root / "a.ipynb", ["print('hi')", ("md", "# Title")])
    with LabServer(root) as server, Browser() as browser, browser.open(server, "a.ipynb") as nb:
        nb.run(0)
        nb.text_until(0, "hi")

Tests take the fixtures `lab`, `browser` and `notebook_in_lab` of conftest.py instead.

Cells are addressed by their index. Two ways of driving are here: Lab's own commands through
`window.jupyterapp` (the server runs with `--expose-app-in-browser`), and mouse and keys
(`run_keys`, `type_source`, `restart_ui`). All timeouts are in seconds, and a wait that runs
out raises playwright's TimeoutError.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from playwright.sync_api import Frame, Locator, Page, Route, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

# The list of places is dev.py's, which runs before anything is installed and imports nothing.
find_chromium: Callable[[], str | None] = runpy.run_path(str(Path(__file__).parents[1] / "dev.py"))["find_chromium"]

CHROMIUM_ARGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
EXTENSION = Path(__file__).parents[1] / "nbws" / "labextension"
LOOPBACK_URLS = tuple(f"http://{host}{end}" for host in ("127.0.0.1", "localhost", "client2.localhost") for end in ":/")
QUIET_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
DARK_SETTINGS = {"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}}

CellSource: TypeAlias = "str | tuple[Literal['md'], str]"
Viewport: TypeAlias = tuple[int, int]
Settings: TypeAlias = Mapping[str, Mapping[str, Any]]


class LabError(RuntimeError):
    """JupyterLab could not be started; the message holds its log."""


def write_nb(path: Path, cells: Sequence[CellSource], kernel: str = "python3") -> Path:
    """Write a v4.5 notebook to *path* and return it; a cell is code, or ('md', text)."""
    spec = {"name": kernel, "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = {
        "cells": [_cell(index, cell) for index, cell in enumerate(cells)],
        "metadata": {"kernelspec": spec},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def _cell(index: int, cell: CellSource) -> dict[str, Any]:
    common = {"id": f"cell{index:03d}", "metadata": {}}
    if isinstance(cell, tuple):
        return {**common, "cell_type": "markdown", "source": cell[1]}
    return {**common, "cell_type": "code", "source": cell, "outputs": [], "execution_count": None}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LabServer:
    """JupyterLab of this Python on a loopback port, with settings, data and config of its own.

    *hostname* is what the browser calls it by: '127.0.0.1' or 'localhost'. *settings* are Lab's
    user settings, {'@jupyterlab/some-extension:plugin': {...}}. *env* adds to the environment of
    the server and its kernels, *args* to the command line.
    """

    def __init__(
        self,
        root: Path,
        *,
        hostname: Literal["127.0.0.1", "localhost"] = "127.0.0.1",
        dark: bool = False,
        settings: Settings | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        token: str = "tok",
    ) -> None:
        self.root = root.resolve()
        self.hostname = hostname
        self.token = token
        self.port = free_port()
        self._settings = {**QUIET_SETTINGS, **(DARK_SETTINGS if dark else {}), **(settings or {})}
        self._env = dict(env or {})
        self._args = list(args)

    @property
    def url(self) -> str:
        return f"http://{self.hostname}:{self.port}"

    @property
    def log(self) -> str:
        """What the server and its kernels have printed; while it runs."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> LabServer:
        self._home = Path(tempfile.mkdtemp(prefix="nbws-lab-"))
        self._log = self._home / "lab.log"
        self._write_settings()
        shutil.copytree(EXTENSION, self._home / "data" / "labextensions" / "nbws")  # whether it is installed or not
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_started(timeout=60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("POST", "/api/shutdown")  # takes the kernels along, on Windows too
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def shut_down_kernel(self, path: str) -> None:
        """End the session of the notebook *path*, relative to the root; nothing if there is none."""
        for session in self._ask("GET", "/api/sessions"):
            if session["path"] == path:
                self._ask("DELETE", f"/api/sessions/{session['id']}")

    def _write_settings(self) -> None:
        for plugin, values in self._settings.items():
            package, name = plugin.split(":")
            file = self._home / "user-settings" / package / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values), encoding="utf-8")

    def _command(self) -> list[str]:
        options = [
            "--no-browser",
            "--allow-root",
            "--expose-app-in-browser",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
        ]
        return [sys.executable, "-m", "jupyterlab", *options, *self._args]

    def _environment(self) -> dict[str, str]:
        own = {
            "JUPYTERLAB_SETTINGS_DIR": "user-settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTER_DATA_DIR": "data",
            "IPYTHONDIR": "ipython",
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        own_dirs = {variable: str(self._home / name) for variable, name in own.items()}
        return {**os.environ, **own_dirs, "PATH": path, **self._env}

    def _wait_started(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._ask("GET", "/api/status")
                return
            except OSError as problem:
                code = self._process.poll()
                if code is not None:
                    raise LabError(f"JupyterLab exited with code {code}; its log:\n{self.log}") from None
                if time.monotonic() > deadline:
                    raise LabError(
                        f"JupyterLab did not answer within {timeout} s ({problem}); its log:\n{self.log}"
                    ) from None
            time.sleep(0.1)

    def _ask(self, method: str, path: str) -> Any:
        """The JSON answer of the server's REST API, None where the answer is empty."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None


class Browser:
    """A headless Chromium whose pages reach loopback only; what they asked elsewhere is in `refused`.

    While it is open asyncio.run() fails in this thread: playwright's sync API keeps a loop running.
    """

    def __init__(self, *, viewport: Viewport = (1300, 1000), args: Sequence[str] = ()) -> None:
        self.refused: list[str] = []
        self._viewport = viewport
        self._args = args

    def __enter__(self) -> Browser:
        self._playwright = sync_playwright().start()
        try:
            self._chromium = self._playwright.chromium.launch(
                executable_path=find_chromium(), args=[*CHROMIUM_ARGS, *self._args]
            )
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()

    def new_page(self, *, viewport: Viewport | None = None, javascript: bool = True) -> Page:
        """A page in a context of its own: no cookies, no storage. `page.context.close()` ends it."""
        width, height = viewport or self._viewport
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=javascript
        )
        # Aborting at once also keeps a <script> from a CDN from holding up the load event.
        context.route(lambda url: not url.startswith((*LOOPBACK_URLS, "file:///")), self._refuse)
        return context.new_page()

    def open(
        self,
        server: LabServer,
        path: str,
        *,
        viewport: Viewport | None = None,
        timeout: float = 60,
    ) -> Notebook:
        """The notebook *path*, relative to the server's root, in a page of its own, its kernel idle."""
        page = self.new_page(viewport=viewport)
        page.add_init_script(PAGE_HELPERS)
        notebook = Notebook(page, path)
        # `reset` drops the workspace saved on the server, so that no tab of an earlier page is back.
        page.goto(f"{server.url}/lab/tree/{path}?token={server.token}&reset")
        notebook.wait_ready(timeout)
        return notebook

    def _refuse(self, route: Route) -> None:
        self.refused.append(route.request.url)
        route.abort()


# In Lab's own page only: an init script runs in the frames of outputs as well.
PAGE_HELPERS = """
if (window === window.top) {
  const isNotebook = each => each?.sessionContext && each.content?.widgets;
  window.__nb = () => {
    const shell = window.jupyterapp?.shell;
    if (!shell || isNotebook(shell.currentWidget)) return shell?.currentWidget;
    return [...shell.widgets('main')].find(isNotebook) ?? shell.currentWidget;
  };
  window.__cell = i => __nb().content.widgets[i];
  window.__run = i => {
    const list = __nb().content;
    list.deselectAll();
    list.activeCellIndex = i;
    return window.jupyterapp.commands.execute('notebook:run-cell');
  };
  window.__text = i => (__cell(i).model.outputs?.toJSON() ?? []).map(o => {
    const joined = t => Array.isArray(t) ? t.join('') : t ?? '';
    if (o.output_type === 'stream') return joined(o.text);
    if (o.output_type === 'error') return `${o.ename}: ${o.evalue}`;
    return joined(o.data['text/plain']);
  }).join('\\n');
}
"""

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
DIALOG_ACCEPT = ".jp-Dialog button.jp-mod-accept"


class Notebook:
    """One notebook open in JupyterLab, and its kernel; `console` collects what the page logs."""

    def __init__(self, page: Page, path: str) -> None:
        self.page = page
        self.path = path
        self.console: list[tuple[str, str]] = []
        page.on("console", lambda message: self.console.append((message.type, message.text)))
        page.on("pageerror", lambda error: self.console.append(("pageerror", str(error))))

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the page, unsaved; the kernel stays."""
        self.page.context.close()

    # -- readiness

    def wait_ready(self, timeout: float = 60) -> None:
        """Wait until the notebook is on screen and its kernel idle; accepts dialogs in the way."""
        self.page.wait_for_selector(f"{PANEL} .jp-Notebook .jp-Cell", timeout=timeout * 1000)
        self._wait("() => window.__nb()?.content?.widgets && __nb().sessionContext", timeout=timeout)
        self.accept_dialogs()
        self.wait_idle(timeout)

    def accept_dialogs(self) -> None:
        """Accept the dialogs that are open now, if any."""
        while (button := self.page.locator(DIALOG_ACCEPT)).count():
            top = button.last.element_handle()
            top.click()
            top.wait_for_element_state("hidden")

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until the kernel is connected and answers, and no cell is running or queued.

        A kernel answers what it is asked in turn, so whatever was sent before is done. A cell that
        `start` has only just started may not have been sent yet: await what it prints.
        """
        connected = """() => {
            const context = __nb().sessionContext;
            return context.isReady && context.session?.kernel?.connectionStatus === 'connected';
        }"""
        answer = "() => __nb().sessionContext.session.kernel.requestKernelInfo()"
        no_cell_waits = "panel => !document.querySelector(panel + ' .jp-Cell.jp-mod-executing')"
        self._wait(connected, timeout=timeout)
        self._finish("the kernel's answer", answer, timeout=timeout)
        self._wait(no_cell_waits, PANEL, timeout=timeout)

    def status(self) -> str | None:
        """The kernel's status as Lab shows it: 'idle', 'busy', ...; None without a kernel.

        No sign of readiness: from a restart to the next run Lab 4.6 says 'starting' or 'unknown'.
        """
        status: str | None = self.page.evaluate("() => __nb().sessionContext.session?.kernel?.status")
        return status

    # -- cells

    def __len__(self) -> int:
        count: int = self.page.evaluate("() => __nb().content.widgets.length")
        return count

    def cell(self, i: int) -> Locator:
        """Cell *i* on the page. With Lab's windowing mode 'full' a cell off screen is not there."""
        return self.page.locator(f"{PANEL} .jp-Notebook .jp-Cell").nth(i)

    def source(self, i: int) -> str:
        source: str = self.page.evaluate("i => __cell(i).model.sharedModel.getSource()", i)
        return source

    def set_source(self, i: int, source: str) -> None:
        self.page.evaluate("([i, s]) => __cell(i).model.sharedModel.setSource(s)", [i, source])

    def type_source(self, i: int, source: str) -> None:
        """Replace the source through the editor, as a paste would: nothing is auto-indented."""
        self.cell(i).locator(".jp-InputArea-editor .cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)

    def add(self, source: str) -> int:
        """Append a code cell and return its index."""
        index: int = self.page.evaluate(
            """source => {
                const model = __nb().content.model.sharedModel;
                model.insertCell(model.cells.length, {cell_type: 'code', source});
                return model.cells.length - 1;
            }""",
            source,
        )
        return index

    def execution_count(self, i: int) -> int | None:
        count: int | None = self.page.evaluate("i => __cell(i).model.executionCount", i)
        return count

    # -- running

    def start(self, i: int) -> None:
        """Start cell *i* and return at once."""
        self.page.evaluate("i => { __run(i); }", i)

    def run(self, i: int, timeout: float = 60) -> str:
        """Run cell *i* to its end, be it an error, and return its text so far.

        The kernel may flush printed text up to 0.2 s late: expect it with `text_until`.
        """
        self._finish(f"cell {i}", "i => __run(i)", i, timeout=timeout)
        return self.text(i)

    def run_keys(self, i: int, timeout: float = 60, keys: str = "Control+Enter") -> str:
        """The same through mouse and keyboard."""
        before = self.execution_count(i)
        self.cell(i).locator(".jp-InputArea-editor .cm-content").click()
        self.page.keyboard.press(keys)
        self._wait(
            """([i, before]) => {
                const cell = __cell(i).model;
                return cell.executionState !== 'running'
                    && cell.executionCount !== null && cell.executionCount !== before;
            }""",
            [i, before],
            timeout=timeout,
        )
        return self.text(i)

    # -- outputs

    def outputs(self, i: int) -> list[dict[str, Any]]:
        """The outputs as nbformat has them, complete even where the page shows a part."""
        outputs: list[dict[str, Any]] = self.page.evaluate("i => __cell(i).model.outputs?.toJSON() ?? []", i)
        return outputs

    def text(self, i: int) -> str:
        """Streams, errors ('Name: message') and text/plain of the outputs, as they are now."""
        text: str = self.page.evaluate("i => __text(i)", i)
        return text

    def text_until(self, i: int, needle: str, timeout: float = 20) -> str:
        """The text of cell *i* as soon as *needle* is in it."""
        try:
            self._wait("([i, needle]) => __text(i).includes(needle)", [i, needle], timeout=timeout)
        except PlaywrightTimeout:
            raise PlaywrightTimeout(
                f"cell {i} did not say {needle!r} within {timeout} s; its text: {self.text(i)!r}"
            ) from None
        return self.text(i)

    def dom_text(self, i: int) -> str:
        """The text of the outputs as the page shows it, frames aside."""
        return self.cell(i).locator(".jp-Cell-outputWrapper").inner_text()

    def iframe(self, i: int, k: int = 0, timeout: float = 20) -> Frame:
        """The *k*-th frame in the output of cell *i*, be it of src or srcdoc, with its document parsed."""
        element = self.cell(i).locator(".jp-Cell-outputWrapper iframe").nth(k)
        element.wait_for(state="attached", timeout=timeout * 1000)
        element.scroll_into_view_if_needed()
        handle = element.element_handle()
        frame = handle.content_frame()
        if frame is None:
            raise LabError(f"frame {k} of cell {i} went away while it was looked up")
        if handle.get_attribute("src") or handle.get_attribute("srcdoc"):
            frame.wait_for_url(lambda url: url != "about:blank", wait_until="commit", timeout=timeout * 1000)
        frame.wait_for_load_state("domcontentloaded", timeout=timeout * 1000)
        return frame

    # -- kernel

    def restart_kernel(self, timeout: float = 60) -> None:
        """Restart at once, without the dialog."""
        restart = "() => __nb().sessionContext.session.kernel.restart()"
        self._finish("the restart", restart, timeout=timeout)
        self.wait_idle(timeout)

    def restart_ui(self, timeout: float = 60) -> None:
        """Restart as a user does: menu command, then *Restart* in the dialog."""
        self.page.evaluate("() => { window.__restarted = window.jupyterapp.commands.execute('kernelmenu:restart'); }")
        self.page.locator(DIALOG_ACCEPT).click()
        self._finish("the restart", "() => window.__restarted", timeout=timeout)
        self.wait_idle(timeout)

    def interrupt(self) -> None:
        interrupt = "() => __nb().sessionContext.session.kernel.interrupt()"
        self._finish("the interrupt", interrupt, timeout=20)

    # -- the application

    def command(self, name: str, args: Mapping[str, Any] | None = None, timeout: float = 60) -> None:
        """Execute the Lab command *name* and wait for its end."""
        execute = "([name, args]) => window.jupyterapp.commands.execute(name, args)"
        self._finish(f"command {name}", execute, [name, dict(args or {})], timeout=timeout)

    def save(self) -> None:
        self._finish("saving", "() => __nb().context.save()", timeout=20)

    def close_tab(self) -> None:
        """Save and close the tab; page and kernel stay."""
        self._finish(
            "closing the tab",
            """async () => {
                const panel = __nb();
                await panel.context.save();
                const closed = new Promise(resolve => panel.disposed.connect(resolve));
                panel.close();
                await closed;
            }""",
            timeout=20,
        )

    def reopen(self, timeout: float = 60) -> None:
        """Open the tab again after `close_tab`."""
        self.command("docmanager:open", {"path": self.path})
        self.wait_ready(timeout)

    def screenshot(self, path: Path, *, full_page: bool = False, settle: float = 1.0) -> Path:
        """Write a PNG, *settle* seconds from now: no event tells when a sandboxed frame is painted."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(settle * 1000)
        self.page.screenshot(path=path, full_page=full_page)
        return path

    def _wait(self, expression: str, arg: object = None, *, timeout: float) -> None:
        self.page.wait_for_function(expression, arg=arg, timeout=timeout * 1000)

    def _finish(self, what: str, expression: str, arg: object = None, *, timeout: float) -> None:
        """Call the page's function *expression* with *arg* and wait until its promise is settled."""
        finished = self.page.evaluate(
            f"""([arg, ms]) => Promise.race([
                Promise.resolve(({expression})(arg)).then(() => true),
                new Promise(resolve => setTimeout(() => resolve(false), ms)),
            ])""",
            [arg, timeout * 1000],
        )
        if not finished:
            raise PlaywrightTimeout(f"{what} of {self.path} took longer than {timeout} s")


class Sockets:
    """The websockets of apps, not Jupyter's own, that a page has opened."""

    def __init__(self, page: Page) -> None:
        self.opened = 0
        self.closed = 0
        page.on("websocket", self._on_open)

    def _on_open(self, socket: Any) -> None:
        if "/api/" not in socket.url:
            self.opened += 1
            socket.on("close", self._on_close)

    def _on_close(self, _: object) -> None:
        self.closed += 1


class OpenNotebook(Protocol):
    """The fixture `notebook_in_lab`: opens *source*, cells or an .ipynb file, as a new notebook."""

    def __call__(
        self,
        source: Sequence[CellSource] | Path,
        *,
        server: LabServer | None = None,
        viewport: Viewport | None = None,
    ) -> Notebook: ...
