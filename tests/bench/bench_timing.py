"""Latency against other timers, the coverage of its intervals, what they cost in time, and how this machine drifts.

Run it as `python tests/bench/bench_timing.py [agreement] [coverage] [budget] [drift]` (by default all, half an hour on
an idle machine); it writes the parts into `results/timing.md`. On a CPU one thread is used, so that one core is left to
the system. Each comparison is made side by side: same process, same subject, in alternation.
"""

import itertools
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import benchmark

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from attnbench.core.case import Case  # noqa: E402
from attnbench.core.record import Reading  # noqa: E402
from attnbench.core.stats import quantile  # noqa: E402
from attnbench.metrics.latency import measure_latency  # noqa: E402
from attnbench.metrics.metric import Options  # noqa: E402
from attnbench.metrics.subject import Subject  # noqa: E402
from attnbench.metrics.timing.sampling import steps_a_block  # noqa: E402
from attnbench.metrics.timing.timers import host_block  # noqa: E402
from attnbench.targets.build import build  # noqa: E402
from attnbench.targets.resolve import resolve  # noqa: E402

PAGE = ROOT / "results" / "timing.md"
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

AGREEMENT = [("se", 8, 1), ("cbam_spatial", 8, 1), ("se", 16, 1), ("self_attn", 8, 1), ("linear_attn", 16, 1),
             ("self_attn", 16, 1), ("cbam", 32, 1), ("sdpa", 32, 1), ("linear_attn", 64, 1), ("self_attn", 32, 1),
             ("sdpa", 64, 1), ("self_attn", 64, 1), ("self_attn", 64, 4), ("self_attn", 144, 1)]  # fmt: skip
COVERAGE = [("se", 16, 1), ("self_attn", 16, 1), ("linear_attn", 32, 1)]
BUDGET = [(name, res, 1) for name in ("self_attn", "sdpa", "mha", "pseudo_linear_attn", "linear_attn",
                                      "efficient_attn", "se", "cbam") for res in (32, 64, 96)]  # fmt: skip
SMALL = [("linear_attn", 32, 1), ("efficient_attn", 32, 1), ("se", 32, 1), ("cbam", 32, 1)]


def subject_of(name: str, res: int, batch: int) -> Subject:
    case = Case(name, height=res, width=res, tokens=res * res, dim=64, batch_size=batch, device=DEVICE)
    subject = build(resolve(case), DEVICE)
    subject.step()
    subject.synchronize()
    return subject


def latency(subject: Subject, **options: float) -> dict[str, float]:
    found = measure_latency(subject, Options(**options))  # type: ignore[arg-type]
    return {each.name.removeprefix("latency."): each.value for each in found if isinstance(each, Reading)}


def torchs_timer(subject: Subject) -> float:
    """Milliseconds a step by torch.utils.benchmark, which on a GPU times the host and synchronises once a block."""
    timer = benchmark.Timer("module(*inputs)", globals={"module": subject.module, "inputs": subject.inputs},
                            num_threads=torch.get_num_threads())  # fmt: skip
    with torch.no_grad():
        return timer.blocked_autorange(min_run_time=0.3).median * 1e3


def tritons_timer(subject: Subject) -> float:
    """Milliseconds a step by triton's do_bench, with cold caches."""
    from triton.testing import do_bench

    with torch.no_grad():
        return float(do_bench(lambda: subject.module(*subject.inputs), return_mode="median"))


@dataclass(frozen=True)
class Agreement:
    name: str
    ours_ms: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def agreement() -> Iterator[str]:
    pairs: list[tuple[str, str, Callable[[Subject], float]]] = [("torch.utils.benchmark", "median_ms", torchs_timer)]
    if CUDA:
        pairs.append(("triton do_bench", "cold_ms", tritons_timer))
    for title, field, other in pairs:
        rows = [compared(case, field, other) for case in AGREEMENT]
        inside = sum(0.98 <= row.ratio <= 1.02 for row in rows)
        yield f"### Against {title}\n"
        yield ("Ours over theirs: the median of pairs of measurements in alternation, and the range of the middle half "
               f"of the pairs. {inside} of {len(rows)} lie within 0.98 to 1.02.\n")  # fmt: skip
        yield "| case | ours (ms) | ratio | middle half of pairs | pairs |\n| --- | ---: | ---: | ---: | ---: |"
        for row in rows:
            low, _, high = statistics.quantiles(row.ratios, n=4)
            yield f"| {row.name} | {row.ours_ms:.4g} | {row.ratio:.3f} | {low:.3f} to {high:.3f} | {len(row.ratios)} |"
        yield ""


