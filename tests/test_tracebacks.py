"""Tracebacks without the frames of what ran the code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbws.errors
from nbws.tracebacks import author_traceback

HERE = sys.modules[__name__]


def raised(source: str, path: Path) -> BaseException:
    path.write_text(source)
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), {"__name__": "web"})
    except BaseException as exc:
        return exc
    raise AssertionError("the code was to raise")


def test_frames_of_nbws_and_the_import_system_are_left_out(tmp_path: Path) -> None:
    helper = tmp_path / "helper_of_tracebacks.py"
    helper.write_text("from nbws import App\nApp().ws('/ws')(lambda nonsense: 0)\n")
    source = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport helper_of_tracebacks\n"
    told = author_traceback(raised(source, tmp_path / "web.py"), [HERE])
    assert told.count("  File ") == 2
    assert f'File "{tmp_path / "web.py"}", line 3' in told
    assert f'File "{helper}", line 2' in told
    assert str(Path(nbws.errors.__file__).parent) not in told
    assert "DefinitionError" in told.splitlines()[-1]


def test_frames_of_libraries_stay_unless_they_are_named_as_machinery(tmp_path: Path) -> None:
    error = raised("import json\njson.loads('{')\n", tmp_path / "web.py")
    assert "decoder.py" in author_traceback(error, [HERE])
    assert "decoder.py" not in author_traceback(error, [HERE, json])


def test_what_it_was_raised_from_is_trimmed_too(tmp_path: Path) -> None:
    source = "from nbws import App\ntry: App(titel=1)\nexcept TypeError as exc: raise ValueError('x') from exc"
    told = author_traceback(raised(source, tmp_path / "web.py"), [HERE])
    assert "direct cause" in told
    assert "DefinitionError: App has no option" in told
    assert told.count("  File ") == 2


def test_a_syntax_error_is_where_it_is_in_the_file(tmp_path: Path) -> None:
    told = author_traceback(raised("x = 1\ndef (\n", tmp_path / "web.py"), [HERE])
    assert told.startswith(f'  File "{tmp_path / "web.py"}", line 2\n')
    assert told.endswith("SyntaxError: invalid syntax\n")
