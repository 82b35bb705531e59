"""The plug-in `attnbench run --executor instant`: a lane that answers at once, without torch.

The environment says how: INSTANT_MS is what a case takes, INSTANT_NOTE the size of a record, and with INSTANT_DISK the
disk takes so many bytes of a record at a time, and a moment for each of them, as a slow one does. No case ends while
the file INSTANT_GATE is there.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attnbench.core.case import Case
from attnbench.core.record import Reading
from attnbench.engine.executors.executor import Lane, Wanted
from attnbench.metrics.roof.peaks import Peaks, Rung

__all__ = ["TOO_LARGE", "Instant", "lanes"]

Event = dict[str, Any]

# A map of this side is one that no memory holds.
TOO_LARGE = 13
_UNKNOWN = ("driver", "cuda", "cudnn", "compute_capability", "ecc", "mig", "persistence", "governor", "smt", "l2_bytes",
            "l3_bytes", "git_commit", "clocks", "throttle_reasons", "load_average")  # fmt: skip
_ENV = dict.fromkeys(_UNKNOWN) | {
    "fingerprint": "instant", "device_name": "instant", "cpu": "instant", "torch": "none", "python": "3", "cores": 2,
    "threads": 2, "affinity": 2, "system": "Linux", "malloc": "warm", "started_at": "2026-01-01T00:00:00+00:00",
}  # fmt: skip
_SECONDS_A_PIECE = 0.001
_write = os.write


class Instant:
    """A channel whose answers are known beforehand, all that the commands may ask."""

    def __init__(self, ms: float = 0, note_bytes: int = 0) -> None:
        self._seconds, self._note = ms / 1000, "x" * note_bytes

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        match request["do"]:
            case "hello":
                device = request["device"]
                yield {"event": "device", "device": "cpu" if device == "auto" else device, "env": _ENV}
            case "free":
                yield {"event": "free", "bytes": 2**34}
            case "resolve":
                yield {"event": "env", "env": _ENV}
                yield {"event": "case", "case": _decided(Case.from_dict(request["case"])).to_dict()}
            case "abilities":
                yield {"event": "env", "env": _ENV}
                yield {"event": "trying", "name": "latency"}
                found = {"name": "latency", "can": "yes", "how": "at once", "advice": "", "figures": {}}
                yield {"event": "ability"} | found
            case "peaks":
                yield {"event": "peaks", "peaks": _peaks(request["device"], request["dtype"])}
            case "measure":
                yield {"event": "env", "env": _ENV}
                yield from self._measured(Case.from_dict(request["case"]))
                return
        yield _done("ok")

    def _measured(self, case: Case) -> Iterator[Event]:
        time.sleep(self._seconds)
        while os.path.exists(os.environ.get("INSTANT_GATE", "")):  # noqa: PTH110 - "" is no path that is there
            time.sleep(0.001)
        tokens = (case.tokens or (case.height or 1) * (case.width or 1)) * case.batch_size
        yield from map(_event, _counted(64 * tokens, tokens))
        if case.height == TOO_LARGE:
            yield _done("oom", f"{TOO_LARGE} is too much")
            return
        yield from map(_event, _timed(tokens / 1000))
        yield {"event": "note", "kind": "built", "text": self._note or "at once"}
        yield _done("ok")

    def fresh(self) -> None:
        return

    def close(self) -> None:
        return


def _decided(case: Case) -> Case:
    """The Case with what it leaves open; a network without a size has that of an image."""
    layout = "bchw" if case.layout == "auto" else case.layout
    image = {"height": 224, "width": 224} if case.height is None and case.tokens is None else {}
    return case.with_(layout=layout, heads=case.heads or 1, **image)


def _peaks(device: str, dtype: str) -> dict[str, Any]:
    rung = Rung(2**30, 1e11, 1e11, 1e11)
    peaks = Peaks(device, dtype, "instant", 1e12, "64x64x64", (rung,), 2**20, 2, False, "2026-01-01T00:00:00+00:00")
    return peaks.to_dict() | {"bytes_per_s": peaks.memory_bandwidth, "beyond_caches": peaks.beyond_caches}


def _counted(macs: int, elementwise: int) -> Iterator[Reading]:
    yield Reading("static.params", 64, "count", "same", "Params")
    yield Reading("static.macs", macs, "MAC", "same", "MACs")
    yield Reading("static.flops", 2 * macs, "FLOP", "same", "FLOPs")
    yield Reading("static.macs_by_op", {"linear": macs})
    yield Reading("static.macs_by_module", {"": 0, "proj": macs})
    yield Reading("static.elementwise", elementwise, "count")
    yield Reading("static.reductions", 0, "count")
    yield Reading("static.fft_flops", 0, "FLOP")
    yield Reading("static.uncounted_ops", {})
    yield Reading("static.counted_on", "meta")
    yield Reading("static.predicted_peak_bytes", 4096 * elementwise, "bytes", "same", "Predicted peak")


def _timed(ms: float) -> Iterator[Reading]:
    ends = ("latency.ci_low_ms", "latency.ci_high_ms")
    yield Reading("latency.median_ms", ms, "ms", "lower", "Latency", *ends)
    yield from (Reading(end, ms, "ms", "lower") for end in ends)
    yield Reading("latency.samples", 3, "count")
    yield Reading("latency.samples_ms", [ms, ms, ms], "ms")


def _event(reading: Reading) -> Event:
    return {"event": "reading", "value": reading.value, **reading.describe()}


def _done(status: str, reason: str = "") -> Event:
    return {"event": "done", "status": status, "reason": reason}


def _slow_write(file: int, data: bytes | memoryview) -> int:
    """A piece of it, as a file system may: whoever writes has to come back for the rest."""
    if file <= 2:
        return _write(file, data)
    written = _write(file, memoryview(data)[: int(os.environ["INSTANT_DISK"])])
    time.sleep(_SECONDS_A_PIECE)
    return written


@contextmanager
def lanes(wanted: Wanted) -> Iterator[Sequence[Lane]]:
    """One lane, or as many as devices were named."""
    if "INSTANT_DISK" in os.environ:
        os.write = _slow_write
    channel = Instant(float(os.environ.get("INSTANT_MS", "0")), int(os.environ.get("INSTANT_NOTE", "0")))
    yield [Lane(device, lambda: channel, device) for device in wanted.devices or ("",)]
