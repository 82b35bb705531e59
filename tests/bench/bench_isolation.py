"""What a worker process costs a small case, beside the same case in the caller's own process.

    python tests/bench/bench_isolation.py [--cases N]

Both answer the same small case in turns, so that a load that comes and goes meets both; the medians and the median of
the differences are in milliseconds, as whoever asks waits for them. What a fresh worker costs, which `--isolate case`
and every fault pays, stands below. Exits 1 where the isolation of a case costs 30 ms or more.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

from attnbench.core.case import Case
from attnbench.engine.asking import measured, on_device
from attnbench.engine.workers.channels import Channel, InlineChannel, WorkerChannel
from attnbench.metrics.metric import Options

CASE = Case("se", height=8, width=8, tokens=64, dim=64, layout="bchw", device="cpu")
MOST = 30.0
FRESH = 5
ASKED = {
    "static": Options(metrics=("static",), threads=1),
    "static, latency": Options(metrics=("static", "latency"), max_time=0.001, threads=1),
}


def milliseconds(channel: Channel, options: Options) -> float:
    start = time.perf_counter()
    record = measured(CASE, channel, options)
    took = 1000 * (time.perf_counter() - start)
    assert record.ok, record.reason
    return took


def fresh(channel: WorkerChannel) -> float:
    """A worker that has answered nothing yet, until it has answered."""
    channel.fresh()
    return milliseconds(channel, ASKED["static"])


def line(what: str, values: Sequence[float]) -> str:
    low, high = statistics.quantiles(values, n=10)[0], statistics.quantiles(values, n=10)[-1]
    return f"  {what:<14}{statistics.median(values):>9.2f}{low:>9.2f}{high:>9.2f}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    count = parser.parse_args().cases
    worker, inline = WorkerChannel(), InlineChannel()
    worst = 0.0
    for channel in (worker, inline):
        on_device([CASE], channel, ASKED["static"])
    for what, options in ASKED.items():
        times = {"inline": [], "worker": []}
        for number in range(count + 5):
            pair = {"inline": milliseconds(inline, options), "worker": milliseconds(worker, options)}
            for name, took in pair.items():
                times[name] += [took] if number >= 5 else []  # the first ones load what they need
        differences = [late - early for early, late in zip(times["inline"], times["worker"], strict=True)]
        worst = max(worst, statistics.median(differences))
        print(f"{what}, {count} cases (ms)    median     10 %     90 %")
        print("\n".join([*(line(name, taken) for name, taken in times.items()), line("difference", differences)]))
    print(f"a fresh worker and its first case: {statistics.median(fresh(worker) for _ in range(FRESH)):.0f} ms")
    worker.close()
    print(f"isolation costs a small case {worst:.2f} ms; {MOST:.0f} ms are allowed")
    return int(worst >= MOST)


if __name__ == "__main__":
    raise SystemExit(main())
