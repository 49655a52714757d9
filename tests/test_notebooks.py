"""The notebooks run from top to bottom, headless, and do what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from kernel import Kernel
from nbclient import NotebookClient
from websockets.sync.client import ClientConnection, connect

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_headless(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert (cell.get("outputs") or [], cell.get("execution_count")) == ([], None), cell["id"]


def code_cells(name: str) -> dict[str, str]:
    """The code of each code cell, by the cell's id."""
    cells = json.loads(next(path for path in NOTEBOOKS if path.stem == name).read_text())["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


@contextmanager
def connected(kernel: Kernel, path: str) -> Iterator[ClientConnection]:
    url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
    with connect(f"{url.replace('http', 'ws')}{path}?token={token}") as client:
        yield client


def test_the_chat_notebook_is_a_chat_in_six_short_cells_swapped_live() -> None:
    cells = code_cells("01-chat")
    assert list(cells) == ["app", "page", "handler", "preview", "swap", "look"]
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel:
        for cell in ("app", "page", "handler", "preview"):
            kernel.check(cell, cells[cell])
        with connected(kernel, "/chat") as client:
            client.send(json.dumps({"text": "hi"}))
            assert "<li>hi</li>" in str(client.recv(timeout=10))
            kernel.check("swap", cells["swap"])
            client.send(json.dumps({"text": "again"}))
            assert re.search("<strong>Guest [0-9a-f]{4}</strong>: again", str(client.recv(timeout=10)))
            assert "<td>/chat</td><td>v2</td><td>1</td>" in kernel.check("look", cells["look"]).html


Places = frozenset[tuple[int, int]]
GLIDER: Places = frozenset({(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)})


def moved(cells: Places, by: tuple[int, int]) -> Places:
    return frozenset(((x + by[0]) % 60, (y + by[1]) % 40) for x, y in cells)


def is_glider(cells: Places, at: tuple[int, int]) -> bool:
    """Whether *cells* are a glider that has moved on from *at*, down and to the right."""
    return any(cells == moved(GLIDER, (at[0] + steps, at[1] + steps)) for steps in range(1, 30))


class Player:
    """Somebody at the board of the Game of Life, over one websocket; sees what its page would show."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.rule = self.button = ""
        self.cells: dict[str, Places] = {}  # by the class of their colour

    def press(self, do: str) -> None:
        self._socket.send(json.dumps({"do": do}))

    def draw(self, cells: Places) -> None:
        for x, y in cells:
            self._socket.send(json.dumps({"x": (x + 0.5) / 60, "y": (y + 0.5) / 40, "begins": True}))

    def look(self) -> None:
        """Wait for the next message, and take it in."""
        frame = str(self._socket.recv(timeout=10))
        if rule := re.search("<h1[^>]*>(.*?)</h1>", frame):
            self.rule = rule[1]
        if button := re.search('<span id="pause"[^>]*>(.*?)</span>', frame):
            self.button = button[1]
        if "<svg" in frame:
            paths = re.findall('<path d="(.*?)" class="(.*?)">', frame)
            self.cells = {
                colour: frozenset((int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", path))
                for path, colour in paths
            }


@contextmanager
def life(kernel: Kernel, cells: dict[str, str]) -> Iterator[Player]:
    """The game as it is before it has a rule: paused, with a glider at (10, 10)."""
    for cell in list(cells)[: list(cells).index("around") + 1]:
        kernel.check(cell, cells[cell])
    with connected(kernel, "/life") as socket:
        player = Player(socket)
        player.press("pause")
        player.press("clear")
        player.draw(moved(GLIDER, (10, 10)))
        while player.cells != {"p1": moved(GLIDER, (10, 10))} or player.button != "Play":
            player.look()
        assert player.rule == "Nothing moves yet"
        yield player


def test_in_the_game_of_life_the_rule_is_swapped_under_its_players_and_the_board_stays() -> None:
    cells = code_cells("03-game-of-life")
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel, life(kernel, cells) as player:
        kernel.check("rule", cells["rule"])
        player.press("pause")
        while not is_glider(player.cells.get("p0", frozenset()), (10, 10)) or "p1" in player.cells:
            player.look()
        assert (player.rule, player.button) == ("Conway&#39;s Life", "Pause")
        kernel.check("colours", cells["colours"])
        while player.rule != "Life in colours":
            player.look()
        assert set(player.cells) == {"p0"}, "the glider that nobody owns is on the board still"
        player.press("pause")
        player.draw(moved(GLIDER, (40, 10)))
        player.press("pause")
        while not is_glider(player.cells.get("p1", frozenset()), (40, 10)):
            player.look()
        assert (set(player.cells), len(player.cells["p0"])) == ({"p0", "p1"}, 5)
        assert "+        at: state.cells.get(at, mode(near))" in kernel.check("look", cells["look"]).stdout
        rolled_back = kernel.check("back", 'app.endpoints["TASK tick"].rollback(); print(len(app.connections))')
        assert rolled_back.stdout == "1\n"
        while player.rule != "Conway&#39;s Life" or "p1" in player.cells:
            player.look()


def test_in_the_game_of_life_a_rule_that_fails_stops_the_board_and_nobody_else() -> None:
    cells = code_cells("03-game-of-life")
    broken = cells["rule"].replace("(state):\n", "(state):\n    1 / 0\n")
    with Kernel() as kernel, life(kernel, cells) as player:
        kernel.check("rule", cells["rule"])
        assert not kernel.run("rule", cells["rule"].replace("{3}", "{3")).ok
        while player.rule != "Conway&#39;s Life":
            player.look()
        request = kernel.start("rule", broken)
        assert kernel.finish(request).ok
        kernel.wait_for_text(request, "tick v2 on TASK tick: ZeroDivisionError")
        player.draw(moved(GLIDER, (40, 10)))
        player.press("pause")
        while len(player.cells["p1"]) != 10 or player.button != "Pause":
            player.look()
        kernel.check("rule", cells["rule"])
        while not is_glider(frozenset(c for c in player.cells.get("p0", frozenset()) if c[0] > 35), (40, 10)):
            player.look()
