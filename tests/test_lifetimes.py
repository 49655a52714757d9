"""What ends when, and what outlives it: the list in docs/hot-swap.md, in a real kernel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel import Kernel
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

APP = """
from nbws.common import *
app = App()
app.start()
"""
HANDLER = '@app.ws("/ws")\nasync def handler(text: str): return P("{word} ", text, id="out")'


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.check("where", f"import os, sys; os.chdir({str(tmp_path)!r}); sys.path.insert(0, {str(tmp_path)!r})")
        yield kernel


def opened(kernel: Kernel, app: str = "app", path: str = "/ws") -> ClientConnection:
    url, token = kernel.check("ask", f"print({app}.url, {app}.token)").stdout.split()
    return connect(f"{url.replace('http', 'ws')}{path}?token={token}")


def ask(client: ClientConnection, text: str = "x") -> str:
    client.send(json.dumps({"text": text}))
    return re.sub("<[^>]*>", "", str(client.recv(timeout=10)))


def version(kernel: Kernel, path: str = "/ws") -> str:
    return kernel.check("ask", f"print(app.endpoints[{path!r}].version)").stdout.strip()


def test_a_cell_that_is_deleted_leaves_its_routes_which_retire_takes_away(kernel: Kernel) -> None:
    kernel.check("app", APP)
    kernel.check("handler", HANDLER.format(word="one"))
    with opened(kernel) as client:
        kernel.check("another", "1")  # a kernel is not told that a cell is gone
        assert ask(client) == "one x"
        kernel.check("look", 'app.endpoints["/ws"].retire()')
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_a_kernel_that_ends_closes_with_1012_so_that_pages_look_for_it_again(kernel: Kernel) -> None:
    kernel.check("app", APP)
    kernel.check("handler", HANDLER.format(word="one"))
    with opened(kernel) as client:
        assert ask(client) == "one x"
        kernel.run(None, "exit()")
        kernel._manager.shutdown_kernel()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_a_kernel_that_is_interrupted_while_it_publishes_has_published_all_or_nothing(kernel: Kernel) -> None:
    kernel.check("app", APP)
    run = kernel.start(
        "many",
        """
import _thread, random, sys, threading, time
sys.setswitchinterval(0.0002)
ready, taken = threading.Event(), threading.Event()
def interrupt():
    for _ in range(50):
        ready.wait()
        ready.clear()
        time.sleep(random.random() / 500)
        taken.clear()
        while not taken.is_set():  # one that comes during a callback of the garbage collector is ignored by Python
            _thread.interrupt_main()
            taken.wait(0.5)
def two(n):
    @app.ws("/a")
    async def a(): return P(n, id="a")
    @app.ws("/b")
    async def b(): return P(n, id="b")
threading.Thread(target=interrupt).start()
n = 0
for _ in range(50):
    try:
        ready.set()
        while True:
            n += 1
            two(n)
            app.publish()
    except KeyboardInterrupt:
        taken.set()
versions = [app.endpoints[path].history[-1] for path in ("/a", "/b")]
print("tried", n > 50, "numbers", *(v.number for v in versions))
print("closures", *(v.definition.target.message.fn.__closure__[0].cell_contents for v in versions))
""",
    )
    ran = kernel.finish(run)
    assert ran.ok, ran.error
    assert "tried True" in ran.stdout
    closures = re.findall(r"closures (\d+) (\d+)", ran.stdout)[0]
    # What a cell has staged when it is interrupted waits for its next publish(), so both are of one call or of two
    # that follow each other; never is one published that the other's publication lacked.
    assert abs(int(closures[0]) - int(closures[1])) <= 1
    numbers = re.findall(r"numbers (\d+) (\d+)", ran.stdout)[0]
    assert int(numbers[0]) > 1


def test_two_apps_in_a_notebook_know_nothing_of_each_other(kernel: Kernel) -> None:
    kernel.check("apps", "from nbws.common import *\none, two = App(), App()\none.start(); two.start()")
    both = "\n".join(
        f'@{app}.ws("/ws")\nasync def handler(text: str): return P("{app} ", text, id="out")' for app in ("one", "two")
    )
    kernel.check("handlers", both)
    with opened(kernel, "one") as first, opened(kernel, "two") as second:
        assert (ask(first), ask(second)) == ("one x", "two x")
        kernel.check("apps", "one, two = App(), App()")
        kernel.check("handlers", both.split("\n@two")[0])  # that of `two` is gone
        assert ask(first) == "one x"
        print_them = "print(len(one.connections), len(two.connections), len(two.endpoints))"
        assert kernel.check("ask", print_them).stdout.split() == ["1", "1", "0"]
        kernel.check("apps", "one, two = App(), App()\ntwo.stop()")
        assert ask(first) == "one x"


def test_one_app_over_several_cells_is_one_app(kernel: Kernel) -> None:
    kernel.check("app", APP)
    for path in ("/a", "/b"):
        kernel.check(path, HANDLER.format(word=path).replace("/ws", path))
    with opened(kernel, path="/a") as a, opened(kernel, path="/b") as b:
        kernel.check("/a", HANDLER.format(word="new").replace("/ws", "/a"))
        assert (ask(a), ask(b)) == ("new x", "/b x")
        kernel.check("app", APP)
        assert (ask(a), ask(b)) == ("new x", "/b x")


MODULE = """
from nbws.common import *
app = App("of a module", token=False)
{more}
@app.ws("/ws")
async def handler(text: str): return P("{word} ", text, id="out")
"""


def test_autoreload_swaps_a_module_that_was_edited_and_rollback_finds_the_old_code(
    kernel: Kernel, tmp_path: Path
) -> None:
    module = tmp_path / "chat_module.py"
    module.write_text(MODULE.format(word="one", more=""))
    kernel.check("load", "%load_ext autoreload\n%autoreload 2")
    kernel.check("import", "from chat_module import app\napp.start()")
    with opened(kernel) as client:
        assert ask(client) == "one x"
        module.write_text(MODULE.format(word="another", more=""))
        kernel.check("any", "1")
        kernel.check("any", "1")
        assert ask(client) == "another x"
        assert version(kernel) == "2"
        kernel.check("back", 'app.endpoints["/ws"].rollback()')
        assert ask(client) == "one x"
        module.write_text(MODULE.format(word="broken", more="1 / 0"))
        kernel.run("any", "1")
        assert ask(client) == "one x"
        assert version(kernel) == "3"


def test_importlib_reload_swaps_and_retires_nothing(kernel: Kernel, tmp_path: Path) -> None:
    module = tmp_path / "reloaded.py"
    other = '@app.ws("/other")\nasync def other(): pass'
    module.write_text(MODULE.format(word="one", more=other))
    kernel.check("import", "import reloaded, importlib\nfrom reloaded import app\napp.start()")
    with opened(kernel) as client:
        module.write_text(MODULE.format(word="another", more=""))
        kernel.check("reload", "importlib.reload(reloaded)")
        assert ask(client) == "another x"
        assert (version(kernel), version(kernel, "/other")) == ("2", "1")
        module.write_text(MODULE.format(word="third", more="1 / 0"))
        assert not kernel.run("reload", "importlib.reload(reloaded)").ok
        assert ask(client) == "another x"
