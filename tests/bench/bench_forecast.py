"""What a dry run foretells, beside what is then measured: seconds, memory, and the least time of a step.

Run it as `python tests/bench/bench_forecast.py [WORD ...]`, ten minutes; it writes `results/forecast.md`. Words choose
among the scenarios. Each case is foretold right before it is measured, so that both meet the same machine; with one
thread, so that one core is left to the system.
"""

import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from attnbench.core.forecast import Forecast  # noqa: E402
from attnbench.core.record import Record  # noqa: E402
from attnbench.engine.crew import Crew  # noqa: E402
from attnbench.engine.executors.executor import Wanted  # noqa: E402
from attnbench.engine.executors.local import lanes  # noqa: E402
from attnbench.engine.forecasts.forecast import foreseen  # noqa: E402
from attnbench.engine.forecasts.scout import scouted  # noqa: E402
from attnbench.engine.question import Question  # noqa: E402
from attnbench.engine.session import prepared  # noqa: E402
from attnbench.engine.sweep import Sweep  # noqa: E402
from attnbench.metrics.hardware import environment  # noqa: E402
from attnbench.metrics.metric import Options  # noqa: E402

PAGE = ROOT / "results" / "forecast.md"


@dataclass(frozen=True)
class Scenario:
    name: str
    sweep: Sweep
    options: Options
    each_fresh: bool = False

    def questions(self) -> list[Question]:
        return [Question(case, self.options) for case in self.sweep.at_first_batch().cases()]


def scenario(name: str, *, fresh: bool = False, options: Options | None = None, **lists: object) -> Scenario:
    return Scenario(name, Sweep(device="cpu", **lists), replace(options or Options(), threads=1), fresh)  # type: ignore[arg-type]


SCENARIOS = [
    scenario("small", modules=["se", "cbam", "linear_attn", "self_attn"], res=["16"]),
    scenario("middle", modules=["sdpa", "performer", "retention", "aft_full"], res=["32"]),
    scenario("large", modules=["self_attn", "mha", "linear_attn", "additive_attn"], res=["64"]),
    scenario("long steps", modules=["self_attn", "nonlocal"], res=["112"]),
    scenario("gradients", modules=["self_attn", "linear_attn"], res=["48"], mode=["fwd_bwd", "bwd", "train"]),
    scenario("networks", networks=["vgg16", "vgg16+linear_attn"], img_size=["64", "224"]),
    scenario("hasty", modules=["self_attn", "se"], res=["32"], options=Options(max_time=0.2)),
    scenario("latency alone", modules=["self_attn", "se"], res=["32"], options=Options(metrics=("latency",))),
    scenario("static", modules=["self_attn", "retention"], networks=["vgg16"], res=["64"],
             options=Options(metrics=("static",))),
    scenario("processes", modules=["linear_attn", "self_attn"], res=["32"], options=Options(processes=3)),
    scenario("isolate case", modules=["linear_attn", "self_attn"], res=["32"], fresh=True),
    scenario("batch auto", modules=["se", "self_attn"], res=["32"], batch_size=["auto"],
             options=Options(best_batch=True)),
]  # fmt: skip


@dataclass(frozen=True)
class Compared:
    scenario: str
    forecast: Forecast
    record: Record
    seconds: float

    @property
    def ratio(self) -> float:
        """Foretold over measured."""
        return (self.forecast.seconds or 0.0) / self.seconds

    @property
    def name(self) -> str:
        case = self.record.case
        return f"{case.name} {case.size}" + (f" {case.mode}" if case.mode != "fwd" else "")


def compared(each: Scenario) -> Iterator[Compared]:
    with (
        lanes(Wanted(device="cpu", isolation="worker", quiet=True)) as opened,
        closing(Crew(scouted(opened, live=True), 600)) as scouts,
        closing(Crew(opened, 600, each_fresh=each.each_fresh)) as crew,
    ):
        yield from _side_by_side(each, scouts, crew)


def _side_by_side(each: Scenario, scouts: Crew, crew: Crew) -> Iterator[Compared]:
    questions = each.questions()
    plan, run = prepared(questions, scouts), prepared(questions, crew)
    warm = Question(questions[0].case, Options(metrics=("latency",), max_time=0.1, threads=1))
    list(crew.answers([prepared([warm], crew).left[0]]))  # the start of a worker is not a case's own time
    forecasts = foreseen(questions, plan, scouts, each_fresh=each.each_fresh)
    for (_, forecast), question in zip(forecasts, run.left, strict=True):
        began = time.perf_counter()
        ((_, record),) = crew.answers([question])
        found = Compared(each.name, forecast, record, time.perf_counter() - began)
        print(f"{found.scenario:14} {found.name:28} {forecast.seconds:8.2f} s foretold {found.seconds:8.2f} s measured "
              f"{found.ratio:6.2f}  {record.status}", flush=True)  # fmt: skip
        yield found


def page(rows: Sequence[Compared]) -> Iterator[str]:
    env = environment("cpu")
    ratios = sorted(row.ratio for row in rows)
    within = sum(0.5 <= ratio <= 2 for ratio in ratios)
    foretold, measured = sum(row.forecast.seconds or 0 for row in rows), sum(row.seconds for row in rows)
    yield "# What a dry run foretells, beside what is measured\n"
    yield ("`python tests/bench/bench_forecast.py`: each case is foretold, then measured, in two workers on the same "
           f"machine. {env['cpu']}, {env['cores']} cores, one thread, torch {env['torch']}, {platform.system()}, "
           f"{datetime.now(UTC):%Y-%m-%d}. Others are the cores that other processes used while the latency was "
           "sampled.\n")  # fmt: skip
    yield (f"Seconds of a case, foretold over measured: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} "
           f"to {ratios[-1]:.2f}; {within} of {len(ratios)} within a factor of two. Together {foretold:.0f} s foretold "
           f"and {measured:.0f} s measured. The start of a worker that serves many cases is in neither.\n")  # fmt: skip
    yield "| scenario | case | foretold (s) | measured (s) | ratio | others | least step (ms) | step (ms) | peak |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        yield " | ".join(["", *_cells(row), ""]).strip()


def _cells(row: Compared) -> Iterator[str]:
    least, step = row.forecast.least_ms, row.record.value("latency.median_ms")
    others = row.record.value("latency.other_cores")
    peak, measured = row.forecast.peak, row.record.value("memory.peak_bytes")
    yield from (row.scenario, row.name, f"{row.forecast.seconds:.2f}", f"{row.seconds:.2f}", f"{row.ratio:.2f}")
    yield "–" if others is None else f"{others:.1f}"
    yield from (f"{each:.3g}" if each is not None else "–" for each in (least, step))
    alike = row.forecast.record.case == row.record.case  # a batch that was sought is another
    yield f"{peak / measured:.2f}" if peak and measured and alike else "–"


def main(words: Sequence[str]) -> None:
    chosen = [each for each in SCENARIOS if not words or any(word in each.name for word in words)]
    rows = [row for each in chosen for row in compared(each)]
    text = "\n".join(page(rows)) + "\n"
    print(text)
    if not words:
        PAGE.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
