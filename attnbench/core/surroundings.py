"""What went on around a stretch of timing: how busy others were, how fast the core was, what held the device down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`other_cores` are the cores that other processes kept busy, None where the system does not tell; `loop_us` what
    a fixed loop of the interpreter took on the core that was timed on; `reasons` are the device's own, in words."""

    other_cores: float | None = None
    loop_us: float | None = None
    reasons: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Surroundings":
        """What `dataclasses.asdict` gave, after it crossed a pipe."""
        return cls(data["other_cores"], data["loop_us"], tuple(data["reasons"]))
