"""What a run (of a cell, of a program's modules) has defined on an app, before it is known whether it succeeds.

Publishing at each decorator and dropping what a cell no longer defines would erase the first of two routes in one
cell, and leave half a program live where a cell fails half-way.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from nbws.binding import Bound
from nbws.errors import DefinitionError
from nbws.fingerprint import fingerprint, source_of
from nbws.handlers import WEBSOCKET, Definition, HandlerTable, Hook, Key, Owner, Place, WsHandler
from nbws.options import Options
from nbws.reading import reads_of

__all__ = ["Act", "Staged", "check_swap_hook", "claim", "hook_of", "ws_definition"]

Compile = Callable[[Key, Callable[..., Any]], Bound]
Act = tuple["Owner | None", "Definition | Options"]


_claims: dict[int, tuple[weakref.ref[Any], tuple[weakref.ref[Any], ...]]] = {}
"""Functions, and owners of methods, that a definition was given; with the hooks, by id, in whose place it was.

Of all apps: the names of one notebook are those of each of them.
"""


@dataclass
class Staged:
    """The definitions and options of one run on one app."""

    definitions: dict[Key, Definition] = field(default_factory=dict)  #: not published yet
    defined: set[Key] = field(default_factory=set)  #: published or not
    options: Options | None = None
    acts: list[Act] = field(default_factory=list)  #: what was defined or set, in order, and whose code did it
    kind_before: type | None = None  #: the class of the app, where the run has given it another one
    hooks_before: dict[tuple[Key, str], Any] = field(default_factory=dict)  #: what the hooks' names stood for

    @classmethod
    def at_begin(cls, table: HandlerTable) -> Staged:
        """What it is when the cell begins, with *table* live."""
        staged = cls()
        for key, entry in table.live(WEBSOCKET):
            staged._note_hooks(key, entry.definition.target)
        return staged

    def add(self, definition: Definition) -> None:
        self.definitions[definition.key] = definition
        self.defined.add(definition.key)
        self.note(definition.owner, definition)

    def set_options(self, options: Options, owner: Owner | None = None) -> None:
        self.options = options
        self.note(owner, options)

    def note(self, owner: Owner | None, what: Definition | Options) -> None:
        """Remember what was done."""
        self.acts.append((owner, what))

    def do_again(self, act: Act) -> None:
        """Do what an earlier run did by code that this one keeps."""
        owner, what = act
        if isinstance(what, Options):
            self.set_options(what, owner)
        else:
            self.add(what)

    def check(self, table: HandlerTable, compile_hook: Compile) -> None:
        """Raises DefinitionError where `take` would."""
        self._to_publish(table, compile_hook)

    def take(self, table: HandlerTable, compile_hook: Compile) -> tuple[list[Definition], Options | None]:
        """(what is to be published over *table* now, new options); it is staged no more.

        A `conn` or `disconn` function that the cell has defined anew, alone, is a definition too. Raises
        DefinitionError where such a function cannot work; nothing is taken then.
        """
        taken = self._to_publish(table, compile_hook)
        for definition in taken:
            if isinstance(definition.target, WsHandler):
                self._note_hooks(definition.key, definition.target)
        options, self.definitions, self.options = self.options, {}, None
        return taken, options

    @property
    def is_empty(self) -> bool:
        return not self.definitions and self.options is None

    def _to_publish(self, table: HandlerTable, compile_hook: Compile) -> list[Definition]:
        live = {key: entry.definition for key, entry in table.live(WEBSOCKET)}
        found: list[Definition] = []
        for key, definition in {**live, **self.definitions}.items():
            before = {} if key in self.definitions else self.hooks_before
            current = _with_hooks_of_now(definition, before, compile_hook)
            if current is not definition or key in self.definitions:
                found.append(current)
        return found

    def _note_hooks(self, key: Key, handler: WsHandler) -> None:
        for name, hook in handler.hooks.items():
            self.hooks_before[key, name] = hook.now()


def hook_of(bound: Bound, cell_names: Mapping[str, Any] | None = None) -> Hook:
    """*bound* as a hook, with the place of its name: among *cell_names*, the globals of cells, or in its own module.

    A method is found by the name of its object, so that making the object anew takes effect as well.
    """
    fn = bound.fn
    owner, attribute = (fn.__self__, fn.__name__) if isinstance(fn, types.MethodType) else (fn, None)
    for names in (cell_names, getattr(fn, "__globals__", None)):
        name = _name_of(owner, names) if names is not None else None
        if names is not None and name is not None:
            return Hook(bound, Place(names, name, attribute))
    return Hook(bound)


def _name_of(value: Any, names: Mapping[str, Any]) -> str | None:
    own = getattr(value, "__name__", None)
    if isinstance(own, str) and names.get(own) is value:
        return own
    return next((name for name, each in tuple(names.items()) if each is value and not name.startswith("_")), None)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two hooks are one function; a method is made anew each time that it is asked for."""
    return one is other or (isinstance(one, types.MethodType) and one == other)


