"""A dict whose items are attributes too, for what an author keeps on a connection or an app."""

from __future__ import annotations

from typing import Any

__all__ = ["State"]


class State(dict[str, Any]):
    """`state.n` is `state["n"]`. A name that is not there raises AttributeError or KeyError, each in its place."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"nothing is stored as {name!r}; there is {', '.join(self) or 'nothing yet'}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(dict, name):  # read again, it would be the method
            raise AttributeError(f"{name!r} is a method of this dict; write state[{name!r}] = ...")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None
