"""`attnbench check --base` as it is typed, in a scratch repository: what passes, what fails, and what is written where.

All but one answer in this process, and say of each case's latency what they are told to; that one measures.
"""

import functools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from check_repository import BOTH, ONE, SHAPE, SMALL, Says, Slower, edit, found, git

from attnbench.engine.gate import contest
from attnbench.engine.gate.duel import Duel, Failed, Launch

# --- What passes, and what fails


@pytest.mark.parametrize("always", [[], ["--always-time"]])
def test_a_docstring_is_the_same_code_and_is_not_timed_unless_it_shall_be(
    cli, slower: Slower, always: list[str]
) -> None:
    edit("small.py", "Of one product", "Of just one product")
    asked = slower()
    code, out, err = cli("check", "--base", "HEAD", *ONE, *always)
    assert (code, err) == (0, "")
    assert "the check passes." in out
    assert bool(asked) == bool(always)


def test_what_git_calls_changed_but_nobody_runs_is_not_timed(cli, slower: Slower) -> None:
    Path("README.md").write_text("# New")
    edit("other.py", "2 * dim", "3 * dim")
    asked = slower()
    code, _, _ = cli("check", "--base", "HEAD", *ONE)
    assert (code, asked) == (0, [])


def test_its_own_files_do_not_make_it_another_code(cli, slower: Slower) -> None:
    asked = slower()
    for _ in range(2):
        assert cli("check", "--base", "HEAD", *ONE, "-o", "check.json", "-o", "new/check.xml").code == 0
    assert asked == []


def test_a_data_file_may_be_read_and_so_it_is_timed(cli, slower: Slower) -> None:
    Path("weights.json").write_text("{}")
    asked = slower()
    assert cli("check", "--base", "HEAD", *ONE).code == 0
    assert asked.count("the same code twice") == 3


def test_a_change_of_the_macs_fails_with_both_figures(cli, slower: Slower) -> None:
    edit("small.py", "2 * dim", "4 * dim")
    code, out, err = cli("check", "--base", "HEAD", *ONE, "--format", "json")
    assert (code, err) == (1, "")
    macs = found(out)["Small", "MACs"]
    # 16 tokens x 8 channels x 16 or 32 columns
    assert (macs["outcome"], macs["baseline"], macs["candidate"]) == ("changed", 2048, 4096)
    assert found(out)["Small", "Latency"]["outcome"] == "same"
    table = cli("check", "--base", "HEAD", *ONE).out
    assert "2.048e-06" in table and "4.096e-06" in table and "the check fails." in table


