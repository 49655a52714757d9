"""What becomes of definitions: staged while the run that they belong to lasts, then published in one step.

Publishing makes the next table of what is live; the app points at it.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from nbws.errors import DefinitionError
from nbws.handlers import Change, Definition, HandlerTable, Key
from nbws.identity import is_importing
from nbws.interrupts import held_back
from nbws.options import Options
from nbws.runs import Run, Runs
from nbws.staging import Compile, Staged, claim

if TYPE_CHECKING:
    from nbws.notebook.kernel import Notebook

__all__ = ["Publisher"]


class Published(Protocol):
    """The app that definitions are published on."""

    @property
    def table(self) -> HandlerTable: ...
    @property
    def options(self) -> Options: ...

    def point_at(self, table: HandlerTable, options: Options | None) -> list[Change]:
        """Make *table*, and *options* where there are new ones, what is live. Gives what that changes."""

    def mention_restart(self, changed: list[Change], options: Options | None, before: Options) -> None:
        """Say what of it takes a restart."""

    def become(self, kind: type) -> None:
        """Be of another class of apps."""


class Publisher:
    """Takes what code defines on *app*, whichever run it belongs to. From any thread; publishers wait for each other.

    *runs* is None where there are none, as in a script, and what is defined is live at once.
    """

    def __init__(self, app: Published, compile_handler: Compile, runs: Runs | None, notebook: Notebook | None) -> None:
        self._app = app
        self._compile = compile_handler
        self._runs = runs
        self._notebook = notebook
        self._lock = threading.RLock()
        self._cells: dict[Key, Any] = {}
        self._imported: dict[str, list[Definition]] = {}  # by modules whose bodies may run still

    # -- what code defines

    def define(self, definition: Definition) -> None:
        run = self.run()
        entry = self._app.table.get(definition.key)
        before = entry.definition if entry is not None else None
        claim(definition, (run and self._staged(run).definitions.get(definition.key)) or before)
        if run is None:
            self.publish([definition])
            return
        if self._notebook is not None:
            self._cells[definition.key] = self._notebook.parent()
        owner = run.owner()
        definition = replace(definition, owner=owner)
        if owner is not None and run.is_apart(owner):
            self._imported.setdefault(owner.name, []).append(definition)
        else:
            self._staged(run).add(definition)

    def next_key(self, method: str, name: str, code: Any) -> Key:
        """The key of one more definition that has no path: the how-manieth of its name in its owner's run.

        Where it is part of no run, or nobody's, the next number that no other code of that name has.
        """
        run = self.run()
        owner = run.owner() if run is not None else None
        if run is not None and owner is not None and not run.is_apart(owner):
            place, taken = owner.name, self._staged(run).defined
        else:
            waiting = [definition for definitions in self._imported.values() for definition in definitions]
            if run is not None:
                waiting += self._staged(run).definitions.values()
            known = [*waiting, *(entry.definition for _, entry in self._app.table)]
            place = owner.name if owner is not None else ""
            taken = {each.key for each in known if each.fingerprint != code}
        return next(key for n in itertools.count(1) if (key := Key(method, f"{place}/{name}#{n}")) not in taken)

    def set_options(self, options: Options) -> None:
        run = self.run()
        if run is None:
            self.publish([], options=options)
        else:
            self._staged(run).set_options(options, run.owner())

    def note_options(self, options: Options) -> None:
        """Remember that the calling code has made the app with *options*, which are live."""
        run = self.run()
        if run is not None:
            self._staged(run).note(run.owner(), options)

    def note_kind(self, kind: type) -> None:
        """Remember that the app was of *kind* until the calling code; a run that fails takes that back."""
        run = self.run()
        if run is not None:
            staged = self._staged(run)
            staged.kind_before = staged.kind_before or kind

    def names_of_cells(self) -> dict[str, Any] | None:
        """The globals of cells; None where there is no notebook."""
        return self._notebook.cell_names() if self._notebook is not None else None

    # -- what is to be live when the run has ended

    def run(self) -> Run | None:
        """The run that the calling code belongs to, where what it defines is staged."""
        return self._runs.current() if self._runs is not None else None

    @property
    def options_to_be(self) -> Options:
        run = self.run()
        return (self._staged(run).options if run is not None else None) or self._app.options

    @property
    def table_to_be(self) -> HandlerTable:
        run = self.run()
        return self._app.table.publish(list(self._staged(run).definitions.values()) if run is not None else [])

    @property
    def is_importing(self) -> bool:
        """Whether modules have defined something that is not live yet."""
        return bool(self._imported)

    def cell_of(self, key: Key) -> Any:
        """The cell that *key* was defined in, for what is written under it; None for that of a module."""
        return self._cells.get(key)

    # -- runs of cells, and of a program under development

    def run_begins(self, run: Run) -> None:
        run.memory[self._app] = Staged.at_begin(self._app.table)
        if self._notebook is not None:
            for key in self._owned_by(run):
                self._cells[key] = self._notebook.parent()

    def check_run(self, run: Run) -> None:
        """Raises DefinitionError where what *run* has defined cannot be published."""
        self._staged(run).check(self._app.table, self._compile)

    def run_ends(self, run: Run, succeeded: bool) -> None:
        """Publish what *run* has defined, and retire what it did not define again, where it has *succeeded*."""
        staged: Staged | None = run.memory.pop(self._app, None)
        self.publish_modules(run.modules_that_failed)
        if staged is None:
            return
        if not succeeded:
            if staged.kind_before is not None:
                self._app.become(staged.kind_before)
            return
        try:
            definitions, options = staged.take(self._app.table, self._compile)
        except DefinitionError as exc:
            # Only a hook that was defined anew can be refused so late, when the cell cannot fail any more.
            print(f"DefinitionError: {exc}\nNothing of this cell is live; what was, stays.", file=sys.stderr)
            return
        gone = self._owned_by(run) - staged.defined
        # A route that is gone does not come back because its hook was defined anew.
        self.publish([each for each in definitions if each.key not in gone], gone, options)

    def _staged(self, run: Run) -> Staged:
        staged: Staged = run.memory.setdefault(self._app, Staged())
        return staged

    def _owned_by(self, run: Run) -> frozenset[Key]:
        return frozenset().union(*(self._app.table.owned_by(owner) for owner in run.owners))

    # -- publishing

    def publish_staged(self) -> None:
        """Publish what the run of the calling code has defined so far. Retires nothing yet."""
        run = self.run()
        with held_back():
            self.publish_modules()
            if run is not None:
                definitions, options = self._staged(run).take(self._app.table, self._compile)
                self.publish(definitions, options=options)

    def publish_if_staged(self) -> None:
        """The same, where there is something."""
        self.publish_modules()
        run = self.run()
        if run is not None and not self._staged(run).is_empty:
            self.publish_staged()

    def publish_modules(self, failed: Collection[str] = ()) -> None:
        """Publish what modules have defined whose bodies have ended, and forget it for those that *failed*."""
        for module in [name for name in self._imported if not is_importing(name)]:
            definitions = self._imported.pop(module, [])  # another thread may have been here first
            if module in sys.modules and module not in failed:
                self.publish(definitions)

    def publish_hooks(self) -> None:
        """Take up hooks whose functions were defined anew where no run ends. Raises DefinitionError."""
        if self._runs is None:
            with self._lock:  # else what another thread publishes meanwhile would be taken back
                definitions, _ = Staged().take(self._app.table, self._compile)
                self.publish(definitions)

    def publish(
        self, definitions: Sequence[Definition], retire: Iterable[Key] = (), options: Options | None = None
    ) -> None:
        """Publish over what is live, where there is anything to publish."""
        if not definitions and not retire and options is None:
            return
        before = self._app.options
        changed = self.change(lambda table: table.publish(definitions, retire), options)
        self._app.mention_restart(changed, options, before)

    def change(
        self, next_table: Callable[[HandlerTable], HandlerTable], options: Options | None = None
    ) -> list[Change]:
        """Have the app point at the table that *next_table* makes of the present one. Gives what has changed."""
        with held_back(), self._lock:
            return self._app.point_at(next_table(self._app.table), options)
