"""`attnbench doctor` through the command line: the whole of it once, in part, refused and interrupted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from attnbench.engine import doctor as engine
from attnbench.engine.workers import channels

QUICK = ["doctor", "--quick", "--device", "cpu", "--threads", "1"]
BRIEF = ["--module", "se", "--res", "8", "--processes", "2", "--max-time", "0.1", "--threads", "1", "--device", "cpu"]


@pytest.mark.parametrize("width", ["80", "120"])
def test_quick_says_what_can_be_measured_and_nothing_else(cli, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, err = cli(*QUICK)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("cpu · ")
    assert "1 thread" in out
    assert "malloc" in out
    (clock,) = [line for line in lines if line.startswith("latency ")]
    assert clock.split()[1] == "yes"
    assert "perf_counter_ns" in clock
    assert "needs a GPU: a CPU's caches are not flushed" in out
    assert "Noise floor" not in out
    assert max(map(len, lines)) <= int(width)


def test_all_of_it_as_one_object(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes long and is switched off, which has to be found out."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    code, out, err = cli("doctor", *BRIEF, "--dtype", "fp32", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["device"] == "cpu"
    assert found["env"]["threads"] == 1
    answers = {each["name"]: each for each in found["abilities"]}
    assert answers["latency"]["figures"]["step_ns"] > 0
    assert answers["engine compile"]["can"] == "no"
    noise = found["noise"]
    assert noise["case"]["target"] == "se"
    assert noise["processes"] == len(noise["medians_ms"]) == 2
    first, second = noise["medians_ms"]
    assert noise["largest"] == noise["typical"] == pytest.approx(max(first, second) / min(first, second) - 1)
    assert noise["low_ms"] <= noise["median_ms"] <= noise["high_ms"]
    (peaks,) = found["roof"]
    assert peaks["dtype"] == "fp32"
    assert peaks["threads"] == 1
    assert 0 < peaks["bytes_per_s"] < peaks["flops_per_s"]
    assert peaks["bytes_per_s"] == max(peaks["ladder"][-1][name] for name in ("copy", "read", "fill"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--device", "tpu"], "--device 'tpu' is unknown"),
        (["--processes", "1"], "--processes 1 is out of range: an A/A run compares at least 2 processes"),
        (["--processes", "-3"], "--processes -3 is out of range"),
        (["--processes", "5000"], "--processes 5000 is out of range"),
        (["--module", "self_atn"], "Did you mean 'self_attn'?"),
        (["--module", "vgg16"], "'vgg16' is a network"),
        (["--module", "nowhere.py:M"], "the file nowhere.py does not exist"),
        (["--module", "se,self_attn"], "an A/A run repeats one case, and these are 2"),
        (["--res", "8,16"], "an A/A run repeats one case, and these are 2"),
        (["--res", "0"], "--res 0 is out of range"),
        (["--max-time", "-1"], "--max-time -1 is out of range"),
        (["--max-time", "0"], "--max-time 0 is out of range"),
        (["--timeout", "-1"], "--timeout -1 is out of range"),
        (["--threads", "0"], "--threads 0 is out of range"),
        (["--dtype", "fp23"], "unknown dtype 'fp23'"),
        (["--batch-size", "auto"], "--batch-size auto is found by measuring"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, words: list[str], sentence: str) -> None:
    code, out, err = cli("doctor", *words)
    assert code == 2
    assert sentence in err
    assert err.startswith("attnbench: ")
    assert err.count("\n") == 1
    assert not out


def test_tf32_needs_a_gpu(cli) -> None:
    code, out, err = cli("doctor", "--device", "cpu", "--dtype", "fp32,tf32")
    assert code == 2
    assert "tf32 is a mode of CUDA's tensor cores" in err
    assert not out


KNOWN = {"name": "latency", "can": "yes", "how": "by a clock", "advice": "", "figures": {}}


def cut_short(*parts: dict[str, Any], interrupted: bool = True) -> Any:
    """What stands in for the examination: these parts, and then Ctrl-C."""

    def examined(plan: engine.Plan, channel: Any, tell: Any) -> Iterator[dict[str, Any]]:
        for part in parts:
            yield engine.blank() | {"device": "cpu"} | part
        if interrupted:
            raise KeyboardInterrupt

    return examined


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is started where nothing is measured."""
    monkeypatch.setattr(channels, "WorkerChannel", lambda quiet: channels.InlineChannel())


def test_ctrl_c_prints_what_is_there(cli, inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"cpu": "a CPU", "threads": 1, "torch": "2", "python": "3"}
    monkeypatch.setattr(engine, "examined", cut_short({"env": env}, {"env": env, "abilities": [KNOWN]}))
    code, out, err = cli(*QUICK)
    assert code == 130
    assert "latency  yes     by a clock" in out
    assert "interrupted; what was found out by then is printed" in err
    code, out, _ = cli(*QUICK, "--json")
    assert code == 130
    assert json.loads(out)["abilities"] == [KNOWN]


def test_ctrl_c_before_anything_is_known_prints_nothing(cli, inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "examined", cut_short())
    code, out, _ = cli(*QUICK)
    assert code == 130
    assert not out


def test_an_a_a_run_without_figures_cannot_judge(cli, inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = {"largest": None, "reason": "it crashed", "case": {"target": "se", "height": 8, "width": 8}}
    monkeypatch.setattr(engine, "examined", cut_short({"env": None, "noise": noise}, interrupted=False))
    assert cli("doctor", *BRIEF).code == 3
    assert cli("doctor", *BRIEF, "--quick").code == 0
