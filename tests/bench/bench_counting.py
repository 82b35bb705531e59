"""Every case counted by hand, by every counter that is installed: writes `results/counting.md`.

    python tests/bench/bench_counting.py [--out FILE]

It needs attnbench and, for the others' columns, `pip install ptflops thop calflops torchinfo torchprofile` and
`DS_BUILD_OPS=0 pip install deepspeed`; a counter that is not installed is left out, and the page says so. Counters
patch torch and do not always take that back, so each question is asked in a process of its own: one process imports the
counter and forks for each case. It takes five to ten minutes on two cores.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "counting"), str(ROOT)]

import torch  # noqa: E402
from all_cases import CASES  # noqa: E402
from counting_table import SIDES, markdown, one_sample  # noqa: E402
from hand_case import SIZES, HandCase  # noqa: E402
from outside_counters import COUNTERS, Answer, Counter  # noqa: E402

SECONDS = 120  # for one question
SLOW_IMPORTS = ("torch._dynamo", "torch._decomp", "torch._subclasses.fake_tensor", "torch.nn.attention.flex_attention")


def questions() -> Iterator[tuple[HandCase, int | None]]:
    """Every case at the sizes of the table, and the quadratic ones at two lengths."""
    for case in CASES:
        yield case, None
    for case in CASES:
        if case.quadratic:
            yield from ((case, side) for side in SIDES)


def answer_all(counter: Counter) -> None:
    """In the counter's own process: one line of JSON for each question."""
    for module in (counter.module, *SLOW_IMPORTS):  # once here, and not in every fork
        import_module(module)
    for case, side in questions():
        line = json.loads(answered(counter, case, side))
        print(json.dumps({"case": case.name, "side": side, **line}), flush=True)


def answered(counter: Counter, case: HandCase, side: int | None) -> str:
    """The answer of a forked process, which may print, patch, crash or hang as it likes."""
    with tempfile.TemporaryFile("w+") as file:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            signal.alarm(SECONDS)
            file.write(json.dumps(one_answer(counter, case, side)))
            file.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        file.seek(0)
        return file.read() or json.dumps({"reason": f"its process ended with {os.waitstatus_to_exitcode(status)}"})


def one_answer(counter: Counter, case: HandCase, side: int | None) -> dict[str, object]:
    sizes = SIZES if side is None else SIZES.at(side)
    try:
        return asdict(counter.ask(case, one_sample(sizes) if counter.one_sample else sizes))
    except Exception as error:  # a refusal is an answer too
        return {"reason": f"{type(error).__name__}: {error}"[:200]}


def asked(counter: Counter) -> dict[tuple[str, str, int | None], Answer | str]:
    """All answers of one counter, from a process that has imported no other."""
    command = [sys.executable, __file__, "--counter", counter.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{counter.name}: {done.stderr[-2000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[tuple[str, str, int | None], Answer | str] = {}
    for line in lines:
        case, side = line.pop("case"), line.pop("side")
        found[counter.name, case, side] = line["reason"] if "reason" in line else Answer(**line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Every case counted by hand, by every counter that is installed.")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "counting.md")
    parser.add_argument("--counter", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.counter:
        answer_all(COUNTERS[given.counter])
        return
    installed = [counter for counter in COUNTERS.values() if counter.version]
    missing = [counter.name for counter in COUNTERS.values() if not counter.version]
    answers: dict[tuple[str, str, int | None], Answer | str] = {}
    for counter in installed:
        answers |= asked(counter)
        exact = sum(isinstance(each := answers[counter.name, case.name, None], Answer)
                    and each.macs == case.value("macs", one_sample(SIZES) if counter.one_sample else SIZES)
                    for case in CASES)  # fmt: skip
        print(f"{counter.name:<24}{exact:>4} of {len(CASES)}", flush=True)
    versions = f"torch {torch.__version__.partition('+')[0]}, Python {platform.python_version()}"
    given.out.write_text(markdown(CASES, installed, missing, answers, versions), encoding="utf-8")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
