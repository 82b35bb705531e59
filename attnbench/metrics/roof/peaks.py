"""The measured peaks of a device: how they are found by timing a bench of products and streams, and what they say."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Protocol

__all__ = ["Bench", "Found", "Peaks", "Rung", "Stream", "find_peaks"]

Clock = Callable[[], float]

# A block of calls lasts about this long, so that reading the clock is under a thousandth of it.
_BLOCK_S = 2e-4
_VISIT_S = 2e-3
_FEWEST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Stream:
    """A call that goes through memory once or several times, and the bytes that it moves."""

    call: Callable[[], object]
    bytes: int


class Bench(Protocol):
    """What is timed: products of growing sizes and streams of growing footprints, on one device and in one dtype.

    `cache_bytes` is the size of its last-level cache. `seconds` times a block of calls, in seconds a call.
    """

    sizes: Sequence[int]
    footprints: Sequence[int]
    cache_bytes: int

    def products(self, size: int) -> Mapping[str, Callable[[], object]]: ...

    def streams(self, footprint: int) -> Mapping[str, Stream]: ...

    def seconds(self, call: Callable[[], object], calls: int) -> float: ...


@dataclass(frozen=True, slots=True)
class Rung:
    """Bytes a second by copying, reading (a sum) and filling, while so many bytes in all are used."""

    footprint: int
    copy: float
    read: float
    fill: float

    @property
    def best(self) -> float:
        return max(self.copy, self.read, self.fill)


@dataclass(frozen=True, slots=True)
class Found:
    """FLOP/s of the fastest product, which one that was, and the ladder of footprints from the smallest."""

    flops_per_s: float
    product: str
    ladder: tuple[Rung, ...]
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Peaks:
    """What a device reached, in which dtype, when, and with how many threads (None on CUDA): the roof of a roofline.

    `disturbed` tells that other processes used it meanwhile, so that the roof may be too low; `times` how often it was
    measured, the best of each figure counting.
    """

    device: str
    dtype: str
    fingerprint: str
    flops_per_s: float
    product: str
    ladder: tuple[Rung, ...]
    cache_bytes: int
    threads: int | None
    disturbed: bool
    measured_at: str
    times: int = 1

    def bandwidth(self, footprint: float) -> float:
        """Bytes a second that a step of so many bytes can reach at the most: the best of all rungs as long or longer.

        So a smaller footprint is never slower. Ilic, Pratas and Sousa 2014, Cache-aware Roofline model,
        doi:10.1109/L-CA.2013.6.
        """
        return max((rung.best for rung in self.ladder if rung.footprint >= footprint), default=self.memory_bandwidth)

    @property
    def memory_bandwidth(self) -> float:
        """Bytes a second of the longest rung: of the memory behind the caches, where the ladder reaches it."""
        return self.ladder[-1].best

    @property
    def beyond_caches(self) -> bool:
        """Whether the longest rung is longer than the last-level cache."""
        return self.ladder[-1].footprint > self.cache_bytes

    def joined(self, other: "Peaks") -> "Peaks":
        """The better of each figure: both were reached, and a disturbance only lowers them. The rest is this one's."""
        rungs = {rung.footprint: rung for rung in (*other.ladder, *self.ladder)}
        for rung in other.ladder:
            own = rungs[rung.footprint]
            best = (max(own.copy, rung.copy), max(own.read, rung.read), max(own.fill, rung.fill))
            rungs[rung.footprint] = Rung(rung.footprint, *best)
        better = max(self, other, key=lambda each: each.flops_per_s)
        ladder = tuple(rungs[footprint] for footprint in sorted(rungs))
        return replace(self, flops_per_s=better.flops_per_s, product=better.product, ladder=ladder,
                       times=self.times + other.times)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Peaks":
        """The Peaks of a JSON object.

        Raises:
            ValueError: a field is missing, misshapen, or not above zero.
        """
        try:
            found = cls(**{**data, "ladder": tuple(Rung(**rung) for rung in data["ladder"])})
            rungs = (figure for rung in found.ladder for figure in astuple(rung))
            figures = (found.flops_per_s, found.cache_bytes, found.times, found.threads or 1, *rungs)
            sound = bool(found.ladder) and all(0 < figure < float("inf") for figure in figures)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not measured peaks ({error!r})") from error
        if not sound:
            raise ValueError("not measured peaks (a figure is not above zero)")
        return found


def find_peaks(bench: Bench, seconds: float = 2.0, clock: Clock = time.perf_counter) -> Found:
    """Time the bench for about so many seconds, round after round: a disturbance then hits one round, and not a figure.

    One product, a footprint beyond the last-level cache if the bench has one, and three rounds are measured however
    long they take.
    """
    deadline = clock() + seconds
    products = _products(bench, seconds / 40, clock)
    streams = _streams(bench, seconds / 10, clock)
    trials = [trial for _, trial in products] + [trial for _, by_name in streams for trial in by_name.values()]
    rounds = 1
    while clock() < deadline or rounds < _FEWEST_ROUNDS:
        for trial in trials:
            trial.visit(clock)
        rounds += 1
    product, fastest = max(products, key=lambda each: each[1].rate)
    rungs = (Rung(footprint, **{name: each.rate for name, each in by_name.items()}) for footprint, by_name in streams)
    return Found(fastest.rate, product, tuple(rungs), bench.cache_bytes)


@dataclass(slots=True)
class _Trial:
    """A call that does so much work, in FLOP or bytes, and the least seconds that it took in a block of calls."""

    bench: Bench
    call: Callable[[], object]
    work: int
    calls: int = 0
    least: float = float("inf")

    @property
    def rate(self) -> float:
        return self.work / self.least

    def visit(self, clock: Clock) -> None:
        """Time it for a moment; the first time a single call is made before, to warm up and to see how long it is."""
        if not self.calls:
            self.calls = max(1, min(1000, round(_BLOCK_S / max(self.bench.seconds(self.call, 1), 1e-9))))
        end = clock() + _VISIT_S
        while True:
            self.least = min(self.least, self.bench.seconds(self.call, self.calls))
            if clock() >= end:
                return


def _products(bench: Bench, longest: float, clock: Clock) -> list[tuple[str, _Trial]]:
    """Each visited once; sizes grow, and the time with their cube, while a call is shorter than `longest` seconds."""
    found: list[tuple[str, _Trial]] = []
    for size in bench.sizes:
        trials = [
            (f"{name} of {size} x {size}", _Trial(bench, call, 2 * size**3))
            for name, call in bench.products(size).items()
        ]
        for _, trial in trials:
            trial.visit(clock)
        found += trials
        if 8 * max(trial.least for _, trial in trials) > longest:
            break
    return found


def _streams(bench: Bench, longest: float, clock: Clock) -> list[tuple[int, dict[str, _Trial]]]:
    """Each visited once; footprints grow past the last-level cache, and then while a rung takes less than `longest`."""
    found: list[tuple[int, dict[str, _Trial]]] = []
    for footprint in bench.footprints:
        begin = clock()
        trials = {name: _Trial(bench, each.call, each.bytes) for name, each in bench.streams(footprint).items()}
        for trial in trials.values():
            trial.visit(clock)
        found.append((footprint, trials))
        if footprint > bench.cache_bytes and 2 * (clock() - begin) > longest:
            break
    return found
