"""*Run it here*: what a page of docs needs beside it, so that the real app runs in the reader's browser.

`collect` fills a folder: the Python that runs in a browser (Pyodide), nbws and the packages that it runs on, the
scripts of the page, and a manifest that names it all. What is installed here and is pure Python is taken as it is
installed, so that the page runs what its author runs; compiled packages come from the folder of Pyodide, or by pip.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbws
from nbws.errors import NbwsError
from nbws.notebook.file import Cell, cells_in

__all__ = [
    "MANIFEST",
    "RUN_HERE",
    "Pyodide",
    "Shipped",
    "collect",
    "notebook_cells",
    "page_parts",
    "run_here",
    "write_page",
]

RUN_HERE = "run-here"
"""What the folder is called, beside a page that it is for."""

MANIFEST = "run-here.json"
PACKAGES = "packages.zip"
AS_SCRIPT = "run-here.js"

_HOME = Path(nbws.__file__).parent
_SCRIPTS = ("inpage.js", "inpage.css", "inpage-worker.js")
_RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_NOT_SHIPPED = (".pyi", ".pyc", ".typed", *_COMPILED)

# Of the server, the command line and the resolver of host names: none of it is imported where there are no ports.
_LEFT_OUT = frozenset(("uvicorn", "websockets", "click", "idna"))
# Its C part is a speed-up alone: markupsafe/__init__.py takes markupsafe/_native.py where it cannot be imported.
_HAS_PURE_TWIN = frozenset(("markupsafe",))
_OF_NBDEV = re.compile(r"^\s*(?:import|from)\s+nbdev\b", re.MULTILINE)
_EPOCH = (2020, 1, 1, 0, 0, 0)  #: of all files in the archive, so that the same content is the same archive


@dataclass(frozen=True)
class Shipped:
    """One file that was put into the folder, or one package in it."""

    name: str
    version: str
    license: str
    file: str  #: in the folder; empty where it comes from the address of Pyodide
    size: int = 0  #: bytes
    sha256: str = ""


@dataclass(frozen=True)
class Pyodide:
    """A distribution of Pyodide: a folder as `npm pack pyodide` unpacks, or the address of one."""

    where: str

    @property
    def folder(self) -> Path | None:
        """None where it is an address, which each reader's browser loads from then."""
        return None if self.where.startswith(("https://", "http://")) else Path(self.where)

    def info(self) -> dict[str, str]:
        """What its lock file says of it: "python", "abi_version", "arch". Raises NbwsError where there is none."""
        if self.folder is None:
            return {"python": "3.14.0"}
        missing = [name for name in (*_RUNTIME, "pyodide-lock.json") if not (self.folder / name).is_file()]
        if missing:
            raise NbwsError(
                f"{self.folder} is no Pyodide, it has no {missing[0]}; `npm pack pyodide` and `tar xzf pyodide-*.tgz` "
                "make a folder `package` that is one"
            )
        lock = json.loads((self.folder / "pyodide-lock.json").read_text(encoding="utf-8"))
        info: dict[str, str] = lock["info"]
        return info

    def version(self) -> str:
        if self.folder is None:
            found = re.search(r"/v?(\d+[\w.]*)/", self.where)
            return found[1] if found else ""
        package = self.folder / "package.json"
        return str(json.loads(package.read_text(encoding="utf-8"))["version"]) if package.is_file() else ""

    def wheel(self, name: str) -> Path | None:
        """The wheel of *name* in its folder, as the full distribution has it; None where there is none."""
        if self.folder is None:
            return None
        found = sorted(self.folder.glob(f"{name.replace('-', '_')}-*.whl"))
        return found[-1] if found else None


