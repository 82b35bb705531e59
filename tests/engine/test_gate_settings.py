"""The gate's configuration: what a pyproject.toml says, what is wrong in it and where, and which threshold holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.core.errors import UsageError
from attnbench.engine.gate.settings import Settings, settings
from attnbench.engine.gate.thresholds import Rule, Threshold, refuse_unused, threshold_of, unused
from attnbench.engine.gate.values import FAILING
from attnbench.report.gate.verdict import parsed_fail_on

Load = Callable[[str], Settings]

TABLE = "[tool.attnbench.check]\n"
RULE = "[[tool.attnbench.check.thresholds]]\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """The settings of this text, in a pyproject.toml of the current folder, which is the top of a repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()

    def loaded(text: str) -> Settings:
        Path("pyproject.toml").write_text(text, encoding="utf-8")
        return settings()

    return loaded


# What is said


def test_every_key_is_read(load: Load, tmp_path: Path) -> None:
    Path("gate.toml").write_text("")
    found = load(
        '[project]\nname = "x"\n\n[[tool.mypy.overrides]]\nmodule = "y"\n\n' + TABLE
        + 'suite = "gate.toml"\nbase = "origin/main..."\nbaseline = "results/baseline.jsonl"\nthreshold = "4%"\n'
        'margin = 0.01\nmax-time = 30\nfail-on = ["worse", "missing"]\nwarn-only = true\ndevice = "cuda:1"\n'
        "threads = 2\n"
        + RULE + 'case = "linear_*"\nmetric = "latency"\nthreshold = "10%"\nmargin = "3%"\n'
    )  # fmt: skip
    rule = Rule("linear_*", "latency", Threshold(0.1, 0.03), "pyproject.toml, line 19")
    assert found == Settings(
        tmp_path / "pyproject.toml", "gate.toml", "origin/main...", Path("results/baseline.jsonl"), 0.04, 0.01, 30.0,
        ("worse", "missing"), True, "cuda:1", 2, (rule,),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "[tool.attnbench]\n", '[tool.other]\nx = 1\n', "[project]\n"])
def test_nothing_said_is_the_defaults(load: Load, text: str) -> None:
    assert load(text) == Settings()


def test_words_as_on_the_command_line(load: Load) -> None:
    assert load(TABLE + 'fail_on = "worse, undecided,worse"\nmax_time = 0.5\nsuite = "quick"\n') == Settings(
        Path("pyproject.toml").absolute(), "quick", max_time=0.5, fail_on=("worse", "undecided")
    )


def test_the_words_are_those_of_the_report() -> None:
    for word in FAILING:
        assert word in parsed_fail_on([word])


def test_the_nearest_file_with_the_table_counts_up_to_the_top_of_the_repository(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "a.toml").write_text("")
    load(TABLE + 'suite = "suites/a.toml"\nbaseline = "b.jsonl"\n' + RULE + 'case = "x"\nthreshold = "9%"\n')
    deep = tmp_path / "packages" / "one"
    deep.mkdir(parents=True)
    (deep / "pyproject.toml").write_text("[project]\n")
    monkeypatch.chdir(deep)
    found = settings()
    assert found.path == tmp_path / "pyproject.toml"
    assert found.suite == "../../suites/a.toml"
    assert found.baseline == Path("../../b.jsonl")
    assert found.rules[0].where == "../../pyproject.toml, line 5"
    (deep / "pyproject.toml").write_text(TABLE + "threads = 3\n")
    assert settings(deep) == Settings(deep / "pyproject.toml", threads=3)
    (deep / ".git").write_text("gitdir: elsewhere")  # a linked worktree, whose top this is
    (deep / "pyproject.toml").unlink()
    assert settings() == Settings()


