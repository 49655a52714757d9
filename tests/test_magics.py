"""`%%ws` and `%nbws` in a real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel import Kernel

ASK = "with app.client(sync=True) as c, c.ws({path!r}) as v: print(v.ask(**{fields!r}))"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel


@pytest.fixture
def author(kernel: Kernel) -> Kernel:
    kernel.check("import", "%reset -f\nfrom nbws.common import *\nfrom nbws import App")
    kernel.check("app", "app = App()")
    return kernel


def ask(kernel: Kernel, path: str, **fields: object) -> str:
    return kernel.check("ask", ASK.format(path=path, fields=fields)).stdout.strip()


def test_a_cell_is_a_handler_and_is_swapped_when_it_is_run_again(author: Kernel) -> None:
    author.check("handler", "%%ws /chat/{room} text: str, room: str\nP(room, ': ', text, id='out')")
    assert ask(author, "/chat/a", text="hi") == '<p id="out" hx-swap-oob="true">a: hi</p>'
    author.check("handler", "%%ws /chat/{room} text: str, room: str\nP(text.upper(), id='out')")
    assert ask(author, "/chat/a", text="hi") == '<p id="out" hx-swap-oob="true">HI</p>'
    assert author.check("look", "print(app.endpoints['/chat/{room}'].version)").stdout.strip() == "2"
    diff = author.check("look", "print(app.endpoints['/chat/{room}'].diff())").stdout
    assert "-P(room, ': ', text, id='out')" in diff
    assert "+P(text.upper(), id='out')" in diff


def test_its_body_may_await_return_and_yield(author: Kernel) -> None:
    author.check(
        "one", "%%ws /one n: int\nif n > 5:\n    return P('many', id='n')\nawait asyncio.sleep(0)\nP(n, id='n')"
    )
    author.check("two", "%%ws /two n: int\nfor each in range(n):\n    yield P(each, id='n')")
    assert ask(author, "/one", n=9) == '<p id="n" hx-swap-oob="true">many</p>'
    assert ask(author, "/one", n=2) == '<p id="n" hx-swap-oob="true">2</p>'
    assert ask(author, "/two", n=2) == '<p id="n" hx-swap-oob="true">0</p>'


def test_an_error_in_it_is_shown_with_the_line_of_the_cell(author: Kernel) -> None:
    author.check("handler", "%%ws /fails text: str\nnumber = 1\nnumber / 0  # here")
    fails = "    v.send(text='x')\n    while not app.errors: time.sleep(0.01)"
    author.check("ask", f"with app.client(sync=True) as c, c.ws('/fails') as v:\n{fails}")
    shown = author.check("look", "print(app.errors[-1].traceback)").stdout
    assert "number / 0  # here" in shown
    assert "ZeroDivisionError" in shown


def test_hooks_are_named_and_so_is_the_app_where_there_are_two(author: Kernel) -> None:
    author.check("more", "other = App()\ndef joined(ws): ws.state.n = 41")
    author.check(
        "handler", "%%ws /count text: str, ws --conn joined --app other\nws.state.n += 1\nP(ws.state.n, id='n')"
    )
    said = author.check("ask", ASK.replace("app.", "other.").format(path="/count", fields={"text": "x"})).stdout
    assert "42" in said
    assert "/count" in author.check("list", "%nbws other").value
    assert "/count" not in author.check("list", "%nbws").value  # of two, the one that is called app


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%ws\n1", "no path; write %%ws PATH"),
        ("%%ws chat\n1", "the path 'chat'"),
        ("%%ws /chat text: \n1", "are no parameters"),
        ("%%ws /chat text\n1", "neither an annotation nor a reserved name"),
        ("%%ws /chat text: str --when now\n1", "--when"),
        ("%%ws /chat text: str --app none\n1", "there is no app 'none'"),
        ("%%ws /chat text: str --conn nobody\n1", "there is no nobody"),
        ("%%ws /chat text: str\nif:", "SyntaxError"),
        ("%nbws none", "there is no app 'none'"),
    ],
)
def test_what_cannot_work_says_what_to_write(author: Kernel, cell: str, said: str) -> None:
    author.check("handler", "%%ws /chat text: str\nP(text, id='out')")
    assert said in author.run("other", cell).error
    assert ask(author, "/chat", text="still here") == '<p id="out" hx-swap-oob="true">still here</p>'


def test_help_and_completion_tell_of_them(author: Kernel) -> None:
    assert "--disconn" in author.check("help", "print(get_ipython().find_cell_magic('ws').__doc__)").stdout
    help_of_ws = "print(get_ipython().inspector.info(app.ws, oname='app.ws')['docstring'])"
    assert "A websocket endpoint" in author.check("help", help_of_ws).stdout
    completes = "print(list(c.text for c in get_ipython().Completer.completions('app.endp', 8)))"
    assert (
        "endpoints" in author.check("complete", "import warnings; warnings.simplefilter('ignore')\n" + completes).stdout
    )


def test_the_extension_brings_them_without_an_app() -> None:
    with Kernel() as kernel:
        kernel.check("load", "%load_ext nbws")
        assert "which app? There is none; app = App() makes one" in kernel.run("list", "%nbws").error
