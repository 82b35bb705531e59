"""How often the gate is wrong: false alarms and missed slowdowns of `attnbench check`, beside two common rules.

Run it as `python tests/bench/gate_error_rates.py [aa] [load] [2] [3] [5] [stored] [stored-load] [stored-5] [stored-10]
[path] [page] [--suites N] [--common N] [--keep FILE]` (by default all; hours on two cores). Everything is the product
as users have it: a scratch repository whose commits really do more work (102 layers for 100 are 2 % more), a suite of
ten modules of 0.3 to 20 ms, and the command line.

`aa` is `check --base` of two commits of which the second makes nothing slower, `load` the same while another process
works and rests at random, the numbers are slowdowns in per cent. The common rules see the same commits in the same run:
`pytest-benchmark` with `--benchmark-compare-fail=median:5%`, and a loop that means 100 steps. `stored` checks against a
baseline that was stored before, in `stored-load` while another process works all the time. `path` is the exit code
where a commit makes a module 10 % slower, and where one edits a docstring. What is measured is appended to FILE, and
`page` writes all that FILE has into `results/gate.md`.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import expm1, log1p
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "results" / "gate.md"
SUBJECTS = Path(__file__).with_name("gate_subjects.py")

CASES = [("Product", 32, 32), ("Softmax", 64, 64), ("Gate", 64, 32), ("Attention", 32, 32), ("Attention", 128, 32),
         ("Attention", 192, 32), ("Linear", 64, 32), ("Linear", 256, 64), ("Feedforward", 64, 64),
         ("Feedforward", 128, 96)]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What is asked: how much slower the candidate is in per cent, and the threshold of `check`."""

    slower: int
    threshold: str
    title: str
    stored: bool = False
    load: str = ""


PARTS = {
    "aa": Part(0, "5%", "none (A/A)"),
    "load": Part(0, "5%", "none (A/A), under load", load="random"),
    "2": Part(2, "3%", "2 %"),
    "3": Part(3, "5%", "3 %"),
    "5": Part(5, "5%", "5 %"),
    "stored": Part(0, "5%", "none (A/A)", stored=True),
    "stored-load": Part(0, "5%", "none (A/A), half the machine taken", stored=True, load="always"),
    "stored-5": Part(5, "5%", "5 %", stored=True),
    "stored-10": Part(10, "5%", "10 %", stored=True),
}
LIMIT = 1.05  # of the common rules
RULES = ("check", "pytest-benchmark", "mean of 100")

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

LOOP = """
import importlib.util, json, sys, time, torch
spec = importlib.util.spec_from_file_location("subjects", sys.argv[1])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
torch.manual_seed(0); found = {}
for name, tokens, dim in json.loads(sys.argv[2]):
    subject, x = getattr(module, name)(dim), torch.randn(1, tokens, dim)
    with torch.no_grad():
        for _ in range(10): subject(x)
        start = time.perf_counter()
        for _ in range(100): subject(x)
    found[f"{name} {tokens}"] = (time.perf_counter() - start) / 100
print(json.dumps(found))
"""

BENCHMARKS = """
import importlib.util, os, pytest, torch
spec = importlib.util.spec_from_file_location("subjects", os.environ["SUBJECTS"])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)

@pytest.mark.parametrize("name, tokens, dim", {cases})
def test_subject(benchmark, name, tokens, dim):
    torch.manual_seed(0)
    subject, x = getattr(module, name)(dim), torch.randn(1, tokens, dim)
    with torch.no_grad():
        benchmark(subject, x)
"""

BUSY = """
import os, random, sys, time
rng = random.Random(int(sys.argv[1])); block = list(range(200_000)); parent = os.getppid()
while os.getppid() == parent:
    end = time.monotonic() + rng.uniform(0.2, 4)
    while time.monotonic() < end: sum(block)
    if sys.argv[2] == "random": time.sleep(rng.uniform(0.2, 4))
"""


@dataclass(frozen=True)
class Finding:
    """One rule's word on one case: whether it fails, and by how much it is slower as far as the rule says."""

    part: str
    suite: str
    rule: str
    case: str
    outcome: str
    fails: bool
    change: float | None
    seconds: float
    launches: tuple[float, ...] = ()