def test_a_path_that_begins_at_the_root_or_at_home_stays(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load(TABLE + 'baseline = "/srv/base.jsonl"\n').baseline == Path("/srv/base.jsonl")
    assert load(TABLE + 'baseline = "~/base.jsonl"\n').baseline == Path("/home/ada/base.jsonl")


# What is wrong

BROKEN = [
    ("a key", TABLE + "treshold = 0.05\n", 2, "unknown key 'treshold' in [tool.attnbench.check]. Did you mean 'thres"),
    ("a key near none", TABLE + "colour = 1\n", 2, "Known: suite, base,"),
    ("a key in two spellings", TABLE + "max-time = 1\nmax_time = 2\n", 3, "max-time is given twice"),
    ("a table beside it", "[tool.attnbench.chek]\nthreads = 1\n", 1, "unknown key 'chek' in [tool.attnbench]. Did you"),
    ("no table", "[tool]\nattnbench = 3\n", 2, "tool.attnbench is a table: write [tool.attnbench]"),
    ("no TOML", TABLE + "threshold = 5%\n", 2, "this is no TOML"),
    ("a suite", TABLE + 'suite = "quik"\n', 2, "suite 'quik' is unknown. Did you mean 'quick'?"),
    ("no file", TABLE + '\nsuite = "gate.toml"\n', 3, "there is no suite gate.toml"),
    ("a number for a suite", TABLE + "suite = 3\n", 2, "suite takes a text, not 3"),
    ("an option for a revision", TABLE + 'base = "--output=x"\n', 2, "base takes a revision of git"),
    ("an empty path", TABLE + 'baseline = " "\n', 2, "baseline takes a text"),
    ("a threshold in words", TABLE + 'threshold = "much"\n', 2, "threshold 'much' is no fraction"),
    ("5 for 5 %", TABLE + "threshold = 5\n", 2, "threshold 5 is out of range: write 1% or 0.01"),
    ("true for one", TABLE + "threshold = true\n", 2, "not true"),
    ("no threshold at all", TABLE + "threshold = 0\n", 2, "threshold 0 is out of range"),
    ("a margin of the threshold", TABLE + 'margin = "5%"\n', 2, "margin 5% is not smaller than threshold 5%"),
    ("a margin beyond it", TABLE + "margin = 0.06\nthreshold = 0.05\n", 2, "make it smaller"),
    ("a threshold in the noise", TABLE + 'threshold = "0.5%"\n', 2, "margin 0.8% (the default) is not smaller"),
    ("no time", TABLE + "max-time = 0\n", 2, "max-time 0 is out of range"),
    ("a time that is none", TABLE + "max-time = nan\n", 2, "max-time nan is out of range"),
    ("a time in words", TABLE + 'max-time = "30s"\n', 2, 'max-time takes seconds, not "30s"'),
    ("threads", TABLE + "threads = 0\n", 2, "threads 0 is out of range"),
    ("half a thread", TABLE + "threads = 1.5\n", 2, "threads takes a whole number, not 1.5"),
    ("a device", TABLE + 'device = "tpu"\n', 2, "device 'tpu' is unknown"),
    ("a switch", TABLE + 'warn-only = "yes"\n', 2, 'warn-only takes true or false, not "yes"'),
    ("an outcome", TABLE + 'fail-on = ["worse",\n"mising"]\n', 3, "fail-on 'mising' is unknown. Did you mean"),
    ("no outcome", TABLE + "fail-on = []\n", 2, "write warn-only = true"),
    ("numbers for outcomes", TABLE + "fail-on = [1]\n", 2, "fail-on takes words"),
    ("one table of rules", TABLE + '[tool.attnbench.check.thresholds]\ncase = "x"\n', 2, "each under its own [[tool."),
    ("a list that is none", TABLE + "thresholds = [3]\n", 2, "each under its own [[tool."),
    ("a rule for nothing", RULE + 'threshold = "9%"\n', 1, "does not say what it is for"),
    ("a rule without its number", RULE + 'case = "x"\n', 1, "says no threshold"),
    ("a key of the second rule", RULE + 'case = "x"\nthreshold = "9%"\n' + RULE + 'cases = "y"\n', 5, "mean 'case'?"),
    ("a metric", RULE + 'metric = "static.mac"\nthreshold = "1%"\n', 2, "no reading. Did you mean 'static.ma"),
    ("a pattern of none", RULE + 'metric = "latncy*"\nthreshold = "1%"\n', 2, "is the name of no reading"),
    ("a rule's margin", RULE + 'case = "x"\nthreshold = "4%"\nmargin = "4%"\n', 4, "margin 4% is not smaller than"),
    ("a rule in the noise", RULE + 'case = "x"\nthreshold = "0.5%"\n', 3, "give a smaller margin too"),
    ("a margin of a count", RULE + 'metric = "static.*"\nthreshold = "1%"\nmargin = 0.1\n', 4, "static.* is counted"),
    ("equality of a time", RULE + 'metric = "*"\nthreshold = 0\n', 3, "threshold 0 is for counted figures"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_what_is_wrong_is_said_with_its_line(load: Load, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"pyproject.toml, line {line}"), message
    assert message[len(f"pyproject.toml, line {line}")] in ":,"
    assert not message.removeprefix(f"pyproject.toml, line {line}: ").startswith("--")


# Which threshold holds


def test_a_latency_has_the_defaults_and_a_count_equality() -> None:
    thresholds = Settings().thresholds()
    assert thresholds.of("self_attn 32x32", "latency.median_ms") == Threshold(0.05, 0.01)
    assert thresholds.of("self_attn 32x32", "latency") == thresholds.of("self_attn 32x32") == Threshold(0.05, 0.01)
    for name in ("static.params", "static.macs", "static.predicted_peak_bytes", "memory.peak_bytes"):
        assert thresholds.of("self_attn 32x32", name) == Threshold(0.0, 0.0)


@pytest.mark.parametrize(("threshold", "margin"), [(0.03, 0.008), (0.04, 0.008), (0.05, 0.01), (0.1, 0.02), (0.5, 0.1)])
def test_the_margin_is_a_fifth_and_never_below_the_noise(threshold: float, margin: float) -> None:
    assert threshold_of(threshold) == Threshold(threshold, pytest.approx(margin))


def test_options_win_over_the_file_but_not_over_its_rules(load: Load) -> None:
    found = load(TABLE + 'threshold = "4%"\nmargin = "2%"\n' + RULE + 'case = "se"\nthreshold = "20%"\n')
    assert found.thresholds().of("sdpa") == Threshold(0.04, 0.02)
    assert found.thresholds(threshold=0.1).of("sdpa") == Threshold(0.1, 0.02)
    assert found.thresholds(margin=0.03).of("sdpa") == Threshold(0.04, 0.03)
    assert found.thresholds(0.06, 0.05).of("se") == Threshold(0.2, 0.04)
    with pytest.raises(UsageError, match=r"^--margin 2% is not smaller than --threshold 1\.5%"):
        found.thresholds(threshold=0.015)


def test_a_count_follows_only_what_names_it(load: Load) -> None:
    found = load(
        TABLE + 'threshold = "50%"\n'
        + RULE + 'case = "se"\nthreshold = "20%"\n'  # of its latency
        + RULE + 'metric = "memory.*"\nthreshold = "2%"\n'
        + RULE + 'case = "sdpa"\nmetric = "memory"\nthreshold = 0\n'
    ).thresholds()  # fmt: skip
    assert found.of("se 32x32", "static.macs") == Threshold(0.0, 0.0)
    assert found.of("se 32x32", "latency.median_ms") == Threshold(0.2, 0.04)
    assert found.of("se 32x32", "memory.peak_bytes") == Threshold(0.02, 0.02)
    assert found.of("sdpa 32x32", "memory.peak_bytes") == Threshold(0.0, 0.0)
    assert found.of("sdpa 32x32", "latency.median_ms").tolerance == 0.5


def test_the_last_rule_that_matches_wins(load: Load) -> None:
    found = load(
        RULE + 'case = "linear_*"\nthreshold = "10%"\n'
        + RULE + 'case = "linear_attn 64x64"\nthreshold = "20%"\n'
        + RULE + 'case = "*fwd_bwd"\nmetric = "*"\nthreshold = "30%"\n'
    ).thresholds()  # fmt: skip
    assert found.of("linear_attn 32x32 fwd").tolerance == 0.1
    assert found.of("linear_attn 64x64 fwd").tolerance == 0.2
    assert found.of("linear_attn 64x64 fwd_bwd").tolerance == 0.3
    assert found.of("linear_attn 64x64 fwd_bwd", "static.params").tolerance == 0.3
    assert found.of("sdpa 64x64 fwd").tolerance == 0.05


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("se", True), ("s?", True), ("se 32x32", True), ("se 32x32 fwd_bwd", True), ("*fwd_bwd", True), ("* 32x32", True),
     ("s", False), ("se 32", False), ("sen*", False), ("fwd_bwd", False), ("SE", False)],
)  # fmt: skip
def test_a_pattern_is_for_whole_words_from_the_first(pattern: str, matches: bool) -> None:
    assert Rule(pattern, "latency", Threshold(0.1, 0.02)).is_for("se 32x32 fwd_bwd") is matches


def test_a_name_with_brackets_is_itself() -> None:
    assert Rule("my[1].py:Attn", "latency", Threshold(0.1, 0.02)).is_for("my[1].py:Attn 32x32")


def test_a_rule_that_no_case_uses_is_an_error_with_its_line(load: Load) -> None:
    rules = load(
        RULE + 'case = "linear_*"\nthreshold = "10%"\n' + RULE + 'case = "self_atn"\nthreshold = "10%"\n'
    ).rules  # fmt: skip
    names = ["self_attn 32x32", "linear_attn 32x32", *(f"se {side}x{side}" for side in range(4))]
    assert unused(rules, names) == [rules[1]]
    refuse_unused(rules[:1], names)
    with pytest.raises(UsageError) as caught:
        refuse_unused(rules, names)
    assert str(caught.value) == (
        "pyproject.toml, line 5: no case is called 'self_atn'. Did you mean 'self_attn'? There are: self_attn 32x32, "
        "linear_attn 32x32, se 0x0, se 1x1, se 2x2 and 1 more."
    )