def claim(definition: Definition, before: Definition | None) -> None:
    """Note that the functions of *definition* are its own, and in the place of those that it had *before*.

    A hook of another endpoint that had the same name does not become one of them when that name stands for it; one
    that was the same function as before does, as both go on to share it.
    """
    old = {id(each): each for hook in _hooks_of(before) for each in [_subject(hook.bound.fn)]}
    own = [hook.bound.fn for hook in _hooks_of(definition)]
    target = definition.target
    own += [bound.fn for bound in (getattr(target, "message", None), getattr(target, "bound", None)) if bound]
    followed = [ref for each in old.values() if (ref := _reference(each)) is not None]
    for each in old.values():  # who follows those follows these, be it after a while
        followed += _followers(each) or ()
    followers = tuple({id(each): ref for ref in followed if (each := ref()) is not None}.values())
    for subject in map(_subject, own):
        ref = _reference(subject, partial(_forget_claim, id(subject)))
        if ref is not None and id(subject) not in old:
            _claims[id(subject)] = (ref, followers)


def _followers(subject: Any) -> tuple[weakref.ref[Any], ...] | None:
    """The hooks that follow *subject*; None where no definition was given it."""
    ref, followers = _claims.get(id(subject), (None, None))
    return followers if ref is not None and ref() is subject else None


def _forget_claim(number: int, _: Any) -> None:
    _claims.pop(number, None)


def _hooks_of(definition: Definition | None) -> list[Hook]:
    target = definition.target if definition is not None else None
    return list(target.hooks.values()) if isinstance(target, WsHandler) else []


def _subject(fn: Any) -> Any:
    return fn.__self__ if isinstance(fn, types.MethodType) else fn


def _reference(thing: Any, gone: Callable[[Any], Any] | None = None) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(thing, gone)
    except TypeError:
        return None


def _is_anothers(fn: Any, hook: Hook) -> bool:
    """Whether *fn* was given to another definition, which did not share *hook* with this one before."""
    own, subject = _subject(hook.bound.fn), _subject(fn)
    followers = _followers(subject)
    return subject is not own and followers is not None and not any(follower() is own for follower in followers)


def ws_definition(key: Key, handler: WsHandler) -> Definition:
    """A websocket endpoint's definition. Another handler or another hook makes another version."""
    hooks = tuple((name, fingerprint(hook.bound.fn)) for name, hook in sorted(handler.hooks.items()))
    functions = [hook.bound.fn for _, hook in sorted(handler.hooks.items())]
    functions += [handler.swap] if handler.swap is not None else []
    functions += [handler.message.fn]
    source = "\n\n".join(filter(None, map(source_of, functions)))
    code = (fingerprint(handler.message.fn), hooks, fingerprint(handler.swap), handler.loop)
    return Definition(key, handler, code, source=source, reads=reads_of(*functions))


def check_swap_hook(swap: Callable[..., Any]) -> None:
    """Raises DefinitionError where *swap* does not take what a swap hook is called with."""
    try:
        inspect.signature(swap).bind(None, None, 1, 2)
    except (TypeError, ValueError) as exc:
        name = getattr(swap, "__name__", repr(swap))
        raise DefinitionError(f"{name}: a swap hook is called as swap(ws, state, old, new): {exc}") from None


def _with_hooks_of_now(definition: Definition, before: dict[tuple[Key, str], Any], compile_hook: Compile) -> Definition:
    """*definition* itself, or with the functions that its hooks' names stand for now and did not *before*."""
    handler = definition.target
    if not isinstance(handler, WsHandler):
        return definition
    anew = {}
    for name, hook in handler.hooks.items():
        now = hook.now()
        known = (hook.bound.fn, hook.passed_over, before.get((definition.key, name)))
        if not any(_is_same(now, each) for each in known) and not _is_anothers(now, hook):
            anew[name] = Hook(compile_hook(definition.key, now), hook.place)
    if not anew:
        return definition
    handler = replace(handler, hooks={**handler.hooks, **anew})
    return replace(ws_definition(definition.key, handler), owner=definition.owner)
