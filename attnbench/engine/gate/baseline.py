"""A stored baseline: of each case its exact figures, and how its latency stands to the yardsticks, launch by launch."""

import json
import math
import os
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Reading, Record
from attnbench.engine.gate.yardsticks import YARDSTICKS

__all__ = ["FORMAT", "Baseline", "Line", "exact_figures", "what_matters"]

FORMAT: Final = 1
# What is kept of an environment: what a latency depends on, and what tells one machine from another.
_KEPT: Final = ("fingerprint", "device_name", "cpu", "cores", "threads", "torch", "cuda", "driver", "python", "system",
                "malloc", "flags")  # fmt: skip
# Counted figures beside those that tables show: without the scratch no predicted peak can be held against another
# machine's.
_BESIDES: Final = ("static.trainable_params", "static.predicted_scratch_bytes")
_PEAK: Final = "memory.peak_bytes"
# Digits behind the point of a logarithm: a hundredth of a per cent, a tenth of what a launch can tell.
_DIGITS, _SIGNIFICANT = 4, 3
_DEFAULTS: Final = {each.name: each.default for each in fields(Case)} | {"params": {}}


@dataclass(frozen=True, slots=True)
class Line:
    """What is stored of one resolved case; one that ran out of memory has its status and no ratios.

    `figures` are by the dotted names of their readings. `shape` is the (batch, tokens, dim) of the yardsticks, and
    `log_ratios` are, by yardstick, those of the case's step to its, one for each launch in their order. `step_ms` is
    for people, `clock` the time that it was judged by, `cpu` or `wall`, and `yardstick_ms` what the yardsticks
    themselves took at their best.
    """

    case: Case
    status: str = "ok"
    reason: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)
    shape: tuple[int, int, int] | None = None
    log_ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    step_ms: float | None = None
    clock: str = "cpu"
    yardstick_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        return bool(self.log_ratios)

    @property
    def launches(self) -> list[float]:
        """Of each launch the mean over the yardsticks."""
        return [statistics.fmean(each) for each in zip(*self.log_ratios.values(), strict=True)]

    @property
    def spread(self) -> float:
        """The standard deviation of a launch, over the yardsticks together."""
        return float(statistics.stdev(self.launches))

    @property
    def spread_apart(self) -> float:
        """The standard deviation of what the first and the last yardstick differ by; 0 of a single one."""
        first, *_, last = [*self.log_ratios.values()] * 2
        return float(statistics.stdev(one - other for one, other in zip(first, last, strict=True)))

    @property
    def error(self) -> float:
        """The standard error of what the launches say together."""
        return self.spread / math.sqrt(len(self.launches))

    def middle(self, yardstick: str) -> float:
        """The logarithm that a launch is held against."""
        return statistics.fmean(self.log_ratios[yardstick])

    def record(self, env: Mapping[str, Any], like: Record | None = None) -> Record:
        """The exact figures as a record, its readings described as those of `like` are."""
        readings = tuple(_reading(name, value, like) for name, value in self.figures.items())
        return Record(self.case, self.status, self.reason, readings, env=env, repro=self.case.command())

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file, where it is small: of the case only what is no default, and rounded ratios."""
        case = {name: value for name, value in self.case.to_dict().items() if value != _DEFAULTS[name]}
        timed = self._timed() if self.is_timed else {}
        return {"case": case, "status": self.status, **({"reason": self.reason} if self.reason else {}),
                "figures": dict(self.figures), **timed}  # fmt: skip

    def _timed(self) -> dict[str, Any]:
        return {
            "step_ms": _rounded(self.step_ms),
            "spread": round(self.spread, _DIGITS),
            "clock": self.clock,
            "shape": self.shape,
            "yardstick_ms": {name: _rounded(ms) for name, ms in self.yardstick_ms.items()},
            "log_ratios": {name: [round(each, _DIGITS) for each in logs] for name, logs in self.log_ratios.items()},
        }


@dataclass(frozen=True, slots=True)
class Baseline:
    """The lines of a file, sorted by what they are about, and the environment that all of them were measured in.

    `loop_us` is what the loop of `Surroundings` took there at its best.
    """

    env: Mapping[str, Any]
    lines: tuple[Line, ...]
    yardsticks: tuple[str, ...] = YARDSTICKS
    attnbench: str = ""
    git_commit: str | None = None
    written_at: str = ""
    loop_us: float | None = None

    def line(self, case: Case) -> Line | None:
        """What is stored of that resolved case."""
        return next((line for line in self.lines if line.case.key == case.key), None)

    def head(self) -> dict[str, Any]:
        """The first line of the file."""
        return {"attnbench_baseline": FORMAT, "env": dict(self.env), "yardsticks": list(self.yardsticks),
                "attnbench": self.attnbench, "git_commit": self.git_commit, "written_at": self.written_at,
                "loop_us": _rounded(self.loop_us)}  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Baseline":
        """What `write` wrote; nothing in it is executed.

        Raises:
            UsageError: it cannot be read, is something else, or a line is damaged; the message has the line.
        """
        from attnbench.engine.gate.baseline_file import read

        return read(path)

    def write(self, path: Path) -> None:
        """The file, whole or not at all: what was there stays until the new one is on the disk.

        Raises:
            UsageError: it cannot be written, with the system's reason.
        """
        rows = [self.head(), *(line.to_dict() for line in sorted(self.lines, key=_order))]
        text = "".join(f"{json.dumps(row, ensure_ascii=True, separators=(', ', ': '))}\n" for row in rows)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, text)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot write the baseline to {path}: {why}.") from error


def what_matters(env: Mapping[str, Any]) -> dict[str, Any]:
    """What a baseline keeps of a record's environment."""
    return {name: env[name] for name in _KEPT if env.get(name) is not None}


def exact_figures(record: Record) -> dict[str, int]:
    """What can be held to equality later: what is counted and shown, and the peak that a GPU's allocator counted."""
    on_cuda = record.case.device.startswith("cuda")
    kept = [
        each
        for each in record.readings
        if (each.better == "same" and each.title) or each.name in _BESIDES or (each.name == _PEAK and on_cuda)
    ]
    return {each.name: each.value for each in kept if type(each.value) is int}


def _reading(name: str, value: int, like: Record | None) -> Reading:
    """One that the other record does not have is under its own name: that it is gone is news."""
    other = like.reading(name) if like else None
    if other is not None:
        return Reading(name, value, other.unit, other.better, other.title)
    unit = "bytes" if name.endswith("_bytes") else "count"
    return Reading(name, value, unit, "same", "" if name in _BESIDES else name)


def _order(line: Line) -> tuple[Any, ...]:
    case = line.case
    return case.name, case.tokens or 0, case.height or 0, json.dumps(line.to_dict()["case"], sort_keys=True)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_SIGNIFICANT}g}")


def _replace(path: Path, text: str) -> None:
    """Beside it first, under another name, and then in its place in one step; who may read it stays as it was."""
    target = path.resolve()
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
