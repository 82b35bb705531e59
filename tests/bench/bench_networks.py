"""Sixty networks of timm, torchvision and transformers, counted without data: writes `results/networks.md`.

    python tests/bench/bench_networks.py [--out FILE]

It needs attnbench with `pip install timm torchvision transformers`, no GPU and no network. Seconds are those that the
processor worked (so that a busy machine does not count), for `attnbench run --metrics static` after start-up; the large
networks are counted in a process of their own, whose most memory is told. It takes five minutes on two cores.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "targets"), str(ROOT)]

from sixty_networks import NAMES, as_the_library_builds, asked, parameters  # noqa: E402

from attnbench.core.case import Case  # noqa: E402
from attnbench.core.record import Note, Reading  # noqa: E402
from attnbench.engine.measure import measure  # noqa: E402
from attnbench.metrics.metric import Options  # noqa: E402
from attnbench.targets.resolve import resolve  # noqa: E402

STATIC = Options(metrics=("static",))
LARGE = (
    Case("timm:vit_giant_patch14_dinov2", kind="network", height=224, width=224),
    Case("timm:eva_giant_patch14_224", kind="network", height=224, width=224),
    Case("torchvision:vit_h_14", kind="network", height=224, width=224),
    Case("hf:gpt2", kind="network", tokens=1024, params=(("n_embd", 1600), ("n_head", 25), ("n_layer", 48))),
    Case("hf:llama", kind="network", tokens=4096),
    Case("hf:mixtral", kind="network", tokens=512),
)
PAGE = """# Networks of timm, torchvision and transformers

Made by `python tests/bench/bench_networks.py`; not edited by hand.

{count} names of three libraries, each built from its configuration with random weights, offline, for
an image of 224x224 or for 512 tokens, batch 1, forward, fp32. Parameters are counted by attnbench on its own build and
beside it on what the library builds without attnbench; they are equal for {equal} of {count}. MACs are the contraction
multiply-accumulates of one forward; `verified` says that another counter, which could count all of it, came to the
same integer ({verified} of {count}). No operator was passed over where the last column is empty. transformers' names
are model types at their default configuration, without a head for a task.
{versions}.

`s` are seconds of work of one processor core for `--metrics static` after the libraries are loaded: building it three
times without data, three counters, and the prediction of its memory.

{table}

## Large ones

Each in a process of its own: nothing of the network is ever in memory. {base} MiB of it are torch, before any
network.

{large}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One network as it was counted; seconds of work, and the most memory of the process in MiB."""

    name: str
    size: str
    params: int
    library: int | None
    macs: int
    counters: dict[str, int | None]
    verified: bool
    uncounted: dict[str, int]
    notes: list[str]
    seconds: float
    memory: int


def counted(case: Case, library: int | None = None) -> Row:
    start = time.process_time()
    case = resolve(case)
    findings = list(measure(case, STATIC))
    seconds = time.process_time() - start
    read: dict[str, Any] = {each.name: each.value for each in findings if isinstance(each, Reading)}
    notes = [each.text for each in findings if isinstance(each, Note) and each.kind in ("unverified", "counted_live")]
    name = case.target + "".join(f" {key}={value}" for key, value in case.params)
    return Row(name, case.size, read["static.params"], library, read["static.macs"], read["static.counters"],
               read["static.verified"], read["static.uncounted_ops"], notes, seconds, most_memory())  # fmt: skip


def most_memory() -> int:
    """MiB that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def alone(number: int) -> Row:
    """A large one, in a process of its own."""
    command = [sys.executable, __file__, "--large", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def rows() -> Iterator[Row]:
    counted(asked(NAMES[0]))  # start-up
    for name in NAMES:
        row = counted(asked(name), parameters(as_the_library_builds(name)))
        print(f"{row.name:42}{row.params:>15,}{row.macs:>18,} {row.verified} {row.seconds:.1f} s", flush=True)
        yield row


def table(found: Sequence[Row]) -> str:
    head = "| network | size | parameters | the library's | MACs | verified | by | s | uncounted, doubts |\n"
    return head + "|---|--:|--:|--:|--:|---|---|--:|---|\n" + "\n".join(map(line, found))


def line(row: Row) -> str:
    agree = ", ".join(name for name, macs in row.counters.items() if macs == row.macs)
    own = "the same" if row.library == row.params else f"**{row.library:,}**"
    doubts = "; ".join([*(f"{name} ({calls}x)" for name, calls in row.uncounted.items()), *row.notes])
    verified = "yes" if row.verified else "**no**"
    return (f"| `{row.name}` | {row.size} | {row.params:,} | {own} | {row.macs:,} | {verified} | {agree} | "
            f"{row.seconds:.1f} | {doubts} |")  # fmt: skip


def large_table(found: Sequence[Row]) -> str:
    head = "| network | size | parameters | weights, GiB | MACs | verified | s, with loading | process, MiB |\n"
    return head + "|---|--:|--:|--:|--:|---|--:|--:|\n" + "\n".join(
        f"| `{row.name}` | {row.size} | {row.params:,} | {row.params * 4 / 2**30:.1f} | {row.macs:,} | "
        f"{'yes' if row.verified else '**no**'} | {row.seconds:.1f} | {row.memory:,} |"
        for row in found
    )  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")  # what the libraries say of themselves
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "networks.md")
    parser.add_argument("--large", type=int)
    given = parser.parse_args()
    if given.large is not None:
        print(json.dumps(asdict(counted(LARGE[given.large]))))
        return
    base = most_memory()
    large = [alone(number) for number in range(len(LARGE))]
    found = list(rows())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "torchvision", "transformers"))
    given.out.write_text(PAGE.format(
        count=len(found), versions=versions, equal=sum(row.params == row.library for row in found),
        verified=sum(row.verified for row in found), table=table(found), large=large_table(large), base=base,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
