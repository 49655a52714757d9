"""What `nbws dev` is to an app, and who is told of runs."""

from __future__ import annotations

from typing import Any

from clients import free_port, running

from nbws import App
from nbws.runs import Development, Runs, developing, development, importing_module


def test_an_app_is_in_development_for_as_long_as_its_author_is_at_work() -> None:
    app = App(port=0)
    assert not app.in_development
    with developing(Development()) as present:
        assert development() is present
        assert app.in_development
    assert development() is None
    assert not app.in_development


def test_the_first_app_that_starts_listens_where_the_command_line_says() -> None:
    port = free_port()
    first, second = App(port=1), App(port=0)
    with developing(Development(host="localhost", port=port)):
        with running(first), running(second):
            assert first.url == f"http://localhost:{port}"
            assert second.url != first.url
        with running(second):
            assert second.port == port


def test_without_an_address_of_the_command_line_that_of_the_app_counts() -> None:
    with developing(Development()), running(App(port=0, host="localhost")) as app:
        assert app.url.startswith("http://localhost:")


def test_a_listener_that_nobody_holds_is_told_no_more() -> None:
    class Listener:
        def run_begins(self, run: Any) -> None: ...
        def run_ends(self, run: Any, succeeded: bool) -> None: ...
        def check_run(self, run: Any) -> None: ...

    runs, listener = Runs(), Listener()
    runs.listen(listener)
    assert runs.listeners == (listener,)
    del listener
    assert runs.listeners == ()


def test_the_module_whose_body_runs_is_known() -> None:
    names: dict[str, Any] = {"__name__": "some_module", "found": importing_module}
    exec("def f(): return found()\nmodule = f()\nown = found(globals())", names)
    assert names["module"] == "some_module"
    assert names["own"] is None
