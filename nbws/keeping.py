"""Which values of a module outlive an edit of its file? Decided on what is written, before any of it is run.

An edited file is run again in a namespace of its own, and a chat whose `users = {}` was emptied at each save would be
broken for whoever is connected. So an assignment keeps its value where it is written as before, and so is all that it
reads at once, through whatever names. A class that is written as before stays the same class, or what was made of it
before would be no instance of it any more. All else is run: functions, imports, calls, loops, conditions, assignments
to attributes and items.

What a function reads when it is called is late and does not count; its decorators, defaults and annotations do. So does
an assignment to an attribute or an item of what is read. A call of its methods does not: `app.mount(...)` would empty
whatever was made of `app`. A function that assigns to a `global` counts as changed each time, for an older one would
assign where nobody looks.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Code", "Edit", "Statement", "compare", "read_code"]

_Read = tuple[str, "str | None"]  # a name, and the attribute of it that is read where that is known
_Source = tuple[str, "str | None"]  # a module, and what of it; None for the module itself


@dataclass(frozen=True)
class Statement:
    """One statement at the top level of a module."""

    text: str  #: what it says, without where it stands
    binds: frozenset[str]
    touches: frozenset[str]  #: names of what it changes without binding them: `users["ann"] = 1`
    reads: frozenset[_Read]  #: at once
    sources: Mapping[str, frozenset[_Source]]  #: what the names that it imports stand for
    stars: frozenset[str]  #: modules that it imports everything from
    imports: frozenset[str]  #: modules that it may import, at once or late
    is_import: bool = False
    may_stay: bool = False  #: an assignment to plain names, or a class
    rebinds: bool = False  #: holds a function that assigns to a `global`

    @property
    def label(self) -> str:
        """The names that it binds; "" where there are none."""
        return ", ".join(sorted(self.binds))

    def says_of(self, name: str) -> object:
        """What it says of *name*. Two names of one import have nothing to do with each other."""
        return self.sources[name] if self.is_import and name in self.sources else self.text


@dataclass(frozen=True)
class Code:
    """What is written in a module."""

    statements: tuple[Statement, ...]

    @property
    def imports(self) -> frozenset[str]:
        """The absolute names of modules that it may import, at once or late."""
        return frozenset().union(*(statement.imports for statement in self.statements))

    @property
    def stars(self) -> frozenset[str]:
        return frozenset().union(*(statement.stars for statement in self.statements))

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(statement.binds | statement.touches for statement in self.statements))

    def about(self, name: str) -> list[Statement]:
        """The statements that bind *name* or change what it stands for, in order."""
        return [self.statements[place] for place in self._places.get(name, ())]

    def said_of(self, name: str) -> list[object]:
        """All that is said of *name*, in order, each with what had been said then of what it reads."""
        return [(self.statements[place].says_of(name), self.context(place)) for place in self._places.get(name, ())]

    def context(self, place: int) -> frozenset[object]:
        """What had been said, before the statement at *place*, of the names that it reads at once."""
        return frozenset(
            (name, tuple(self.statements[each].says_of(name) for each in self._places.get(name, ()) if each < place))
            for name, _ in self.statements[place].reads
        )

    @cached_property
    def _places(self) -> Mapping[str, list[int]]:
        """Name -> the places of the statements that are about it."""
        places: dict[str, list[int]] = {}
        for place, statement in enumerate(self.statements):
            for name in statement.binds | statement.touches:
                places.setdefault(name, []).append(place)
        return places

    def sources(self, name: str) -> frozenset[_Source]:
        """What *name* may have been imported as."""
        return frozenset().union(*(each.sources.get(name, ()) for each in self.statements))


@dataclass(frozen=True)
class Edit:
    """What an edit means for one module.

    *kept* tells the statements (by their places in the new code) whose values stay, each with its place in the old
    code. *changed* are the names that stand for something else now because of what is written.
    """

    kept: Mapping[int, int] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()


def read_code(tree: ast.Module, package: str = "") -> Code:
    """The code of a parsed module in *package*, against which its relative imports are resolved."""
    return Code(tuple(_read_statement(node, package) for node in tree.body))


def compare(old: Mapping[str, Code], new: Mapping[str, Code]) -> dict[str, Edit]:
    """Module -> what becomes of it, for all modules of *new*, given what was written in *old*.

    A module that is not among them, such as one that is installed, never changes.
    """
    written = _Look(old, new)
    as_run = _Look(old, new, with_rebinding=True)
    return {
        module: Edit(_kept(module, old.get(module), code, as_run), frozenset(written.changed[module]))
        for module, code in new.items()
    }


def _changed_in_itself(old: Code | None, new: Code) -> set[str]:
    """The names of *new* of which the module itself says something else, and those that *old* alone had."""
    if old is None:
        return set(new.names)
    return {name for name in old.names | new.names if old.said_of(name) != new.said_of(name)}


def _kept(module: str, old: Code | None, new: Code, look: _Look) -> dict[int, int]:
    if old is None:
        return {}
    places = {(each.text, old.context(place)): place for place, each in enumerate(old.statements)}
    bound_more = _bound_more_than_once(old) | _bound_more_than_once(new)
    return {
        place: places[each.text, new.context(place)]
        for place, each in enumerate(new.statements)
        if each.may_stay
        and not each.rebinds
        and (each.text, new.context(place)) in places
        and not each.binds & bound_more
        and not look.reads_what_has_changed(module, each)
    }


def _bound_more_than_once(code: Code) -> set[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for statement in code.statements:
        twice |= statement.binds & seen
        seen |= statement.binds
    return twice


class _Look:
    """Finds the names that have *changed*, by module: those that are written in another way, and what reads them.

    *with_rebinding* counts functions that assign to a `global` among them.
    """

    def __init__(self, old: Mapping[str, Code], new: Mapping[str, Code], with_rebinding: bool = False) -> None:
        self._codes = new
        self._old_stars = {name: code.stars for name, code in old.items()}
        self.changed = {name: _changed_in_itself(old.get(name), code) for name, code in new.items()}
        if with_rebinding:
            for name, code in new.items():
                self.changed[name].update(*(each.binds for each in code.statements if each.rebinds))
        while any(self._spread(module) for module in new):
            pass

    def _spread(self, module: str) -> bool:
        """Take up the names of *module* that read what has changed; whether there were any."""
        names = self._codes[module].names - self.changed[module]
        found = {name for name in names if self._has_changed_by_others(module, name)}
        self.changed[module] |= found
        return bool(found)

    def _has_changed_by_others(self, module: str, name: str) -> bool:
        """Whether *name*, of which the module says what it said, stands for something else all the same."""
        code = self._codes[module]
        named = any(what is not None and self._item(source, what) for source, what in code.sources(name))
        return named or any(self.reads_what_has_changed(module, each) for each in code.about(name))

    def reads_what_has_changed(self, module: str, statement: Statement) -> bool:
        return any(self._read(module, name, attribute) for name, attribute in statement.reads)

    def _read(self, module: str, name: str, attribute: str | None) -> bool:
        code = self._codes[module]
        if name in self.changed[module]:
            return True
        if name not in code.names:
            return not hasattr(builtins, name) and self._star(module, name)
        return any(
            self._module(source) if attribute is None else self._item(source, attribute)
            for source, what in code.sources(name)
            if what is None
        )

    def _item(self, module: str, item: str) -> bool:
        """Whether *item* of *module* has changed, be it a module of its own."""
        if self._module(f"{module}.{item}"):
            return True
        code = self._codes.get(module)
        if code is None:
            return False
        if item in code.names:
            modules = (source for source, what in code.sources(item) if what is None)
            return item in self.changed[module] or any(map(self._module, modules))
        return item in self.changed[module] or self._star(module, item)

    def _module(self, module: str) -> bool:
        return bool(self.changed.get(module))

    def _star(self, module: str, name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether *name*, which *module* itself does not bind, may come from somewhere else than before."""
        stars = self._codes[module].stars
        if stars != self._old_stars.get(module):
            return True
        for source in stars & self._codes.keys() - seen:
            bound = name in self._codes[source].names
            if name in self.changed[source] if bound else self._star(source, name, seen | {module}):
                return True
        return False


