"""How long counting takes where nothing could be run: every module at 1,048,576 tokens, and the memory of the process.

    python tests/bench/bench_static.py

Prints for each module the milliseconds of one case after start-up (median of five), forward and forward + backward, and
at the end the most memory that the process ever held.
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


def milliseconds(case: Case) -> float:
    """Of one case, counted and predicted; the first time is start-up and thrown away."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        list(measure(case, STATIC))
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    print(f"{'module':22}{'fwd (ms)':>10}{'fwd_bwd (ms)':>14}")
    for spec in catalogue():
        if spec.kind == "module":
            case = resolve(Case(spec.name, height=SIDE, width=SIDE, tokens=SIDE**2, dim=64))
            times = [milliseconds(case.with_(mode=mode)) for mode in ("fwd", "fwd_bwd")]
            print(f"{spec.name:22}{times[0]:>10.0f}{times[1]:>14.0f}", flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the process: {most:.0f} MiB, torch itself included")


if __name__ == "__main__":
    main()