def compared(case: tuple[str, int, int], field: str, other: Callable[[Subject], float]) -> Agreement:
    subject = subject_of(*case)
    ratios, ours = [], []
    for pair in range(15 if case[1] < 100 else 7):
        first = pair % 2 == 0
        theirs = other(subject) if first else 0.0
        ours.append(latency(subject, max_time=0.5)[field])
        theirs = theirs if first else other(subject)
        ratios.append(ours[-1] / theirs)
    found = Agreement(named(case), statistics.median(ours), ratios)
    print(f"{found.name}: {found.ours_ms:.4g} ms, {found.ratio:.3f}", flush=True)
    return found


def named(case: tuple[str, int, int]) -> str:
    name, res, batch = case
    return f"{name} {res}x{res}" + (f" batch {batch}" if batch > 1 else "")


def coverage(repetitions: int = 200) -> Iterator[str]:
    yield (f"{repetitions} repetitions of each case at ±2 %, at most a second each, each with a subject of its own; "
           "the long-run median is that of stretches of 0.2 s taken between them over the whole time.\n")  # fmt: skip
    yield "| case | intervals that hold it | median half width | level drifts by (sd) | minutes |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for case in COVERAGE:
        yield covered(case, repetitions)


def covered(case: tuple[str, int, int], repetitions: int) -> str:
    begin = time.perf_counter()
    intervals, reference, levels = [], [], []
    for _ in range(repetitions):
        subject = subject_of(*case)
        found = latency(subject, max_time=1.0, precision_target=0.02)
        intervals.append((found["ci_low_ms"], found["ci_high_ms"]))
        stretch = stretched(subject, found["median_ms"], 0.2)
        reference += stretch
        levels.append(statistics.median(stretch))
    truth = statistics.median(reference)
    held = sum(low <= truth <= high for low, high in intervals) / repetitions
    half = statistics.median((high - low) / 2 / truth for low, high in intervals)
    minutes = (time.perf_counter() - begin) / 60
    row = f"| {named(case)} | {held:.1%} | ±{half:.1%} | {statistics.stdev(levels) / truth:.1%} | {minutes:.1f} |"
    print(row, flush=True)
    return row


def stretched(subject: Subject, step_ms: float, seconds: float) -> list[float]:
    block, steps = host_block(subject.repeat), steps_a_block(step_ms)
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        samples.append(block(steps))
    return samples


def budget(sweeps: int = 2) -> Iterator[str]:
    """A sweep at ±2 % against ten steps to warm up and a hundred that are timed, in alternation case by case."""
    ratios = []
    rows: list[tuple[str, float, float]] = []
    for _ in range(sweeps):
        rows = [spent(case) for case in BUDGET]
        ratios.append(sum(row[1] for row in rows) / sum(row[2] for row in rows))
    yield (f"24 cases at ±2 %, at most a second of sampling each: {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
           f"times as long as ten steps to warm up and a hundred timed ones, in {sweeps} sweeps. The last of "
           "them:\n")  # fmt: skip
    yield "| case | ours (s) | fixed loop (s) |\n| --- | ---: | ---: |"
    for name, ours, theirs in rows:
        yield f"| {name} | {ours:.2f} | {theirs:.2f} |"
    yield "\nThe small cases, each measured forty times in alternation: what the medians differ by (half of the range "
    yield "that holds the middle 95 % of them, over their median).\n"
    yield "| case | ours | fixed loop |\n| --- | ---: | ---: |"
    for case in SMALL:
        ours, theirs = scattered(case)
        yield f"| {named(case)} | ±{ours:.1%} | ±{theirs:.1%} |"


