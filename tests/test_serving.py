"""`serve()`: what it does depends on who calls it. Each program runs in a process of its own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

from clients import free_port

from nbws import App

PROGRAM = """
from nbws.common import *
import {module}, threading

app = App({options})

@app.get("/")
def index():
    return "hello"

serve({arguments})
print("returned")
"""


def program(path: Path, options: str = "", arguments: str = "", module: str = "os") -> Path:
    path.write_text(PROGRAM.format(options=options, arguments=arguments, module=module))
    return path


def run(*arguments: str, cwd: Path, port: int | None = None, code: int = 0) -> str:
    """What a program prints that is to end by itself."""
    env = {**os.environ, "PORT": str(port or free_port())}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_in_an_imported_module_it_does_nothing(tmp_path: Path) -> None:
    program(tmp_path / "web.py")
    said = run("-c", "import web, threading; print(threading.active_count(), web.app.is_running)", cwd=tmp_path)
    assert "returned" in said
    assert "1 False" in said


def test_where_the_program_is_run_by_exec_it_starts_and_returns(tmp_path: Path) -> None:
    program(tmp_path / "web.py")
    port = free_port()
    code = (
        "import urllib.request; space = {'__name__': '__main__'}; exec(open('web.py').read(), space); "
        "app = space['app']; print(urllib.request.urlopen(app.url).read()); app.stop()"
    )
    said = run("-c", code, cwd=tmp_path, port=port)
    assert "returned" in said
    assert "b'hello'" in said
    assert f"localhost:{port}" in said


def test_where_the_program_is_run_by_runpy_it_starts_and_returns(tmp_path: Path) -> None:
    program(tmp_path / "web.py")
    code = "import runpy; app = runpy.run_path('web.py', run_name='__main__')['app']; print(app.is_running); app.stop()"
    said = run("-c", code, cwd=tmp_path)
    assert "returned" in said
    assert "True" in said


def test_where_the_program_has_another_name_it_does_nothing(tmp_path: Path) -> None:
    app = runpy.run_path(str(program(tmp_path / "web.py", arguments="appname='web'")))["app"]
    assert not app.is_running


def test_in_a_running_loop_it_starts_and_returns(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "import asyncio\nfrom nbws.common import *\napp = App()\n"
        "async def main():\n    serve()\n    print(app.is_running)\n    app.stop()\nasyncio.run(main())\n"
    )
    assert "True" in run("web.py", cwd=tmp_path)


def test_it_finds_the_app_by_name_by_being_the_only_one_or_as_it_is_given(tmp_path: Path) -> None:
    code = ""
    for name, arguments in (("app", ""), ("server", ""), ("server", "app=server"), ("server", "app='server'")):
        source = f"from nbws.common import *; {name} = App(); serve({arguments}); print({name}.is_running)"
        code += f"space = {{'__name__': '__main__'}}; exec({source!r}, space); space['{name}'].stop()\n"
    assert run("-c", code, cwd=tmp_path).count("True") == 4


def test_where_there_is_no_app_it_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text("from nbws.common import *\nserve()\n")
    assert "serve() finds no App named 'app' here; call serve(app=...)" in run("web.py", cwd=tmp_path, code=1)
    (tmp_path / "web.py").write_text("from nbws.common import *\na, b = App(), App()\nserve()\n")
    assert "serve() finds no App named 'app' here" in run("web.py", cwd=tmp_path, code=1)


def test_host_and_port_are_those_that_are_given(tmp_path: Path) -> None:
    port = free_port()
    program(tmp_path / "web.py", arguments=f"host='localhost', port={port}, reload=True")
    code = (
        "import urllib.request, runpy; app = runpy.run_path('web.py', run_name='__main__')['app']; "
        "print(app.url, urllib.request.urlopen(app.url).read()); app.stop()"
    )
    assert f"http://localhost:{port} b'hello'" in run("-c", code, cwd=tmp_path)


def test_a_taken_port_ends_the_script_with_what_to_do(tmp_path: Path) -> None:
    app = App(port=0)
    app.start()
    try:
        program(tmp_path / "web.py")
        said = run("web.py", cwd=tmp_path, port=app.port, code=1)
    finally:
        app.stop()
    assert f"port {app.options.port or ''}" in said
    assert "is taken by another program; stop it" in said


def test_a_startup_that_fails_ends_the_script_with_its_reason(tmp_path: Path) -> None:
    program(tmp_path / "web.py", options="on_startup=lambda: 1 // 0")
    assert "the server did not start: ZeroDivisionError" in run("web.py", cwd=tmp_path, code=1)


def test_a_script_with_a_module_run_by_m_serves(tmp_path: Path) -> None:
    program(
        tmp_path / "web.py", options="on_startup=lambda: threading.Timer(0.2, lambda: os.kill(os.getpid(), 2)).start()"
    )
    said = run("-m", "web", cwd=tmp_path)
    assert "returned" in said
    assert "Traceback" not in said


def test_a_port_of_the_environment_that_is_none_says_so(tmp_path: Path) -> None:
    program(tmp_path / "web.py")
    done = subprocess.run(
        [sys.executable, "web.py"],
        cwd=tmp_path,
        env={**os.environ, "PORT": "eighty"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert "PORT" in done.stderr
    assert "eighty" in done.stderr