def test_what_got_slower_fails_and_its_sibling_passes(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 3")
    edit("other.py", "STEPS = 2", "STEPS = 3")
    slower(Small=0.03)
    code, out, _ = cli("check", "--base", "HEAD", *BOTH, "--format", "json")
    assert code == 1
    worse = found(out)["Small", "Latency"]
    assert (worse["outcome"], worse["settled"], worse["file"]) == ("worse", True, "small.py")
    assert worse["ratio"]["value"] == pytest.approx(1.03)
    assert found(out)["Other", "Latency"]["outcome"] == "same"
    assert all(each["outcome"] == "same" for (_, title), each in found(out).items() if title != "Latency")


def test_what_got_faster_passes_and_is_said(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 3")
    slower(Small=-0.1)
    code, out, _ = cli("check", "--base", "HEAD", *ONE)
    assert code == 0
    assert "1 better" in out


def test_where_equals_differ_it_cannot_judge(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 4")
    slower(same=0.1, Small=1.0)
    code, out, _ = cli("check", "--base", "HEAD", *ONE)
    assert code == 3
    assert "the same code twice seems to differ by 10 % on this runner" in " ".join(out.split())


def test_a_module_that_is_gone_is_missing_and_one_that_came_is_new(cli, slower: Slower) -> None:
    git("mv", "small.py", "tiny.py")
    edit("suite.toml", "small.py", "tiny.py")
    code, out, _ = cli("check", "--base", "HEAD", *BOTH, "--format", "json")
    assert code == 1
    outcomes = {(each["case"].partition(" ")[0], each["outcome"]) for each in json.loads(out)["verdicts"]}
    assert {("small.py:Small", "missing"), ("tiny.py:Small", "new")} <= outcomes
    code, out, _ = cli("check", "--base", "HEAD", *BOTH, "--fail-on", "worse")
    assert code == 0


def test_a_new_module_alone_is_nothing_to_compare_and_beside_another_it_passes(cli, slower: Slower) -> None:
    Path("third.py").write_text(SMALL)
    edit("suite.toml", '"small.py:Small"', '"small.py:Small", "third.py:Small"')
    assert cli("check", "--base", "HEAD", *BOTH).code == 0
    code, out, _ = cli("check", "--base", "HEAD", "-m", "third.py:Small", *SHAPE)
    assert code == 3
    assert "nothing was compared" in out


def test_a_class_that_is_gone_is_missing(cli, slower: Slower) -> None:
    edit("small.py", "class Small", "class Smaller")
    code, out, _ = cli("check", "--base", "HEAD", *ONE)
    assert code == 1
    assert "1 missing" in out and "small.py has no 'Small'" in " ".join(out.split())


def test_a_class_that_is_broken_at_the_base_cannot_be_compared(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 1 / 0")
    git("commit", "--quiet", "--all", "--message", "broken")
    edit("small.py", "STEPS = 1 / 0", "STEPS = 2")
    code, out, _ = cli("check", "--base", "HEAD", *ONE)
    assert code == 3
    assert "division by zero" in " ".join(out.split())


def test_one_that_runs_no_more_fails_and_says_of_what(cli, slower: Slower) -> None:
    edit("small.py", "z = torch.sin(y)", "raise ValueError('oh no')")
    code, out, err = cli("check", "--base", "HEAD", *ONE)
    assert code == 1
    assert "oh no" in out and "Traceback" not in out + err


def test_one_that_fails_only_when_it_is_timed_fails_as_well(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 3")
    slower(Small=Failed(1, "oom", "it needs 12 GiB"))
    code, out, _ = cli("check", "--base", "HEAD", *ONE)
    assert code == 1
    assert "12 GiB" in out


def test_what_neither_version_can_is_no_regression(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 3")
    slower(Small=Failed(1, "oom", "it needs 12 GiB", Failed(0, "oom", "it needs 12 GiB")))
    code, out, _ = cli("check", "--base", "HEAD", *ONE, "--format", "json")
    assert code == 0
    assert found(out)["Small", "Status"]["outcome"] == "same" and ("Small", "Latency") not in found(out)


def test_ctrl_c_leaves_what_is_known(cli, slower: Slower, monkeypatch: pytest.MonkeyPatch) -> None:
    edit("small.py", "2 * dim", "4 * dim")

    def interrupted(self: Says, duel: Duel, seed: int, *, harder: bool) -> Launch:
        raise KeyboardInterrupt

    monkeypatch.setattr(Says, "launch", interrupted)
    code, out, err = cli("check", "--base", "HEAD", *ONE, "-o", "check.json")
    assert code == 130
    assert "interrupted" in out and "Traceback" not in err
    assert found(Path("check.json").read_text())["Small", "MACs"]["outcome"] == "changed"


def test_main_with_dots_is_where_it_was_left(cli, slower: Slower) -> None:
    git("checkout", "--quiet", "-b", "mine")
    git("commit", "--quiet", "--allow-empty", "--message", "mine")
    git("checkout", "--quiet", "main")
    edit("small.py", "2 * dim", "4 * dim")
    git("commit", "--quiet", "--all", "--message", "theirs")
    git("checkout", "--quiet", "mine")
    assert cli("check", "--base", "main...", *ONE).code == 0
    assert cli("check", "--base", "main", *ONE).code == 1


def test_it_may_be_run_from_a_folder_below(cli, slower: Slower, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("below").mkdir()
    monkeypatch.chdir("below")
    edit("../small.py", "2 * dim", "4 * dim")
    code, out, _ = cli("check", "--base", "HEAD", "-m", "../small.py:Small", *SHAPE, "--format", "json")
    assert code == 1
    assert {each["file"] for each in json.loads(out)["verdicts"]} == {"small.py"}


# --- What fails, and what only warns


def test_warn_only_and_fail_on(cli, slower: Slower) -> None:
    edit("small.py", "2 * dim", "4 * dim")
    code, out, _ = cli("check", "--base", "HEAD", *ONE, "--warn-only")
    assert (code, "but only warns" in out) == (0, True)
    code, out, _ = cli("check", "--base", "HEAD", *ONE, "--fail-on", "missing")
    assert (code, "it fails on missing alone" in out) == (0, True)
    slower(Small=Failed(None, "timeout", "silent"))
    assert cli("check", "--base", "HEAD", *ONE, "--fail-on", "missing").code == 3
    assert cli("check", "--base", "HEAD", *ONE, "--fail-on", "undecided").code == 1


def test_the_threshold_and_the_margin_decide(cli, slower: Slower) -> None:
    edit("small.py", "STEPS = 2", "STEPS = 3")
    slower(Small=0.03)
    assert cli("check", "--base", "HEAD", *ONE, "--margin", "4%").code == 0
    assert cli("check", "--base", "HEAD", *ONE, "--threshold", "20%").code == 0  # whose margin is 4 %
    assert cli("check", "--base", "HEAD", *ONE, "--threshold", "20%", "--margin", "2%").code == 1


# --- Where it is written


def test_each_file_has_its_format(cli, slower: Slower) -> None:
    edit("small.py", "2 * dim", "4 * dim")
    assert cli("check", "--base", "HEAD", *ONE, "-o", "a.md", "-o", "b/a.json", "-o", "a.xml").code == 1
    assert Path("a.md").read_text().startswith("<!-- attnbench-check -->\n")
    assert found(Path("b/a.json").read_text())["Small", "MACs"]["candidate"] == 4096
    suite = ElementTree.parse("a.xml").getroot().find("testsuite")
    assert suite is not None and int(suite.get("failures", "0")) >= 1


@pytest.mark.parametrize(("name", "begins"), [("markdown", "<!-- attnbench-check -->"), ("json", "{"),
                                              ("junit", "<?xml")])  # fmt: skip
def test_a_format_on_standard_output(cli, slower: Slower, name: str, begins: str) -> None:
    assert cli("check", "--base", "HEAD", *ONE, "--format", name).out.startswith(begins)


def test_on_githubs_runners_there_is_a_summary_and_annotations(
    cli, slower: Slower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit("small.py", "2 * dim", "4 * dim")
    summary = tmp_path / ".git" / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = cli("check", "--base", "HEAD", *ONE, "--format", "json")
    assert code == 1
    assert "the check fails" in summary.read_text()
    errors = [line for line in err.splitlines() if line.startswith("::error ")]
    assert errors and all("file=small.py" in line for line in errors)
    assert json.loads(out)  # nothing of that on standard output


def test_a_summary_that_cannot_be_written_is_a_warning(cli, slower: Slower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/nowhere/summary")
    code, _, err = cli("check", "--base", "HEAD", *ONE)
    assert code == 0
    assert err.startswith("attnbench: ") and len(err.splitlines()) == 1


# --- pyproject.toml


def test_what_is_not_given_is_read_from_pyproject(cli, slower: Slower) -> None:
    Path("pyproject.toml").write_text("""
    [tool.attnbench.check]
    suite = "suite.toml"
    base = "main"
    threshold = "20%"
    fail-on = ["undecided"]
    [[tool.attnbench.check.thresholds]]
    case = "other*"
    metric = "latency"
    threshold = "10%"
    margin = "1%"
    [[tool.attnbench.check.thresholds]]
    metric = "static.macs"
    threshold = "60%"
    """)
    git("add", "--all")
    git("commit", "--quiet", "--message", "configured")
    edit("small.py", "2 * dim", "3 * dim")
    edit("other.py", "STEPS = 2", "STEPS = 3")
    slower(Small=0.03, Other=0.03)
    code, out, _ = cli("check", "--format", "json")
    assert code == 0  # it fails on what is undecided alone
    verdicts = found(out)
    assert verdicts["Small", "Latency"]["outcome"] == "same"
    assert verdicts["Other", "Latency"]["outcome"] == "worse"
    assert verdicts["Small", "MACs"]["outcome"] == "same"
    assert verdicts["Small", "FLOPs"]["outcome"] == "changed"
    assert cli("check", "--fail-on", "worse").code == 1  # what is typed wins
    assert cli("check", *ONE, "--fail-on", "worse", "--margin", "1%").code == 1


def test_a_rule_for_no_case_of_the_suite_is_a_slip(cli, slower: Slower) -> None:
    Path("pyproject.toml").write_text("""
    [tool.attnbench.check]
    suite = "suite.toml"
    [[tool.attnbench.check.thresholds]]
    case = "smal.py*"
    metric = "latency"
    threshold = "10%"
    """)
    code, _, err = cli("check", "--base", "HEAD")
    assert code == 2
    assert "pyproject.toml, line 5: no case is called 'smal.py*'." in " ".join(err.split())


# --- As it is


def test_a_module_made_twice_as_slow_is_found_by_real_processes(
    cli, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one process to suspect and one to confirm, which is enough for twice the time, but not by default."""
    monkeypatch.setattr(contest, "Limits", functools.partial(contest.Limits, fewest=1, looks=(1,)))
    for name in ("small.py", "other.py"):
        edit(name, "STEPS = 2", "STEPS = 100")
    git("commit", "--quiet", "--all", "--message", "larger")
    edit("small.py", "STEPS = 100", "STEPS = 200")
    edit("other.py", "Of one product", "Of just one product")
    code, out, err = cli("check", "--base", "HEAD", *BOTH, "--quiet", "--format", "json")
    assert (code, err) == (1, "")
    latency = found(out)["Small", "Latency"]
    assert latency["outcome"] == "worse" and 1.6 < latency["ratio"]["value"] < 2.4
    assert len(latency["launches"]) == 2
    sibling = found(out)["Other", "Latency"]
    assert (sibling["outcome"], sibling["reason"]) == ("same", "the code is the same: it was not timed")
