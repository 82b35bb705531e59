"""Records as a run would write them, made by hand: every figure in a golden text can be read off here."""

from collections.abc import Mapping
from typing import Any

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading, Record

ENV = {"fingerprint": "f00d", "device_name": "cpu"}


def module(target: str = "self_attn", side: int = 16, **fields: Any) -> Case:
    """A module's Case on a square feature map."""
    shape = {"height": side, "width": side, "tokens": side * side, "dim": 64}
    return Case(target=target, **(shape | fields))


def network(target: str = "vgg16", insert: str | None = None, **fields: Any) -> Case:
    """A network's Case on a 256x256 image."""
    return Case(target=target, kind="network", height=256, width=256, insert=insert, **fields)


def static(params: int, macs: int, predicted: int | None = None, claim: str = "") -> tuple[Reading, ...]:
    """What counting gives."""
    readings = [
        Reading("static.params", params, "count", "same", "Params"),
        Reading("static.macs", macs, "MAC", "same", "MACs"),
        Reading("static.flops", 2 * macs, "FLOP", "same", "FLOPs"),
    ]
    if predicted is not None:
        readings.append(Reading("static.predicted_peak_bytes", predicted, "bytes", "same", "Predicted peak"))
    if claim:
        readings.append(Reading("static.claimed_complexity", claim))
    return tuple(readings)


def live(median: float, precision: float = 0.008, peak: int | None = None) -> tuple[Reading, ...]:
    """What measuring gives: a latency in ms with a symmetric interval, the rate, the peak memory in bytes."""
    readings = [
        Reading("latency.median_ms", median, "ms", "lower", "Latency", "latency.ci_low_ms", "latency.ci_high_ms"),
        Reading("latency.ci_low_ms", median * (1 - precision), "ms"),
        Reading("latency.ci_high_ms", median * (1 + precision), "ms"),
        Reading("latency.p95_ms", median * 1.1, "ms", "lower"),
        Reading("throughput.samples_per_s", 1000 / median, "1/s", "higher", "Throughput"),
    ]
    if peak is not None:
        readings.append(Reading("memory.peak_bytes", peak, "bytes", "lower", "Peak memory"))
    return tuple(readings)


def record(
    case: Case,
    *readings: Reading,
    status: str = "ok",
    reason: str = "",
    notes: tuple[Note, ...] = (),
    env: Mapping[str, Any] = ENV,
) -> Record:
    return Record(case, status, reason, readings, notes, env, repro=case.command())


QUADRATIC, LINEAR = "N^2", "N"

_SWEEP = {
    # target: side -> (params, MACs, predicted bytes, ms, half the interval, peak bytes)
    "self_attn": {16: (16640, 12_582_912, 1_310_720, 0.4123, 0.021, 1_441_792),
                  32: (16640, 150_994_944, 10_485_760, 3.884, 0.008, 11_010_048),
                  64: (16640, 2_214_592_512, 143_654_912, 61.27, 0.034, 146_800_640)},
    "pseudo_linear_attn": {16: (16640, 12_582_912, 1_310_720, 0.4311, 0.017, 1_441_792),
                           32: (16640, 150_994_944, 10_485_760, 3.951, 0.009, 11_010_048),
                           64: (16640, 2_214_592_512, 143_654_912, 60.02, 0.029, 146_800_640)},
    "linear_attn": {16: (16640, 5_242_880, 655_360, 0.2107, 0.12, 786_432),
                    32: (16640, 20_971_520, 2_621_440, 0.6038, 0.007, 2_883_584),
                    64: (16640, 83_886_080, 10_485_760, 2.149, 0.006, 11_534_336)},
}  # fmt: skip

LAUNCH_BOUND = Note("launch_bound", "launch-bound: the device waits for the host; try `--engine cudagraph`.")
NOISY = Note("noisy", "noisy: the interval is ± 12 % after 60 s; close other programs or raise --max-time.")
BUILT = Note("built", "built with dim=64; layout bchw.")


def sweep() -> list[Record]:
    """Three modules at three resolutions, module by module, as a run writes them."""
    rows = []
    for target, sides in _SWEEP.items():
        claim = LINEAR if target == "linear_attn" else QUADRATIC
        for side, (params, macs, predicted, median, precision, peak) in sides.items():
            notes = (BUILT, NOISY) if precision > 0.1 else (BUILT,)
            readings = static(params, macs, predicted, claim) + live(median, precision, peak)
            rows.append(record(module(target, side), *readings, notes=notes))
    return rows


def networks() -> list[Record]:
    """VGG16 bare and with two inserts, counted only."""
    counts = {None: (138_357_544, 20_204_000_000), "pseudo_linear_attn": (139_734_040, 224_570_000_000),
              "linear_attn": (139_734_040, 31_930_000_000)}  # fmt: skip
    return [
        record(network(insert=insert), *static(params, macs, 9_663_676_416 if insert else 560_000_000))
        for insert, (params, macs) in counts.items()
    ]


def troubled() -> list[Record]:
    """A sweep up to 256x256 in which the quadratic module runs out of memory and the user's own crashes."""
    oom = "one attention matrix of 65,536 x 65,536 fp32 needs 16.0 GiB; 12.4 GiB are free."
    mine = "my_attn.py:MyAttn"
    return [
        record(module("self_attn", 128), *static(16640, 34_628_173_824, 2_181_038_080, QUADRATIC),
               *live(1021.4, 0.012, 2_186_280_960)),
        record(module("linear_attn", 128), *static(16640, 335_544_320, 41_943_040, LINEAR),
               *live(8.913, 0.006, 44_040_192), notes=(LAUNCH_BOUND,)),
        record(module(mine, 128), *static(12416, 201_326_592, 41_943_040, LINEAR),
               *live(5.302, 0.011, 40_894_464), notes=(LAUNCH_BOUND,)),
        record(module("self_attn", 256), *static(16640, 550_829_555_712, 34_468_790_272, QUADRATIC),
               status="oom", reason=oom),
        record(module("linear_attn", 256), *static(16640, 1_342_177_280, 167_772_160, LINEAR),
               *live(36.48, 0.005, 174_063_616)),
        record(module(mine, 256), status="crashed", reason="the worker process ended with signal 11\n(SIGSEGV)."),
    ]  # fmt: skip
