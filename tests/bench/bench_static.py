"""How long counting takes where nothing could be run: every module at 1,048,576 tokens, and the memory of the process.

    python tests/bench/bench_static.py

Prints for each module the milliseconds of one case after start-up, forward and forward + backward: of the first time
that it is asked for, when what its kernels take for themselves has to be looked at, and the median of five more; and at
the end the most memory that the process ever held.
"""

import resource
import statistics
import time

from attnbench.core.case import Case
from attnbench.engine.measure import measure
from attnbench.metrics.metric import Options
from attnbench.targets.catalogue import catalogue
from attnbench.targets.resolve import resolve

SIDE = 1024
STATIC = Options(metrics=("static",))


def milliseconds(case: Case) -> tuple[float, float]:
    """Of one case, counted and predicted: the first time, and the median of five more."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        list(measure(case, STATIC))
        times.append(1000 * (time.perf_counter() - start))
    return times[0], statistics.median(times[1:])


def main() -> None:
    list(measure(resolve(Case("se", height=8, width=8, tokens=64, dim=64)), STATIC))  # start-up
    print(f"{'(ms)':22}{'fwd, first':>12}{'again':>8}{'fwd_bwd, first':>17}{'again':>8}")
    for spec in catalogue():
        if spec.kind == "module":
            case = resolve(Case(spec.name, height=SIDE, width=SIDE, tokens=SIDE**2, dim=64))
            (first, again), (both, both_again) = (milliseconds(case.with_(mode=mode)) for mode in ("fwd", "fwd_bwd"))
            print(f"{spec.name:22}{first:>12.0f}{again:>8.0f}{both:>17.0f}{both_again:>8.0f}", flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the process: {most:.0f} MiB, torch itself included")


if __name__ == "__main__":
    main()
