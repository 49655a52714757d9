#!/usr/bin/env python3
"""The three commands of an nbws checkout.

    python3 dev.py lab [NOTEBOOK] [JUPYTER ARGS]   JupyterLab on notebooks/01-chat.ipynb, or on NOTEBOOK
    python3 dev.py test                            every check: ruff, mypy, lint-imports, pytest
    python3 dev.py test PYTEST-ARGS                pytest alone, with these arguments
    python3 dev.py docs                            the documentation, as pages in docs/_build/html
    python3 dev.py docs --check                    the same, where a warning or a link that leads nowhere is an error

All install nbws into .venv beside this file first, which takes a minute once and again
when pyproject.toml changes. A lone -- before the extra arguments is dropped.

NBWS_CHROMIUM names the browser of the browser tests when it is not in a usual place.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

# Ahead of every def: below this line an older Python would fail over annotations instead.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        f"dev.py: nbws needs Python 3.10 or newer, and {sys.executable} is "
        f"{sys.version.split()[0]}; run dev.py with a newer python3"
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
VENV_PYTHON = VENV_BIN / ("python.exe" if os.name == "nt" else "python")
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

DEV_EXTRAS = "dev"
LAB_EXTRAS = "lab,fast,export"  # `dev` brings these along
DOCS_EXTRAS = "docs,lab,test"  # the reference imports what knows Jupyter and pytest
FIRST_NOTEBOOK = ROOT / "notebooks" / "01-chat.ipynb"
DOCS = ROOT / "docs"

# What a login shell of root has; apt's dpkg wants the sbin directories too.
POSIX_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CHROMIUM_COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
# Without a font pages are blank boxes; the Node.js in playwright's wheel links to libatomic.
CHROMIUM_PACKAGES = ("chromium", "fonts-dejavu-core", "libatomic1")
MAC_CHROMIUM = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
WINDOWS_CHROMIUM = (
    "Google/Chrome/Application/chrome.exe",
    "Chromium/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
)


def main(argv: list[str]) -> int:
    command, args = (argv[0] if argv else "--help"), argv[1:]
    if command in ("-h", "--help") or args in (["-h"], ["--help"]):
        print(__doc__, end="")
        return 0
    if not os.environ.get("PATH") and os.name == "posix":
        os.environ["PATH"] = POSIX_PATH
        if not sys.executable:  # without PATH a Python that was started by its bare name cannot tell
            os.execvp(sys.orig_argv[0], sys.orig_argv)
    if command == "lab":
        return lab(args)
    if command == "test":
        return test(args)
    if command == "docs":
        return docs(args)
    return fail(f"no command {command!r}; there are lab, test and docs", code=2)


def lab(args: list[str]) -> int:
    """Run JupyterLab in the foreground; on posix it takes this process over."""
    notebook = FIRST_NOTEBOOK
    if args and not args[0].startswith("-"):
        notebook = Path(args[0]).resolve()
        if not notebook.exists():
            notebook = ROOT / args[0]
        args = args[1:]
    if not notebook.exists():
        return fail(f"there is no notebook {notebook}", code=2)
    args = args[1:] if args[:1] == ["--"] else args

    python = installed(LAB_EXTRAS)
    if is_root() and "--allow-root" not in args:
        args = ["--allow-root", *args]
    if notebook.is_relative_to(ROOT) and not any(arg.startswith("--ServerApp.root_dir") for arg in args):
        args = [f"--ServerApp.root_dir={ROOT}", *args]
    command = [str(python), "-m", "jupyterlab", str(notebook), *args]
    activate()
    os.chdir(ROOT)
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return run(command)


def test(args: list[str]) -> int:
    """Run the checks and return the exit code of the first that fails, or 0."""
    python = str(installed(DEV_EXTRAS))
    chromium = find_chromium() or install_chromium()
    if chromium:
        os.environ["NBWS_CHROMIUM"] = chromium
    activate()

    # In three processes on two cores, file by file: half of its time is waiting for sockets, kernels and browsers.
    pytest = [python, "-m", "pytest", *(args[1:] if args[:1] == ["--"] else args or ["-n3", "--dist=loadfile"])]
    # Not all of docs: code in Markdown is laid out for its readers.
    sources = ["nbws", "tests", "benchmarks", "dev.py", "docs/conf.py", "docs/_ext"]
    checks = {
        "ruff check": [python, "-m", "ruff", "check", *sources],
        "ruff format": [python, "-m", "ruff", "format", "--check", *sources],
        "mypy": [python, "-m", "mypy"],
        # import-linter has no `python -m` form.
        "lint-imports": [python, "-c", "from importlinter.cli import *; lint_imports_command()"],
        "pytest": pytest,
    }
    for name, command in {"pytest": pytest}.items() if args else checks.items():
        say(f"== {name}")
        code = run(command)
        if code:
            return fail(f"{name} failed with exit code {code}", code=code)
    return 0


def docs(args: list[str]) -> int:
    """Build the pages; with --check their warnings and their links count, and all of them are shown."""
    if args not in ([], ["--check"]):
        return fail(f"docs takes --check or nothing, and got {' '.join(args)}", code=2)
    python = str(installed(DOCS_EXTRAS))
    activate()
    build, pages = DOCS / "_build", DOCS / "_build" / "html"
    strictly = ["--fail-on-warning", "--keep-going"] if args else []
    # Anew, as notebooks are run and docstrings read: Sphinx knows of changes in its own files alone.
    fresh = ["--fresh-env", "-d", str(build / "doctrees")]
    code = run([python, "-m", "sphinx", *strictly, *fresh, str(DOCS), str(pages)])
    if not code and args:
        code = run([python, str(DOCS / "_ext" / "links.py"), str(pages)])
    if code:
        return fail(f"the docs have faults, see above (exit code {code})", code=code)
    say(f"open {pages / 'index.html'}")
    return 0


def installed(extras: str) -> Path:
    """The Python of .venv, with nbws and its *extras* in it as pyproject.toml now says."""
    if not venv_is_usable():
        make_venv()
    stamp = VENV / f".nbws-{extras}"
    if not any(is_current(VENV / f".nbws-{enough}", enough) for enough in (extras, DEV_EXTRAS)):
        say(f"installing nbws[{extras}] into {VENV}")
        pip = [str(VENV_PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        code = run([*pip, "-e", f".[{extras}]"])
        if code:
            sys.exit(fail("pip could not install nbws, see above", code=code))
        stamp.write_text(fingerprint(extras), encoding="ascii")
    return VENV_PYTHON


def is_current(stamp: Path, extras: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="ascii") == fingerprint(extras)


def fingerprint(extras: str) -> str:
    """What an installation of *extras* depends on; ROOT is in it since the install is editable."""
    facts = f"{extras}\n{PYTHON_VERSION}\n{ROOT}\n".encode()
    return hashlib.sha256(facts + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def venv_is_usable() -> bool:
    """Whether .venv runs, has pip and is of the Python version running this."""
    if not VENV_PYTHON.exists():
        return False
    probe = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run([str(VENV_PYTHON), "-c", probe], capture_output=True, text=True)
    except OSError:
        return False
    return found.returncode == 0 and found.stdout.strip() == PYTHON_VERSION


def make_venv() -> None:
    """Make .venv, over whatever is there."""
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{PYTHON_VERSION}-venv"
        if not apt_install(package):
            sys.exit(fail(f"{sys.executable} cannot make environments; install {package} or use another Python"))
    say(f"making {VENV} with Python {PYTHON_VERSION}")
    # The base interpreter: this one may be the very .venv that is made anew.
    python = getattr(sys, "_base_executable", None) or sys.executable
    code = run([python, "-m", "venv", "--clear", str(VENV)])
    if code:
        sys.exit(fail(f"{python} could not make {VENV}, see above", code=code))


def find_chromium() -> str | None:
    """Path of a Chromium, Chrome or Edge; None if there is none. NBWS_CHROMIUM goes first."""
    named = os.environ.get("NBWS_CHROMIUM")
    if named:
        return named
    on_path = (shutil.which(command) for command in CHROMIUM_COMMANDS)
    in_places = (str(place) for place in chromium_places() if place.is_file())
    return next(filter(None, (*on_path, *in_places)), None)


def chromium_places() -> list[Path]:
    if sys.platform == "darwin":
        folders = [Path("/Applications"), Path.home() / "Applications"]
        return [folder / name for folder in folders for name in MAC_CHROMIUM]
    if os.name == "nt":
        variables = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        roots = [Path(os.environ[name]) for name in variables if os.environ.get(name)]
        return [root / name for root in roots for name in WINDOWS_CHROMIUM]
    return []


def install_chromium() -> str | None:
    """Path of the Chromium that apt installed; None, and the reason on stderr, if it could not."""
    chromium = find_chromium() if apt_install(*CHROMIUM_PACKAGES) else None
    if chromium is None:
        say(
            "dev.py: found no Chromium, Chrome or Edge, so the browser tests are skipped (and fail where "
            "CI is set); install one (Debian: apt-get install chromium) or name it in NBWS_CHROMIUM",
            file=sys.stderr,
        )
    return chromium


def apt_install(*packages: str) -> bool:
    """Whether apt installed the *packages*; False at once unless root on a machine with apt."""
    apt = shutil.which("apt-get")
    if apt is None or not is_root():
        return False
    say(f"installing {' '.join(packages)} with apt")
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    install = [apt, "-qq", "install", "-y", "--no-install-recommends", *packages]
    run([apt, "-qq", "update"])  # fails over any one source, needed or not
    return run(install, quiet=True) == 0


def activate() -> None:
    """Put the environment's commands first on PATH, for what the started programs start."""
    os.environ["PATH"] = os.pathsep.join([str(VENV_BIN), os.environ.get("PATH", os.defpath)])


def run(command: list[str], quiet: bool = False) -> int:
    """Run *command* in ROOT and return its exit code; Ctrl-C is the command's to answer.

    *quiet* drops what it prints, but not its errors.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def say(text: str, file: TextIO | None = None) -> None:
    print(text, file=file, flush=True)


def fail(text: str, code: int = 1) -> int:
    """Print *text* to stderr and return *code*."""
    say(f"dev.py: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
