"""The pages that were served while their author works on them, each held against what the app would make of it now."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

__all__ = ["OpenPage", "Pages", "Served"]

_PAGES = 32
_CHARACTERS = 8 * 1024 * 1024  #: of all pages together


@dataclass(frozen=True, slots=True)
class Served:
    """A page as it was sent. *made_by* is another value once something that the page is made by was defined anew."""

    digest: str
    html: str
    made_by: Hashable


class Pages:
    """The last pages that were served, by their digest. Used on the server's loop only."""

    def __init__(self) -> None:
        self._served: OrderedDict[str, Served] = OrderedDict()

    def remember(self, served: Served) -> None:
        self._served[served.digest] = served
        self._served.move_to_end(served.digest)
        while len(self._served) > _PAGES or (
            len(self._served) > 1 and sum(len(each.html) for each in self._served.values()) > _CHARACTERS
        ):
            self._served.popitem(last=False)

    def get(self, digest: str) -> Served | None:
        """The page of *digest*; None where it was not served by this process, or long ago."""
        return self._served.get(digest)


class OpenPage:
    """One page that a browser shows.

    *has* is what it shows, None where that is not known any more. *made_by* says what a request for it would be made
    by now; *render* makes such a request, and gives None where that gives no page.
    """

    def __init__(
        self, has: Served | None, made_by: Callable[[], Hashable], render: Callable[[], Awaitable[Served | None]]
    ) -> None:
        self._has = has
        self._made_by, self._render = made_by, render
        self._looked_at: Hashable = has.made_by if has is not None else object()

    async def change(self) -> tuple[Served | None, Served] | None:
        """(what it shows, what it is to show from now on); None where that is the same.

        The page is made anew only when something that makes it was defined anew, so that a page which says another
        time or number at each request is left alone when other cells run.
        """
        made_by = self._made_by()
        if made_by == self._looked_at:
            return None
        self._looked_at = made_by
        now = await self._render()
        if now is not None:
            self._looked_at = now.made_by
        if now is None or (self._has is not None and now.digest == self._has.digest):
            return None
        before, self._has = self._has, now
        return before, now