class Scratch:
    """A repository with a commit for each slowdown, and what the rules need beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repository = folder, folder / "repository"
        self.repository.mkdir()
        self._git("init", "-q")
        text = SUBJECTS.read_text()
        grids = [f'[grid.{name}{tokens}]\nmodule = "subjects.py:{name}"\nseq-len = {tokens}\ndim = {dim}\n'
                 for name, tokens, dim in CASES]  # fmt: skip
        (self.repository / "gate.toml").write_text("\n".join(grids))
        self._commit("base", text)
        self._commit("0", text.replace("UNUSED = 0", "UNUSED = 1"))
        for slower in (2, 3, 5, 10):
            self._commit(str(slower), text.replace("LAYERS = 100", f"LAYERS = {100 + slower}"))
        self._commit("docs", text.replace("N times", "a number of times").replace('"""A unit', '"""One unit'))
        (folder / "bench_subjects.py").write_text(BENCHMARKS.format(cases=CASES))

    def _git(self, *words: str) -> None:
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
        subprocess.run(["git", *who, *words], cwd=self.repository, check=True, capture_output=True)

    def _commit(self, tag: str, text: str) -> None:
        (self.repository / "subjects.py").write_text(text)
        self._git("add", "-A")
        self._git("commit", "-qm", tag)
        self._git("tag", f"slower-{tag}")
        tree = self.folder / tag
        tree.mkdir()
        (tree / "subjects.py").write_text(text)

    def at(self, slower: int | str) -> None:
        self._git("checkout", "-q", f"slower-{slower}")

    def attnbench(self, *words: str) -> int:
        """The exit code of the command, for the suite on the CPU."""
        command = [sys.executable, "-m", "attnbench", *words, "--suite", "gate.toml", "--device", "cpu", "-q"]
        return subprocess.run(command, cwd=self.repository, env=ENVIRONMENT, capture_output=True).returncode

    def path(self, tag: str) -> int:
        """The exit code of a check of one module at that commit, against the base."""
        self.at(tag)
        words = "check --base slower-base --module subjects.py:Attention --seq-len 128 --dim 32 --device cpu -q"
        command = [sys.executable, "-m", "attnbench", *words.split()]
        return subprocess.run(command, cwd=self.repository, env=ENVIRONMENT, capture_output=True).returncode

    @property
    def baseline(self) -> Path:
        return self.folder / "baseline.jsonl"

    def store(self) -> None:
        """A stored baseline of the base, once the machine is quiet enough for it."""
        self.at("base")
        while not self.baseline.exists() and self.attnbench("baseline", "update", str(self.baseline)):
            print("the machine is too noisy for a baseline: once more", flush=True)


def check(scratch: Scratch, part: str, suite: str) -> Iterator[Finding]:
    asked = PARTS[part]
    scratch.at(asked.slower)
    begin, out = time.monotonic(), scratch.folder / "check.json"
    against = [str(scratch.baseline)] if asked.stored else ["--base", "slower-base"]
    scratch.attnbench("check", *against, "--threshold", asked.threshold, "-o", str(out))
    seconds = (time.monotonic() - begin) / len(CASES)
    for found in json.loads(out.read_text())["verdicts"]:
        if found["title"] == "Latency":
            change = found["ratio"] and found["ratio"]["value"] - 1
            yield Finding(part, suite, "check", found["case"], found["outcome"], found["fails"], change, seconds,
                          tuple(found["launches"]))  # fmt: skip
    out.unlink()


def pytest_benchmark(scratch: Scratch, part: str, suite: str) -> Iterator[Finding]:
    begin = time.monotonic()
    medians = [
        {each["name"]: each["stats"]["median"] for each in _pytest(scratch, tag)}
        for tag in ("base", str(PARTS[part].slower))
    ]
    yield from _ratios("pytest-benchmark", part, suite, medians, begin)


def _pytest(scratch: Scratch, tag: str) -> list[dict]:  # type: ignore[type-arg]
    out = scratch.folder / "benchmark.json"
    environment = {**ENVIRONMENT, "SUBJECTS": str(scratch.folder / tag / "subjects.py")}
    words = ["-m", "pytest", "-q", "-p", "no:xdist", "-c", os.devnull, f"--benchmark-json={out}", "bench_subjects.py"]
    subprocess.run([sys.executable, *words], cwd=scratch.folder, env=environment, capture_output=True, check=True)
    found: list[dict] = json.loads(out.read_text())["benchmarks"]  # type: ignore[type-arg]
    return found


def mean_of_100(scratch: Scratch, part: str, suite: str) -> Iterator[Finding]:
    begin, means = time.monotonic(), []
    for tag in ("base", str(PARTS[part].slower)):
        words = [sys.executable, "-c", LOOP, str(scratch.folder / tag / "subjects.py"), json.dumps(CASES)]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        means.append(json.loads(done.stdout))
    yield from _ratios("mean of 100", part, suite, means, begin)


def _ratios(rule: str, part: str, suite: str, times: Sequence[dict[str, float]], begin: float) -> Iterator[Finding]:
    seconds = (time.monotonic() - begin) / len(CASES)
    base, head = times
    for case in base:
        ratio = head[case] / base[case]
        yield Finding(part, suite, rule, case, "worse" if ratio > LIMIT else "same", ratio > LIMIT, ratio - 1, seconds)


METHODS: tuple[Callable[[Scratch, str, str], Iterator[Finding]], ...] = (check, pytest_benchmark, mean_of_100)


@contextmanager
def load(part: str, seed: int) -> Iterator[None]:
    """Another process that works, and rests in between where the part says so, each for 0.2 to 4 s."""
    if not PARTS[part].load:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(seed), PARTS[part].load])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(parts: Sequence[str], suites: int, common: int, keep: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder))
        if any(PARTS[part].stored for part in parts):
            scratch.store()
        for number in range(suites):
            for part in parts:
                suite = f"{part}-{datetime.now(UTC):%H%M%S}-{number}"
                with load(part, number), keep.open("a") as file:
                    for method in METHODS if number < common and not PARTS[part].stored else METHODS[:1]:
                        found = list(method(scratch, part, suite))
                        file.writelines(json.dumps(asdict(each)) + "\n" for each in found)
                        said = [each.outcome for each in found if each.outcome != "same"]
                        print(f"{suite:16} {found[0].rule:18} {found[0].seconds:5.1f} s a case", *said, flush=True)


def walk_the_path(keep: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, keep.open("a") as file:
        scratch = Scratch(Path(folder))
        for tag in ("10", "docs"):
            begin = time.monotonic()
            code = scratch.path(tag)
            found = Finding("path", tag, "check", tag, str(code), code == 1, None, time.monotonic() - begin)
            file.write(json.dumps(asdict(found)) + "\n")
            print(f"{tag}: exit code {code} after {found.seconds:.0f} s", flush=True)


def page(keep: Path) -> str:
    found = [Finding(**json.loads(line)) for line in keep.read_text().splitlines()]
    lines = [
        "# How often the gate is wrong",
        "",
        "Made by `python tests/bench/gate_error_rates.py`: ten modules of 0.3 to 20 ms in a scratch repository, whose "
        "commits do 0, 2, 3, 5 and 10 % more work (layers of a hundred), compared by `attnbench check` as a user runs "
        "it, and by two common rules in the same run. *Under load* another process works and rests at random, for 0.2 "
        "to 4 s each.",
        "",
        f"{_cpu()}, {os.cpu_count()} virtual cores, one thread; torch {_torch()}; {datetime.now(UTC):%Y-%m-%d}.",
    ]  # fmt: skip
    lines += _section(found, "`check --base`: two revisions in one process", stored=False)
    lines += _section(found, "`check FILE`: a stored baseline", stored=True)
    lines += _path([each for each in found if each.part == "path"])
    return "\n".join(lines) + "\n"


HEAD = ("| slowdown | threshold | rule | comparisons | fail | cannot judge | suites of 10 that fail | seconds a case "
        "(median) |", "|---|---|---|---:|---:|---:|---:|---:|")  # fmt: skip


def _section(found: Sequence[Finding], title: str, *, stored: bool) -> list[str]:
    parts = {name: part for name, part in PARTS.items() if part.stored == stored}
    rows = [
        f"| {part.title} | {part.threshold if rule == 'check' else '5%'} | {rule} | {_row(mine)} |"
        for name, part in parts.items()
        for rule in RULES
        if (mine := [each for each in found if each.part == name and each.rule == rule])
    ]
    spreads = _spreads([each for each in found if each.rule == "check" and each.part in parts])
    return ["", f"## {title}", "", *HEAD, *rows, "", *spreads] if rows else []


def _path(found: Sequence[Finding]) -> list[str]:
    made = {"10": "makes the module 10 % slower", "docs": "edits a docstring"}
    told = [f"- a commit that {made[each.case]}: exit code {each.outcome} ({each.seconds:.0f} s)" for each in found]
    return ["", "## The whole path: one module, one commit", "", *told] if told else []


def _row(found: Sequence[Finding]) -> str:
    suites = {each.suite: False for each in found}
    for each in found:
        suites[each.suite] |= each.fails
    undecided = sum(each.outcome == "undecided" for each in found)
    seconds = statistics.median(each.seconds for each in found)
    fails = sum(each.fails for each in found)
    return (f"{len(found)} | {fails} ({fails / len(found):.1%}) | {undecided} ({undecided / len(found):.1%}) | "
            f"{sum(suites.values())} of {len(suites)} | {seconds:.1f}")  # fmt: skip


def _spreads(found: Sequence[Finding]) -> Iterator[str]:
    """What a process says less what is true, over all processes of a part."""
    for name, part in PARTS.items():
        launches = [ratio for each in found if each.part == name for ratio in each.launches]
        if errors := [log1p(ratio - 1) - log1p(part.slower / 100) for ratio in launches]:
            middle, spread = statistics.fmean(errors), statistics.pstdev(errors)
            typical = statistics.median(map(abs, errors)) / 0.6745
            yield (f"- {name}: {len(errors)} processes; what one says is off by {expm1(middle):+.2%} on average, with "
                   f"a standard deviation of {spread:.2%} ({typical:.2%} by the median of the deviations)")  # fmt: skip


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _torch() -> str:
    from importlib.metadata import version

    return version("torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "path", "page"], default=[*PARTS, "path", "page"])
    parser.add_argument("--suites", type=int, default=20)
    parser.add_argument("--common", type=int, default=4, help="suites that the common rules see, too")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "attnbench-gate.jsonl")
    asked = parser.parse_args()
    if shutil.which("git") is None:
        parser.error("git is not installed")
    parts = [part for part in asked.parts if part in PARTS]
    if parts:
        random.seed(0)
        measure(parts, asked.suites, asked.common, asked.keep)
    if "path" in asked.parts:
        walk_the_path(asked.keep)
    if "page" in asked.parts:
        PAGE.write_text(page(asked.keep), encoding="utf-8")
        print(PAGE.read_text())


if __name__ == "__main__":
    main()
