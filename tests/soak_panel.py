"""A notebook with the panel open, as a widget and under the preview, and 50 clients that talk.

    python tests/soak_panel.py [--minutes 10] [--rate 2000]

Neither the kernel's memory nor the browser's grows, clients are answered as without the panel, and the panel shows what
comes: it says how much came too fast to be listed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from pathlib import Path

import psutil
from lab import Browser, LabServer, write_nb
from soak import Promises, percentile
from websockets.asyncio.client import connect

CLIENTS = 50
WARM_UP = 0.25  #: of the time; what the kernel and the browser take until then is not counted
GROWTH_MB = 30.0  #: of each, between the end of the warm-up and the end
ECHO_MS = 250.0  #: for 99 of 100 echoes

CELLS = [
    "from nbws.common import *\nfrom nbws import App\napp = App('soak')",
    """
@app.get('/')
def index():
    return Titled('Soak', P(id='out'), hx_ext='ws', ws_connect='/ws')

@app.ws('/ws')
async def echo(n: int):
    return P(n, id='out')
""",
    "app",
    "app.inspector()",
    "import os; print(os.getpid(), app.url, app.token)",
]


class Talkers:
    """The clients, in a thread with a loop of its own. `waits` are the milliseconds of the echoes."""

    def __init__(self, url: str, token: str, rate: float) -> None:
        self.waits: list[float] = []
        self.failed: BaseException | None = None
        self._url = f"{url.replace('http', 'ws')}/ws?token={token}"
        self._every = CLIENTS / rate
        self._is_done = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._talk_all())
        except BaseException as exc:
            self.failed = exc

    async def _talk_all(self) -> None:
        await asyncio.gather(*(self._talk() for _ in range(CLIENTS)))

    async def _talk(self) -> None:
        async with connect(self._url, compression=None) as socket:
            n, due = 0, time.monotonic()
            while not self._is_done:
                n, began = n + 1, time.monotonic()
                await socket.send(json.dumps({"n": n}))
                assert f">{n}<" in str(await socket.recv())
                self.waits.append((time.monotonic() - began) * 1000)
                due = max(due + self._every, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def end(self) -> None:
        self._is_done = True
        self._thread.join(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=2000.0, help="messages a second, of all clients together")
    given = parser.parse_args()
    seconds, promises = given.minutes * 60, Promises()
    with tempfile.TemporaryDirectory() as folder, LabServer(Path(folder)) as server, Browser() as browser:
        write_nb(server.root / "soak.ipynb", CELLS)
        with browser.open(server, "soak.ipynb") as notebook:
            for cell in range(len(CELLS)):
                notebook.run(cell)
            pid, url, token = notebook.text(4).split()[-3:]
            kernel, devtools = psutil.Process(int(pid)), notebook.page.context.new_cdp_session(notebook.page)
            notebook.cell(2).locator(".nbws-inspector summary").click()
            widget = notebook.cell(3).locator(".nbws-panel")
            widget.locator(".nbws-p-rows li").first.wait_for()
            devtools.send("Performance.enable")
            talkers = Talkers(url, token, given.rate)
            began, kernels, browsers = time.monotonic(), [], []
            while (at := time.monotonic() - began) < seconds and talkers.failed is None:
                notebook.page.wait_for_timeout(min(10.0, seconds / 20) * 1000)
                devtools.send("HeapProfiler.collectGarbage")
                metrics = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
                heap = metrics["JSHeapUsedSize"]
                if at > WARM_UP * seconds:
                    kernels.append(kernel.memory_info().rss / 1e6)
                    browsers.append(heap / 1e6)
                print(
                    f"{at:5.0f} s  kernel {kernel.memory_info().rss / 1e6:6.1f} MB, page {heap / 1e6:5.1f} MB, "
                    f"{len(talkers.waits):,} messages, p99 {percentile(talkers.waits[-20_000:], 99):.0f} ms",
                    flush=True,
                )
            not_listed = widget.locator(".nbws-p-tools .nbws-p-quiet").first.text_content() or ""
            rows = widget.locator(".nbws-p-rows li").count()
            talkers.end()
    assert talkers.failed is None, talkers.failed
    promises.at_most("the kernel grew by", kernels[-1] - kernels[0], GROWTH_MB, " MB")
    promises.at_most("the notebook's page grew by", browsers[-1] - browsers[0], GROWTH_MB, " MB")
    promises.at_most("99 of 100 echoes took", percentile(talkers.waits, 99), ECHO_MS, " ms")
    promises.at_most("lines in the browser", rows, 500)
    promises.equal("the panel says what it does not list", "came too fast to be listed" in not_listed, True)
    print(f"        {len(talkers.waits) / seconds:,.0f} messages a second; {not_listed}")
    promises.exit()


if __name__ == "__main__":
    main()
