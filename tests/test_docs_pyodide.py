"""The folder that a page needs for *run it here*: what is in it, and where that is from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from lab import write_nb

import nbws
from nbws import docs_pyodide
from nbws.docs_pyodide import MANIFEST, collect, notebook_cells, run_here, write_page
from nbws.errors import NbwsError
from nbws.notebook.file import Cell

RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
WHEEL = "msgspec-0.20.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl"


@pytest.fixture
def pyodide(tmp_path: Path) -> Path:
    """What looks like a distribution of Pyodide that has a wheel of msgspec."""
    folder = tmp_path / "pyodide"
    folder.mkdir()
    for name in RUNTIME:
        (folder / name).write_text(f"the content of {name}")
    info = {"python": "3.14.2", "abi_version": "2026_0", "arch": "wasm32", "platform": "emscripten_5_0_3"}
    (folder / "pyodide-lock.json").write_text(json.dumps({"info": info, "packages": {"numpy": {}}}))
    (folder / "package.json").write_text('{"version": "314.0.7"}')
    (folder / WHEEL).write_text("a wheel")
    return folder


def manifest_of(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / MANIFEST).read_text())
    return found


def test_all_that_runs_is_in_the_folder_with_its_versions_and_sums(pyodide: Path, tmp_path: Path) -> None:
    shipped = collect(tmp_path / "out", str(pyodide))
    files = {each.file: each for each in shipped if each.sha256}
    assert set(files) == {*RUNTIME, WHEEL}
    for name, each in files.items():
        content = (tmp_path / "out" / name).read_bytes()
        assert content == (pyodide / name).read_bytes()
        assert (each.size, each.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    versions = {each.name: each.version for each in shipped}
    assert versions["Pyodide"] == "314.0.7"
    assert versions["msgspec"] == "0.20.0"
    assert versions["nbws"] == nbws.__version__
    assert {"starlette", "anyio", "markupsafe", "itsdangerous", "python-multipart"} <= set(versions)
    assert not {"uvicorn", "websockets", "click"} & set(versions)
    manifest = manifest_of(tmp_path / "out")
    assert manifest["pyodide"] == {"version": "314.0.7", "base": ""}
    assert manifest["wheels"] == [WHEEL]
    assert "starlette" in (tmp_path / "out" / "NOTICE.txt").read_text()


def test_the_archive_has_code_data_and_licences_and_nothing_compiled(pyodide: Path, tmp_path: Path) -> None:
    collect(tmp_path / "out", str(pyodide))
    with zipfile.ZipFile(tmp_path / "out" / "packages.zip") as archive:
        names = archive.namelist()
        assert archive.read("nbws/app.py") == (Path(nbws.__file__).parent / "app.py").read_bytes()
    assert {"nbws/static/htmx.min.js", "starlette/routing.py", "markupsafe/_native.py"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc"))]
    assert not [name for name in names if "labextension" in name or "inpage-worker" in name]
    assert [name for name in names if name.startswith("starlette-") and "LICENSE" in name]
    assert len(names) == len(set(names))


def test_the_same_packages_make_the_same_archive(pyodide: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        collect(tmp_path / out, str(pyodide))
    assert (tmp_path / "a" / "packages.zip").read_bytes() == (tmp_path / "b" / "packages.zip").read_bytes()


def test_an_older_wheel_goes_when_a_newer_one_comes(pyodide: Path, tmp_path: Path) -> None:
    collect(tmp_path / "out", str(pyodide))
    newer = WHEEL.replace("0.20.0", "0.21.0")
    (pyodide / WHEEL).rename(pyodide / newer)
    collect(tmp_path / "out", str(pyodide))
    assert [path.name for path in (tmp_path / "out").glob("*.whl")] == [newer]


def test_an_address_is_named_and_nothing_of_it_is_copied(tmp_path: Path) -> None:
    shipped = collect(tmp_path / "out", "https://cdn.example/pyodide/v314.0.7/full")
    manifest = manifest_of(tmp_path / "out")
    assert manifest["pyodide"] == {"version": "314.0.7", "base": "https://cdn.example/pyodide/v314.0.7/full/"}
    assert manifest["from_pyodide"] == ["msgspec"]
    assert manifest["wheels"] == []
    assert not (tmp_path / "out" / "pyodide.asm.wasm").exists()
    assert "nbws" in {each.name for each in shipped}


def test_a_folder_that_is_no_pyodide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NbwsError, match=r"has no pyodide\.mjs; `npm pack pyodide`"):
        collect(tmp_path / "out", str(tmp_path))


def test_a_package_that_is_not_installed_is_refused(pyodide: Path, tmp_path: Path) -> None:
    with pytest.raises(NbwsError, match="pip install no-such-package"):
        collect(tmp_path / "out", str(pyodide), ["no-such-package"])


def test_a_package_whose_files_are_not_known_is_refused(
    pyodide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "elsewhere-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "RECORD").write_text("elsewhere-1.0.dist-info/METADATA,,\nelsewhere.pth,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(NbwsError, match="elsewhere does not say which files are its own"):
        collect(tmp_path / "out", str(pyodide), ["elsewhere"])


def test_packages_of_the_notebook_come_along(pyodide: Path, tmp_path: Path) -> None:
    shipped = collect(tmp_path / "out", str(pyodide), ["htpy"])
    assert "htpy" in {each.name for each in shipped}
    with zipfile.ZipFile(tmp_path / "out" / "packages.zip") as archive:
        assert "htpy/__init__.py" in archive.namelist()


def test_a_wheel_that_is_nowhere_is_told_with_what_pip_said(
    pyodide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pyodide / WHEEL).unlink()

    def no_network(command: list[str], **_: object) -> object:
        assert "--platform=pyemscripten_2026_0_wasm32" in command
        assert "--python-version=314" in command
        return docs_pyodide.subprocess.CompletedProcess(command, 1, "", "ERROR: no network")

    monkeypatch.setattr(docs_pyodide.subprocess, "run", no_network)
    with pytest.raises(NbwsError, match=r"(?s)no wheel of it for Pyodide 2026_0.*no network.*folder of Pyodide"):
        collect(tmp_path / "out", str(pyodide))


def test_a_page_that_is_opened_as_a_file_has_all_of_it_in_one_script(pyodide: Path, tmp_path: Path) -> None:
    collect(tmp_path / "out", str(pyodide), opens_as_file=True)
    text = (tmp_path / "out" / "run-here.js").read_text()
    files = json.loads(text.removeprefix("window.nbwsRunHereFiles = ").removesuffix(";\n"))
    assert set(files["gzipped"]) == {*RUNTIME, WHEEL, MANIFEST, "packages.zip", "pyodide-lock.json"}
    for name, encoded in files["gzipped"].items():
        assert gzip.decompress(base64.b64decode(encoded)) == (tmp_path / "out" / name).read_bytes()
    collect(tmp_path / "out", str(pyodide))
    assert not (tmp_path / "out" / "run-here.js").exists()


def test_the_markup_holds_the_cells_whatever_is_in_them() -> None:
    markup = run_here([Cell("a", 1, "'</script><!--'")], base='x"y/')
    assert "</script><!--" not in markup
    data = markup.partition('application/json">')[2].partition("</script>")[0]
    assert json.loads(data)["cells"] == [{"id": "a", "source": "'</script><!--'", "tags": []}]
    assert 'href="x&quot;y/inpage.css"' in markup


def test_hidden_cells_run_but_for_those_of_nbdev_and_those_that_are_not_to_run(tmp_path: Path) -> None:
    cells = ["x = 1", "#| hide\ny = 2", "#| hide\nimport nbdev; nbdev.nbdev_export()", "#| eval: false\nz"]
    write_nb(tmp_path / "a.ipynb", cells)
    assert [cell["source"] for cell in notebook_cells(tmp_path / "a.ipynb")] == cells[:2]


def test_a_page_is_written_with_its_folder(pyodide: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "chat.html", [Cell("a", 1, "app = 1")], str(pyodide), title="Chat & more")
    page = (tmp_path / "chat.html").read_text()
    assert "<title>Chat &amp; more</title>" in page
    assert 'src="run-here/inpage.js"' in page
    assert "://" not in page
    assert (tmp_path / "run-here" / MANIFEST).is_file()
