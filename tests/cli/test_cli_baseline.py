"""`attnbench baseline update` and `attnbench check FILE` as they are typed, on a machine that is made by hand."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_repository import Here

from attnbench.engine.gate.yardsticks import YARDSTICKS
from attnbench.engine.workers import channels
from attnbench.engine.workers.channels import Event

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from canned_machine import Machine

CASES = ("-m", "self_attn,linear_attn", "--res", "4", "--dim", "8", "-q")
ONE = ("-m", "self_attn", "--res", "4", "--dim", "8", "-q")


class Bench(Here):
    """Counts in this process, and times on the machine."""

    machine: Machine

    def fresh(self) -> None:
        self.machine.fresh()

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        return self.machine.ask(request) if request["do"] == "twins" else super().ask(request, timeout)


def on(spread: float = 0.005, slower: float = 1.0, load: float = 0.0, seed: int = 0, whole: float = 1.0) -> Machine:
    """A machine on which self_attn takes so many times what it did, or everything does."""
    ms = {**dict.fromkeys(YARDSTICKS, 1.0), "self_attn": 3.0 * slower, "linear_attn": 2.0}
    Bench.machine = Machine({name: each * whole for name, each in ms.items()}, spread, seed, load=lambda number: load)
    return Bench.machine


@pytest.fixture(autouse=True)
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "WorkerChannel", Bench)
    on()


@pytest.fixture
def stored(cli) -> None:
    """A baseline of both modules."""
    code, _, err = cli("baseline", "update", "base.jsonl", *CASES)
    assert (code, err) == (0, "2 cases in base.jsonl\n")


def outcomes(out: str) -> dict[tuple[str, str], str]:
    return {(each["case"].split()[0], each["title"] or ""): each["outcome"] for each in json.loads(out)["verdicts"]}


def test_the_same_is_the_same_on_the_same_machine(cli, stored: None) -> None:
    on(seed=1)
    code, out, err = cli("check", "base.jsonl", *CASES)
    assert (code, err) == (0, "")
    assert "the check passes." in out


def test_without_a_suite_the_cases_are_those_of_the_file(cli, stored: None) -> None:
    found = outcomes(cli("check", "base.jsonl", "-q", "--format", "json").out)
    assert found["self_attn", "Latency"] == found["linear_attn", "Latency"] == found["self_attn", "MACs"] == "same"


def test_a_machine_that_is_slower_by_the_same_for_all_is_no_regression(cli, stored: None) -> None:
    on(seed=1, whole=1.1)
    assert cli("check", "base.jsonl", *CASES).code == 0


@pytest.mark.parametrize("slower", [1.05, 1.1, 2.0])
def test_what_got_slower_fails(cli, stored: None, slower: float) -> None:
    on(seed=1, slower=slower)
    code, out, _ = cli("check", "base.jsonl", *CASES, "--format", "json")
    assert code == 1
    assert {name for name, outcome in outcomes(out).items() if outcome == "worse"} == {("self_attn", "Latency")}
    (latency,) = (each for each in json.loads(out)["verdicts"] if each["outcome"] == "worse")
    assert latency["ratio"]["low"] < slower < latency["ratio"]["high"]


def test_a_busy_machine_cannot_judge_and_writes_no_baseline(cli, stored: None) -> None:
    on(load=1.0)
    code, out, _ = cli("check", "base.jsonl", *CASES)
    assert code == 3
    assert "other programs" in out and "cannot judge" in out
    before = Path("base.jsonl").read_bytes()
    code, out, err = cli("baseline", "update", "base.jsonl", *CASES)
    assert (code, out) == (3, "") and "too noisy for a baseline" in err
    assert Path("base.jsonl").read_bytes() == before


def test_another_environment_cannot_judge_latencies_unless_it_is_allowed_and_judges_figures(cli, stored: None) -> None:
    lines = Path("base.jsonl").read_text().splitlines(keepends=True)
    head = json.loads(lines[0])
    head["env"]["torch"] = "1.0.0"
    Path("base.jsonl").write_text(json.dumps(head) + "\n" + "".join(lines[1:]))
    code, out, _ = cli("check", "base.jsonl", *CASES, "--format", "json")
    assert code == 3
    found = outcomes(out)
    assert found["self_attn", "Latency"] == "undecided" and found["self_attn", "MACs"] == "same"
    assert "torch 1.0" in out and "--allow torch" in out
    assert cli("check", "base.jsonl", *CASES, "--allow", "torch").code == 0


def test_another_number_of_macs_fails_on_any_machine(cli, stored: None) -> None:
    text = Path("base.jsonl").read_text()
    macs = json.loads(text.splitlines()[-1])["figures"]["static.macs"]
    Path("base.jsonl").write_text(text.replace(f'"static.macs": {macs}', f'"static.macs": {macs + 1}'))
    on(load=1.0)
    code, out, _ = cli("check", "base.jsonl", *CASES, "--format", "json")
    assert code == 1
    assert list(outcomes(out).values()).count("changed") == 1


def test_a_new_case_passes_and_one_that_nobody_asked_for_is_missing(cli, stored: None) -> None:
    other = [word.replace("linear_attn", "se") for word in CASES]
    code, out, _ = cli("check", "base.jsonl", *other, "--format", "json")
    assert code == 1
    assert outcomes(out)["se", ""] == "new" and outcomes(out)["linear_attn", ""] == "missing"
    assert cli("check", "base.jsonl", *ONE, "--fail-on", "undecided").code == 0


def test_an_update_leaves_what_says_the_same_and_what_nobody_asked_for(cli, stored: None) -> None:
    before = Path("base.jsonl").read_text()
    assert cli("baseline", "update", "base.jsonl", *CASES).code == 0
    assert Path("base.jsonl").read_text() == before
    on(slower=1.3)
    code, _, err = cli("baseline", "update", "base.jsonl", *ONE)
    assert (code, err) == (0, "1 case in base.jsonl, and 1 that it had\n")
    after = Path("base.jsonl").read_text()
    changed = [line for line in after.splitlines()[1:] if line not in before]
    assert len(changed) == 1 and "self_attn" in changed[0]
    on(seed=2, slower=1.3)
    assert cli("check", "base.jsonl", *CASES).code == 0


def test_one_line_a_case_and_the_environment_in_the_first(cli, stored: None) -> None:
    lines = [json.loads(line) for line in Path("base.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["attnbench_baseline"] == 1 and {"torch", "threads", "cpu"} <= set(lines[0]["env"])
    assert all(len(line) < 3000 for line in Path("base.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("check", "gone.jsonl"), "gone.jsonl"),
        (("check", "base.jsonl", "--base", "HEAD"), "exclude each other"),
        (("check", "base.jsonl", "--allow", "weather"), "--allow cannot name 'weather'"),
        (("check", "records.jsonl"), "attnbench baseline update"),
        (("check", "torn.jsonl"), "torn.jsonl"),
        (("baseline", "update", "base.txt", *ONE), "ends in .jsonl"),
        (("baseline", "update", "base.jsonl"), "nothing is asked"),
        (("baseline", "update", "base.jsonl", *ONE, "--launches", "2"), "2 launches"),
        (("baseline", "update", "records.jsonl", *ONE), "attnbench baseline update"),
        (("baseline", "update", "base.jsonl", "-m", "gone.py:Attn", "--res", "4"), "gone.py does not exist"),
    ],
)
def test_bad_input_is_one_sentence(cli, stored: None, words: tuple[str, ...], sentence: str) -> None:
    old = Path(__file__).parents[1] / "core" / "old_records"
    Path("records.jsonl").write_text(next(old.glob("*.jsonl")).read_text())
    Path("torn.jsonl").write_text(Path("base.jsonl").read_text()[:700])
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert sentence in err and err.count("\n") == 1 and "Traceback" not in err