def spent(case: tuple[str, int, int]) -> tuple[str, float, float]:
    subject = subject_of(*case)
    begin = time.perf_counter()
    latency(subject, precision_target=0.02, max_time=1.0)
    middle = time.perf_counter()
    fixed_loop(subject)
    row = (named(case), middle - begin, time.perf_counter() - middle)
    print(f"{row[0]}: {row[1]:.2f} s against {row[2]:.2f} s", flush=True)
    return row


def scattered(case: tuple[str, int, int], repetitions: int = 40) -> tuple[float, float]:
    ours, theirs = [], []
    for _ in range(repetitions):
        subject = subject_of(*case)
        ours.append(latency(subject, precision_target=0.02, max_time=1.0)["median_ms"])
        theirs.append(statistics.median(fixed_loop(subject)))
    print(f"{named(case)}: ±{scatter(ours):.1%} against ±{scatter(theirs):.1%}", flush=True)
    return scatter(ours), scatter(theirs)


def scatter(values: list[float]) -> float:
    return (quantile(values, 0.975) - quantile(values, 0.025)) / 2 / statistics.median(values)


def fixed_loop(subject: Subject) -> list[float]:
    block = host_block(subject.repeat)
    for _ in range(10):
        subject.repeat(1)
    return [block(1) for _ in range(100)]


def drift(seconds: float = 60) -> Iterator[str]:
    """The Allan deviation of a series of steps: what stretches of that length differ by from the next."""
    spans = (0.03, 0.1, 0.3, 1, 3, 10)
    yield ("What the medians of neighbouring stretches of the same step differ by (Allan deviation, robust): noise "
           "that averages out would fall by a third from column to column.\n")  # fmt: skip
    yield f"| case | {' | '.join(f'{span:g} s' for span in spans)} |\n| --- |{' ---: |' * len(spans)}"
    for case in COVERAGE:
        subject = subject_of(*case)
        block, steps = host_block(subject.repeat), steps_a_block(latency(subject, max_time=0.5)["median_ms"])
        series, begin = [], time.perf_counter()
        while (now := time.perf_counter()) - begin < seconds:
            series.append((now - begin, block(steps)))
        row = f"| {named(case)} | {' | '.join(f'{allan(series, span):.2%}' for span in spans)} |"
        print(row, flush=True)
        yield row


def allan(series: list[tuple[float, float]], span: float) -> float:
    stretches: dict[int, list[float]] = {}
    for at, ms in series:
        stretches.setdefault(int(at / span), []).append(ms)
    levels = [statistics.median(stretch) for _, stretch in sorted(stretches.items())]
    steps = [abs(after - before) for before, after in itertools.pairwise(levels)]
    return 1.4826 * statistics.median(steps) / 2**0.5 / statistics.median(levels)


PARTS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "agreement": ("Agreement with other timers", agreement),
    "coverage": ("Coverage of the intervals", coverage),
    "budget": ("Time budget", budget),
    "drift": ("Drift of this machine", drift),
}
HEAD = """# Latency, checked

Made by `python tests/bench/bench_timing.py`; each part says on what it was measured.
"""


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names or list(PARTS):
        title, part = PARTS[name]
        where = torch.cuda.get_device_name() if CUDA else f"{cpu()}, one thread"
        keep(title, f"## {title}\n\n{where}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}.\n\n"
                    + "\n".join(part()).strip() + "\n")  # fmt: skip


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep(title: str, text: str) -> None:
    """Put a part into the page, in place of what it said before."""
    page = PAGE.read_text() if PAGE.exists() else HEAD
    parts = re.split(r"(?m)^(?=## )", page)
    others = [part for part in parts[1:] if not part.startswith(f"## {title}\n")]
    order = [title for title, _ in PARTS.values()]
    ordered = sorted([*others, text], key=lambda part: order.index(part[3:].partition("\n")[0]))
    PAGE.write_text(parts[0].rstrip() + "\n\n" + "\n".join(part.rstrip() + "\n" for part in ordered))


if __name__ == "__main__":
    if "MALLOC_MMAP_MAX_" not in os.environ:  # what a worker of attnbench is started with
        warm = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **warm})
    main(sys.argv[1:])
