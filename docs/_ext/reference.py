"""What the reference is made of, beside autodoc: docstrings as RST, and directives that list what no docstring does.

Docstrings are prose for `help()`: single backquotes are code, an indented block is code, *names* are parameters. In RST
the first would be something else and the second a quotation.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

_DRAWN = "──"  # a tree
_NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")


def as_rst(text: str) -> str:
    """A docstring as RST. Code that is a name leads to where that is described, if it is."""
    blocks = re.split(r"\n\s*\n", text)
    out = []
    for before, block in zip(["", *blocks], blocks, strict=False):
        if _DRAWN in block:
            out.append("::\n\n" + "\n".join(f"    {line}" for line in block.split("\n")))
        elif not block[:1].isspace():
            out.append(_prose(block))
        elif before[:1].isspace():  # the same block of code goes on after an empty line
            out.append(block)
        else:
            out.append(f"::\n\n{block}")
    return "\n\n".join(out)


def _prose(text: str) -> str:
    parts = re.split(r"`([^`]+)`", text)
    for at, part in enumerate(parts):
        if at % 2:
            code = " ".join(part.split())
            after = "\\ " if parts[at + 1][:1].isalnum() else ""  # RST would take `Limits`s for no code at all
            parts[at] = f"{_reference(code) or f'``{code}``'}{after}"
        else:
            parts[at] = re.sub(r"(?<![\w*])\*(\w+)\*(?=\w)", r"*\1*\\ ", part)
    return "".join(parts)


def _reference(code: str) -> str | None:
    """The role that leads to what *code* names, and is code where that is nowhere; None where it names nothing."""
    if not _NAME.fullmatch(code):
        return None
    # A class is found wherever it is described; another name only in the class whose docstring this is.
    return f":py:obj:`{code} <.{code}>`" if code[0].isupper() and code != "None" else f":py:obj:`{code}`"


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    text = "\n".join(lines)
    if name == "nbws.App":  # its options are listed by themselves
        text = text.partition("\n\n*title*")[0]
    lines[:] = as_rst(text).split("\n")


def _say_constants(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """A default that is a private constant by its value: `timeout: float = 5.0`, not `_SECONDS`."""
    module = inspect.getmodule(obj)
    if signature is None or module is None:
        return None
    names = vars(module)
    return re.sub(r"(?<== )_[A-Z_]+\b", lambda found: repr(names.get(found[0], found[0])), signature), returns


class _Listing(SphinxDirective):
    """A directive without content, which writes Markdown from what *modules* say."""

    modules: ClassVar[tuple[str, ...]]
    has_content = False

    def run(self) -> list[nodes.Node]:
        for module in self.modules:  # so that the page is read anew when one of them changes
            self.env.note_dependency(str(inspect.getsourcefile(importlib.import_module(module))))
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)

    def lines(self) -> Iterator[str]:
        raise NotImplementedError


class Options(_Listing):
    """The options of App, with their types, defaults and comments."""

    modules = ("nbws.options",)

    def lines(self) -> Iterator[str]:
        from nbws.options import Options

        comments = ModuleAnalyzer.for_module("nbws.options").find_attr_docs()
        for field in dataclasses.fields(Options):
            yield f"({option_anchor(field.name)})="
            yield f"`{field.name}: {field.type} = {_default_of(field)}`"
            yield f": {' '.join(comments['Options', field.name]).strip()}"
            yield ""


def option_anchor(name: str) -> str:
    return f"option-{name.replace('_', '-')}"


def _default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    assert field.default_factory is not dataclasses.MISSING
    made = field.default_factory()
    return repr(made) if made == {} else f"{type(made).__name__}()"


class Commands(_Listing):
    """What `nbws --help` says, and the help of each of its commands."""

    modules = ("nbws.cli",)

    def lines(self) -> Iterator[str]:
        from nbws.cli import main

        top = click.Context(main, info_name="nbws", terminal_width=80, **main.context_settings)
        yield "## nbws"
        yield from _block(main.get_help(top))
        for name, command in sorted(main.commands.items()):
            yield f"## nbws {name}"
            yield from _block(command.get_help(click.Context(command, info_name=name, parent=top, terminal_width=80)))


def _block(text: str) -> list[str]:
    return ["", "````none", *text.strip().split("\n"), "````", ""]


class PytestOptions(_Listing):
    """What the plugin adds to the command line of pytest."""

    modules = ("nbws.pytest_plugin",)

    def lines(self) -> Iterator[str]:
        from nbws import pytest_plugin

        found: list[tuple[str, dict[str, Any]]] = []

        class Parser:
            def getgroup(self, *_: str) -> Parser:
                return self

            def addoption(self, name: str, **given: Any) -> None:
                found.append((name, given))

        pytest_plugin.pytest_addoption(Parser())  # type: ignore[arg-type]
        for name, given in found:
            yield f"`{name} {given.get('metavar', '')}`".replace(" `", "`")
            yield f": {given['help']}"
            yield ""


class Magics(_Listing):
    """The magics, by their docstrings."""

    modules = ("nbws.notebook.magics",)

    def lines(self) -> Iterator[str]:
        from nbws.notebook.magics import register_magics

        found: list[tuple[str, str]] = []

        class Shell:
            def register_magic_function(self, function: Any, kind: str, name: str) -> None:
                found.append(("%" * (2 if kind == "cell" else 1) + name, inspect.getdoc(function) or ""))

        register_magics(Shell())
        for name, text in found:
            yield f"## {name}"
            yield ""
            for block in re.split(r"\n\s*\n", text):
                yield from _block(inspect.cleandoc(block)) if block[:1].isspace() else ["", block, ""]


class Vocabulary(_Listing):
    """The names of `nbws.common` that are described nowhere else: the tags, and what it hands on of others."""

    modules = ("nbws.common", "nbws.html")

    _WHOSE: ClassVar[dict[str, str]] = {
        "tags": "Plain tags",
        "starlette": "Of Starlette",
        "python": "Of Python, for programs that expect them",
    }

    def lines(self) -> Iterator[str]:
        import nbws.common

        for whose, text in self._WHOSE.items():
            names = [name for name in nbws.common.__all__ if origin_of(name) == whose]
            yield f"{text}\n: {' '.join(f'`{name}`' for name in sorted(names))}"
            yield ""


def origin_of(name: str) -> str:
    """Whose a name of `nbws.common` is: "tags", "starlette", "python" or "nbws"."""
    import nbws.common
    from nbws.html import MAKERS

    value = getattr(nbws.common, name)
    if MAKERS.get(name) is value:
        return "tags"
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    root = module.partition(".")[0]
    if root in ("nbws", "starlette"):
        return root
    return "nbws" if root == "markupsafe" or name in ("picolink", "MAKERS") else "python"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _say_constants)
    for name, directive in {
        "nbws-options": Options,
        "nbws-commands": Commands,
        "nbws-pytest-options": PytestOptions,
        "nbws-magics": Magics,
        "nbws-vocabulary": Vocabulary,
    }.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