# -- reading one statement


def _read_statement(node: ast.stmt, package: str) -> Statement:
    reader = _Reader(package)
    reader.visit(node)
    return Statement(
        text=ast.dump(node),
        binds=frozenset(reader.binds),
        touches=frozenset(reader.touches - reader.binds),
        reads=frozenset(reader.reads),
        sources={name: frozenset(sources) for name, sources in reader.sources.items()},
        stars=frozenset(reader.stars),
        imports=frozenset(reader.imports),
        is_import=isinstance(node, ast.Import | ast.ImportFrom),
        may_stay=_may_stay(node),
        rebinds=reader.rebinds,
    )


def _may_stay(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(map(_is_plain, node.targets))
    if isinstance(node, ast.AnnAssign):
        return node.value is not None and isinstance(node.target, ast.Name)
    return isinstance(node, ast.ClassDef)


def _is_plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_plain, target.elts))
    return isinstance(target, ast.Name) or (isinstance(target, ast.Starred) and _is_plain(target.value))


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Reader(ast.NodeVisitor):
    """What one top-level statement binds, touches, imports and reads at once."""

    def __init__(self, package: str) -> None:
        self.binds: set[str] = set()
        self.touches: set[str] = set()
        self.reads: set[_Read] = set()
        self.sources: dict[str, set[_Source]] = {}
        self.stars: set[str] = set()
        self.imports: set[str] = set()
        self.rebinds = False
        self._package = package
        self._is_late = False  # inside a function's body
        self._in_class = False  # where names that are bound are the class's own
        self._local: frozenset[str] = frozenset()  # names of comprehensions

    def _bind(self, name: str | None) -> None:
        if name is not None and not self._is_late and not self._in_class:
            self.binds.add(name)

    def _touch(self, target: ast.expr) -> None:
        """*target*, an attribute or an item, is assigned to; what its root stands for may be another thing then."""
        root = target
        while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name) and not self._is_late:
            self.touches.add(root.id)

    # -- names

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
        elif not self._is_late and node.id not in self._local:
            self.reads.add((node.id, None))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._touch(node)
        root = node.value
        if isinstance(root, ast.Name) and not self._is_late and root.id not in self._local:
            self.reads.add((root.id, node.attr))
        else:
            self.visit(root)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._touch(node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name) and not self._is_late:
            self.reads.add((node.target.id, None))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # The value does not depend on the annotation; but fields of a class are made of theirs.
        if self._in_class:
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.target)
            self.visit(node.value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._bind(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        if self._is_late or self._in_class:
            self.rebinds = True

    # -- scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: _Function) -> None:
        self._bind(node.name)
        for decorator in node.decorator_list:
            self.visit(decorator)
        self.visit(node.args)
        if node.returns is not None:
            self.visit(node.returns)
        self._visit_late(node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._visit_late([node.body])

    def _visit_late(self, body: Collection[ast.AST]) -> None:
        was_late, self._is_late = self._is_late, True
        for each in body:
            self.visit(each)
        self._is_late = was_late

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each)
        was_in_class, self._in_class = self._in_class, True
        for each in node.body:
            self.visit(each)
        self._in_class = was_in_class

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node)

    def _visit_comprehension(self, node: _Comprehension) -> None:
        self.visit(node.generators[0].iter)  # in the scope around it, unlike the rest
        outside = self._local
        self._local |= {each for generator in node.generators for each in _names_in(generator.target)}
        for place, generator in enumerate(node.generators):
            for part in (*([generator.iter] if place else []), *generator.ifs):
                self.visit(part)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.visit(part)
        self._local = outside

    # -- imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.update(_with_parents(alias.name))
            top = alias.name.partition(".")[0]
            self._import(alias.asname or top, (alias.name if alias.asname else top, None))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._absolute(node.module, node.level)
        if module is None:
            return
        self.imports.update(_with_parents(module))
        for alias in node.names:
            if alias.name == "*":
                self.stars.add(module)
                continue
            self.imports.add(f"{module}.{alias.name}")
            self._import(alias.asname or alias.name, (module, alias.name))

    def _import(self, name: str, source: _Source) -> None:
        self._bind(name)
        if not self._is_late and not self._in_class:
            self.sources.setdefault(name, set()).add(source)

    def _absolute(self, module: str | None, level: int) -> str | None:
        """The absolute name of what an import names; None where it goes beyond the top package."""
        if level == 0:
            return module
        parts = self._package.split(".") if self._package else []
        if level > len(parts):
            return None
        return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def _names_in(target: ast.expr) -> Iterator[str]:
    return (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))
