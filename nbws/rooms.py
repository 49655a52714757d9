"""Who is in which room: an immutable picture of it; whoever joins or leaves makes the next one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["Rooms"]

M = TypeVar("M")


class Rooms(Generic[M]):
    """Room name -> members, in the order in which they joined. An empty room does not exist."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, tuple[M, ...]] | None = None) -> None:
        self._members: dict[str, tuple[M, ...]] = dict(members or {})

    def members(self, room: str) -> tuple[M, ...]:
        return self._members.get(room, ())

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, room: str) -> bool:
        return room in self._members

    def of(self, member: M) -> frozenset[str]:
        """The rooms that *member* is in."""
        return frozenset(room for room, members in self._members.items() if member in members)

    def join(self, room: str, member: M) -> Rooms[M]:
        if member in self.members(room):
            return self
        return Rooms({**self._members, room: (*self.members(room), member)})

    def leave(self, room: str, member: M) -> Rooms[M]:
        if member not in self.members(room):
            return self
        left = tuple(m for m in self._members[room] if m != member)
        others = {name: members for name, members in self._members.items() if name != room}
        return Rooms({**others, room: left} if left else others)

    def leave_all(self, member: M) -> Rooms[M]:
        rooms = self
        for room in self.of(member):
            rooms = rooms.leave(room, member)
        return rooms
