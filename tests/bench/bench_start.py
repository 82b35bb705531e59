"""How long a user waits: the commands that load no torch, and the first table beside torch's own import.

Run it on a quiet machine: `python tests/bench/bench_start.py`. Each command is started fresh, seven times; the median
and the range are in seconds, and as a ratio to the import of torch measured in between.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ATTNBENCH = [sys.executable, "-m", "attnbench"]
COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import torch": [sys.executable, "-c", "import torch"],
    "--help": [*ATTNBENCH, "--help"],
    "list": [*ATTNBENCH, "list"],
    "show self_attn": [*ATTNBENCH, "show", "self_attn"],
    "first table": [*ATTNBENCH, "run", "--module", "self_attn", "--res", "64"],
}
ROUNDS = 7


def seconds(command: Sequence[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):  # interleaved, so that a load that comes and goes meets all of them
            for name, command in COMMANDS.items():
                times[name].append(seconds(command, folder))
    torch = statistics.median(times["import torch"])
    print(f"{'':<16}{'median s':>10}{'min':>8}{'max':>8}{'x torch':>9}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:<16}{median:>10.3f}{min(taken):>8.3f}{max(taken):>8.3f}{median / torch:>9.2f}")


if __name__ == "__main__":
    main()
