"""How Sphinx builds these pages: `python dev.py docs`, or `sphinx-build docs docs/_build/html`.

The pages are plain Markdown that reads as well in a repository's web view, so a link that leads out of this folder
there (`../notebooks/01-chat.ipynb`) is turned here into one to the page that is made of the same file.
"""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]

import nbws  # noqa: E402

project = "nbws"
author = "The nbws developers"
copyright = "The nbws developers, Apache 2.0"  # Sphinx's name for it
version = release = nbws.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "reference"]
if importlib.util.find_spec("nbws.sphinx") is not None:
    extensions.append("nbws.sphinx")
exclude_patterns = ["_build", "_ext", "_static"]
root_doc = "index"

# -- Markdown and notebooks

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, object] = {}  # else each page with a widget would load one from a CDN
smartquotes = False  # "close" is what an option is set to
highlight_language = "none"  # of a block that does not name one: terminals, mostly
suppress_warnings = ["myst.header"]  # notebooks may begin lower than at the first level

# -- docstrings

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = maximum_signature_line_length = 84
add_module_names = False
toc_object_entries_show_parents = "hide"
nitpicky = True
# No other project's inventory is read, since a build needs no network: names that are not ours lead nowhere.
nitpick_ignore_regex = [("py:.*", r"(?!nbws\.).*"), ("py:.*", r".*\.[A-Z]")]  # the latter are type variables

# -- HTML

html_theme = "furo"
html_title = "nbws"
html_static_path = ["_static"]
html_css_files = ["house.css"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_domain_indices = False  # of modules, of which a reader need not know
_ACCENTS = {"light": "#0b6bcb", "dark": "#6cb2ff"}  # of nbws.css
html_theme_options = {
    f"{theme}_css_variables": {f"color-brand-{part}": accent for part in ("primary", "content", "visited")}
    for theme, accent in _ACCENTS.items()
}

NOTEBOOKS = HERE / "notebooks"  # where those of ROOT / "notebooks" are copied to, as Sphinx reads no other folder


def copy_notebooks(*_: object) -> None:
    """Have the notebooks in this folder; one that has not changed is left alone, so that it is not built anew."""
    NOTEBOOKS.mkdir(exist_ok=True)
    sources = {path.name: path for path in (ROOT / "notebooks").iterdir() if path.suffix in (".ipynb", ".json")}
    for old in NOTEBOOKS.iterdir():
        if old.name not in sources:
            old.unlink()
    for name, source in sources.items():
        copy = NOTEBOOKS / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copyfile(source, copy)


def keep_links_inside(_: object, docname: str, source: list[str]) -> None:
    """Have links between the pages and the notebooks lead to each other's pages."""
    if docname.startswith("notebooks/"):
        source[0] = re.sub(r"\]\(\.\./docs/", "](../", source[0])
    else:
        source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./notebooks/", r"](\1notebooks/", source[0])


def setup(app: object) -> None:
    app.connect("config-inited", copy_notebooks)  # type: ignore[attr-defined]
    app.connect("source-read", keep_links_inside)  # type: ignore[attr-defined]
