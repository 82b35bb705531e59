"""One piece of the process's state: how it is read, set back and named."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Piece", "Unreadable", "nothing"]


class Unreadable(Exception):  # noqa: N818 - it is a value too
    """What stands for a piece that cannot be read, because of what somebody did to it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unreadable)

    __hash__ = Exception.__hash__


def nothing(value: Any) -> None:
    """Of a piece that cannot be set back."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`write` takes what `read` gave; `told` names what is between two such values, "" where that is no news.

    A `silent` one is for every module to use: it is always set back, and never named.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] = nothing
    told: Callable[[Any, Any], str] | None = None
    silent: bool = False

    def now(self) -> Any:
        """What it is; a module may have made it unreadable."""
        try:
            return self.read()
        except Exception:  # a getter that finds two settings in contradiction raises
            return Unreadable()

    def put(self, value: Any) -> None:
        """Set it back; whether that worked is found by reading it."""
        with suppress(Exception):  # a folder that is gone, a handler that only the main thread may set
            self.write(value)

    def named(self, before: Any, after: Any) -> str:
        """As a note says it: `torch's default dtype (torch.float32 to torch.float64)`."""
        if self.told is not None:
            return self.told(before, after)
        alone = any(isinstance(value, tuple | list | dict | Unreadable) for value in (before, after))
        return self.name if alone else f"{self.name} ({before} to {after})"