def collect(out: Path, pyodide: str, packages: Iterable[str] = (), *, opens_as_file: bool = False) -> list[Shipped]:
    """Put all that a page needs into *out*, and give what that is.

    *pyodide* is the folder of a distribution, which is copied; or its address (`https://...`), from which each reader's
    browser then loads Python and compiled packages. *packages* are those that the notebook imports beside nbws.
    With *opens_as_file* all of it is there once more as a script, for pages that are opened as files, with no server:
    browsers load nothing else there. Raises NbwsError where something is not to be had.
    """
    source = Pyodide(pyodide)
    info = source.info()
    out.mkdir(parents=True, exist_ok=True)
    for name in _SCRIPTS:
        shutil.copyfile(_HOME / "static" / name, out / name)
    runtime: list[Shipped] = []
    if source.folder is not None:
        for name in _RUNTIME:
            shutil.copyfile(source.folder / name, out / name)
            runtime.append(_shipped("Pyodide", source.version(), "MPL-2.0, PSF-2.0", out / name))
        # Its own names 357 packages, which are not here.
        lock = json.dumps({"info": info, "packages": {}})
        (out / "pyodide-lock.json").write_text(lock, encoding="utf-8")
    pure, compiled = _sorted_out(packages, info["python"])
    inside = _archive(out / PACKAGES, pure)
    wheels = [_wheel(out, source, info, name) for name in compiled]
    home = "" if source.folder is not None else _with_slash(source.where)
    manifest = {
        "format": 1,
        "pyodide": {"version": source.version(), "base": home},
        "packages": PACKAGES,
        "wheels": [each.file for each in wheels if each.file],
        "from_pyodide": [each.name for each in wheels if not each.file],
        "bytes": sum(path.stat().st_size for path in map(out.joinpath, _names(runtime, wheels))),
        "shipped": [asdict(each) for each in (*runtime, *inside, *wheels)],
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (out / AS_SCRIPT).unlink(missing_ok=True)
    if opens_as_file and source.folder is not None:
        _write_as_script(out, [MANIFEST, "pyodide-lock.json", *_names(runtime, wheels)])
    (out / "NOTICE.txt").write_text(_notice([*runtime, *inside, *wheels]), encoding="utf-8")
    return [*runtime, *inside, *wheels]


def _write_as_script(out: Path, names: Iterable[str]) -> None:
    gzipped = {name: base64.b64encode(gzip.compress((out / name).read_bytes(), mtime=0)).decode() for name in names}
    files = {"worker": (out / "inpage-worker.js").read_text(encoding="utf-8"), "gzipped": gzipped}
    (out / AS_SCRIPT).write_text(f"window.nbwsRunHereFiles = {json.dumps(files)};\n", encoding="utf-8")


def _names(runtime: Iterable[Shipped], wheels: Iterable[Shipped]) -> list[str]:
    return [PACKAGES, *(each.file for each in (*runtime, *wheels) if each.file)]


def _with_slash(address: str) -> str:
    return address if address.endswith("/") else f"{address}/"


def _shipped(name: str, version: str, license: str, path: Path) -> Shipped:
    content = path.read_bytes()
    return Shipped(name, version, license, path.name, len(content), hashlib.sha256(content).hexdigest())


# -- which packages


def _sorted_out(packages: Iterable[str], python: str) -> tuple[list[str], list[str]]:
    """(those of nbws' and *packages*' requirements that are pure Python here, those that are not)."""
    pure: list[str] = []
    compiled: list[str] = []
    for name in _closure(["nbws", *packages], python):
        (pure if name == "nbws" or _is_pure(name) else compiled).append(name)
    return pure, compiled


def _closure(names: Iterable[str], python: str) -> list[str]:
    """*names* and all that they require, where *python* runs in a browser."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise NbwsError("a page that runs its app needs `packaging`; pip install 'nbws[docs]' has it") from None
    environment = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "sys_platform": "emscripten",
        "platform_system": "Emscripten",
        "platform_machine": "wasm32",
        "os_name": "posix",
        "extra": "",
    }
    found: list[str] = []
    waiting = [_normal(name) for name in names]
    while waiting:
        name = waiting.pop(0)
        if name in found or name in _LEFT_OUT:
            continue
        found.append(name)
        for line in _distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                waiting.append(_normal(requirement.name))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise NbwsError(f"the page is to have {name}, which is not installed here; pip install {name}") from None


def _is_pure(name: str) -> bool:
    if name in _HAS_PURE_TWIN:
        return True
    return not any(str(file).endswith(_COMPILED) for file in _distribution(name).files or ())


def _license(name: str) -> str:
    about = _distribution(name).metadata
    said = next((about[field] for field in ("License-Expression", "License") if field in about), "")
    classified = [line.rpartition(":: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License")]
    return said if said and "\n" not in said else ", ".join(classified)


# -- pure ones: in one archive


def _archive(path: Path, names: Sequence[str]) -> list[Shipped]:
    """Write the files of *names* into one archive. Gives what is in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            for inside, file in sorted(_files_of(name)):
                entry = zipfile.ZipInfo(inside, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return [_packed(name, path) for name in names]


def _packed(name: str, path: Path) -> Shipped:
    version = nbws.__version__ if name == "nbws" else _distribution(name).version
    return Shipped(name, version, _license(name), path.name)


def _files_of(name: str) -> Iterator[tuple[str, Path]]:
    """(the name in the archive, the file) of a package: its code, its data and its licences."""
    if name == "nbws":  # from where it is imported: an editable installation lists no files of it
        files = (file for file in _HOME.rglob("*") if file.is_file())
        named = [(f"nbws/{file.relative_to(_HOME).as_posix()}", file) for file in files]
        yield from ((inside, file) for inside, file in named if _is_shipped(inside) and not _is_of_docs(inside))
    files_there = _distribution(name).files or ()
    if name != "nbws" and not any(file.suffix == ".py" for file in files_there):
        raise NbwsError(
            f"{name} does not say which files are its own, as one that is installed editable; install it anew"
        )
    for file in files_there:
        inside = file.as_posix()
        if inside.startswith("..") or (name == "nbws" and not _is_metadata(inside)):
            continue
        if _is_shipped(inside):
            yield inside, Path(str(file.locate()))


def _is_metadata(inside: str) -> bool:
    return inside.partition("/")[0].endswith(".dist-info")


def _is_shipped(inside: str) -> bool:
    if _is_metadata(inside):
        return inside.endswith("/METADATA") or "licen" in inside.lower()
    parts = inside.split("/")
    return not inside.endswith(_NOT_SHIPPED) and not {"__pycache__", "tests", "test"} & set(parts[:-1])


def _is_of_docs(inside: str) -> bool:
    """What of nbws is for JupyterLab, or for the page around the app."""
    return inside.startswith("nbws/labextension/") or inside.rpartition("/")[2] in _SCRIPTS


# -- compiled ones: wheels


def _wheel(out: Path, source: Pyodide, info: Mapping[str, str], name: str) -> Shipped:
    """Put the wheel of *name* for Pyodide into *out*."""
    if source.folder is None:
        return Shipped(name, "", _license(name), "")  # by its address, as its lock file says
    found = source.wheel(name)
    if found is not None:
        shutil.copyfile(found, out / found.name)
    else:
        found = _downloaded(out, info, name)
    for other in out.glob(f"{name.replace('-', '_')}-*.whl"):
        if other.name != found.name:
            other.unlink()  # of an earlier build
    return _shipped(name, found.name.split("-")[1], _license(name), out / found.name)


def _downloaded(out: Path, info: Mapping[str, str], name: str) -> Path:
    """The wheel by pip: of the version that is installed here where there is one, else of the newest."""
    python = "".join(info["python"].split(".")[:2])
    abi = info["abi_version"]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    options += [f"--abi=cp{python}", f"--platform=pyemscripten_{abi}_wasm32", f"--platform=pyodide_{abi}_wasm32"]
    said = ""
    for asked in (f"{name}=={_distribution(name).version}", name):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", *options]
            done = subprocess.run([*command, "-d", folder, asked], capture_output=True, text=True)
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode == 0 and wheels:
                return Path(shutil.copyfile(wheels[0], out / wheels[0].name))
            said = done.stderr.strip()
    raise NbwsError(
        f"{name} is compiled, and pip has found no wheel of it for Pyodide {abi} (Python {info['python']}): {said}\n"
        f"Put one into the folder of Pyodide; its full distribution has it."
    )


def _notice(shipped: Iterable[Shipped]) -> str:
    known = {each.name: each for each in shipped}.values()
    lines = [f"{each.name} {each.version}: {each.license or 'see its metadata'}".replace("  ", " ") for each in known]
    return (
        "The app of this page runs in your browser by what is in this folder.\n\n"
        + "\n".join(lines)
        + "\n\nPyodide is CPython compiled to WebAssembly: https://pyodide.org\n"
        + f"The licences of the packages are in {PACKAGES} and in the wheels.\n"
    )


# -- the page


def run_here(
    cells: Sequence[Cell], *, base: str = "run-here/", clients: int = 2, path: str = "/", ready: bool = False
) -> str:
    """The HTML of *run it here*, for a page that has the folder of `collect` at *base*.

    *clients* is how many see the page at *path*, where no cell shows the app. *ready* starts it when the page is
    opened, without a button.
    """
    given = [{"id": cell.id, "source": cell.source, "tags": cell.tags} for cell in cells]
    options = {"base": base, "cells": given, "clients": clients, "path": path, "ready": ready}
    data = json.dumps(options, ensure_ascii=False).replace("<", "\\u003c")
    at = html.escape(base)
    return (
        f'<link rel="stylesheet" href="{at}inpage.css">\n'
        f'<div class="nbws-run"><script type="application/json">{data}</script></div>\n'
        f'<script src="{at}inpage.js"></script>\n'
    )


def notebook_cells(path: Path) -> list[dict[str, Any]]:
    """The cells of the notebook at *path* that are to be run, for `nbwsRunHere`.

    Hidden ones are among them, but for those that import nbdev: they are about the notebook, not the app.
    """
    cells = [cell for cell in cells_in(path.read_text(encoding="utf-8")) if not _OF_NBDEV.search(cell.source)]
    return [{"id": cell.id, "source": cell.source, "tags": list(cell.tags)} for cell in cells]


def page_parts() -> tuple[str, str]:
    """(the script, the style) of a page that calls `nbwsRunHere`, to stand in the page itself."""
    script, style = ((_HOME / "static" / name).read_text(encoding="utf-8") for name in _SCRIPTS[:2])
    return script, style


def write_page(
    file: Path, cells: Sequence[Cell], pyodide: str, *, title: str = "", packages: Iterable[str] = (), **options: Any
) -> list[Shipped]:
    """Write a page that runs *cells* into *file*, and what it runs with into a folder `run-here` beside it."""
    shipped = collect(file.parent / RUN_HERE, pyodide, packages, opens_as_file=True)
    name = html.escape(title or file.stem)
    file.write_text(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title>\n"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem;background:#fff;"
        "color:#1f2328}h1{font-size:1.4rem}@media(prefers-color-scheme:dark){body{background:#15181d;color:#e4e7ec}}"
        f"</style></head>\n<body><h1>{name}</h1>\n{run_here(cells, **options)}</body></html>\n",
        encoding="utf-8",
    )
    return shipped
