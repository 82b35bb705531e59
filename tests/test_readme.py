"""What the README says is true: its commands run, its Python runs, its tables are what is printed."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from readme import README, TABLES, blocks, commands, libraries, printed, table

from attnbench.core.errors import UsageError
from attnbench.core.sequential import Decision, Evidence, Told
from attnbench.report.compare import Ratio
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.screen import as_table
from attnbench.report.gate.timed import noise_in_words
from attnbench.report.gate.verdict import Verdict

MINE = """
from torch import nn

class MyAttn(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        return self.proj(x)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would stand: with a module of her own, and a package."""
    place = tmp_path_factory.mktemp("reader")
    (place / "my_attn.py").write_text(MINE)
    (place / "package").mkdir()
    other = MINE.replace("MyAttn", "Class").replace("self, dim", "self, dim, heads, window")
    (place / "package" / "module.py").write_text(other)
    (place / "gate.toml").write_text('[grid.mine]\nmodule = "my_attn.py:MyAttn"\nres = 8\n')
    (place / ".gitignore").write_text("*.jsonl\n*.csv\nmine.toml\nresults/\n")
    who = ("-c", "user.name=reader", "-c", "user.email=reader@example.org")
    for words in (("init", "--quiet"), ("add", "--all"), (*who, "commit", "--quiet", "--message", "first"),
                  ("tag", "v1.2"), ("update-ref", "refs/remotes/origin/main", "HEAD")):  # fmt: skip
        subprocess.run(["git", *words], cwd=place, check=True)
    return place


def test_there_are_commands_to_run() -> None:
    assert len(commands()) >= 10
    assert set(TABLES.values()) <= {command.removeprefix("attnbench ") for command in commands()}


# A minute and a half that tests/cli/test_cli_audit.py spends already; what takes GPUs or a cluster, whose options
# tests/engine/test_crew.py and tests/engine/test_ray_cluster.py try; and what has to time, as tests/cli/test_cli_ab.py
# and tests/cli/test_cli_baseline.py do on a machine made by hand.
ELSEWHERE = {
    "attnbench ab self_attn linear_attn --res 16,32",
    "attnbench baseline update baseline.jsonl --suite gate.toml",
    "attnbench check baseline.jsonl",
    "attnbench audit",
    "attnbench run --suite vision --devices cuda:0-7 -o vision.jsonl --resume",
    "attnbench run --suite vision --executor ray --address 10.0.0.1:6379 -o vision.jsonl --resume",
}


@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_every_command_runs(cli, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for library in libraries(command):
        pytest.importorskip(library)
    monkeypatch.chdir(folder)
    words = shlex.split(command.replace("--img-size 384", "--img-size 96"))[1:]  # a minute less, by the same way
    quick = ["--max-time", "0.05"] if words[0] == "run" else []
    code, out, err = cli(*words, *quick)
    # The records that `check` compares are of one process each: it says so, and exits 3.
    assert code == (3 if words[0] == "check" and "--base" not in words else 0), err
    assert out or words[0] == "export" or words[:2] == ["suite", "new"]  # which write files


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "linear_attn" in capsys.readouterr().out


def counted(text: str) -> str:
    """The table without what depends on the machine: its name in the caption, and the prediction in the last column,
    which holds what the machine's kernels take for themselves."""
    rows = text.partition("\n\n")[2].splitlines()
    return "\n".join(re.sub(r" +\S+$", "", row) for row in rows)


def test_the_static_table_is_what_is_printed(tmp_path: Path) -> None:
    assert counted(table("vgg16")) == counted(printed(TABLES["vgg16"], tmp_path))


@pytest.mark.parametrize("name", ["audit", "breakdown"])
def test_the_counted_tables_are_what_is_printed(name: str, tmp_path: Path) -> None:
    body = [text.partition("\n\n")[2] for text in (table(name), printed(TABLES[name], tmp_path))]
    assert body[0] == body[1]


def test_the_gates_table_is_what_is_printed_of_such_a_finding() -> None:
    worse = Verdict("", "self_attn 32x32", "Latency", "worse", ratio=Ratio(1.132, 1.119, 1.146), before="2.359 ms",
                    after="2.671 ms")  # fmt: skip
    same = [Verdict("", "linear_attn 32x32", "MACs", "same")] * 9
    noise = noise_in_words(Decision("same", Evidence(0.0007, 0.0016, 12), (Told(0.001, 0.004),) * 7))
    found = Judged((worse, *same), "HEAD (7183f88)", "working tree at 7183f88, changed", noise=noise, seconds=51.0,
                   machine="Intel(R) Xeon(R) Processor",
                   command="attnbench check --base HEAD --module self_attn,linear_attn --res 32")  # fmt: skip
    assert as_table(found, 80).strip() == table("gate")


@pytest.mark.parametrize(
    ("name", "figures"),
    [("main", ["5,201", "1.229"]), ("sweep", ["0.006029", "0.08074", "1.229", "0.007078", "0.02523", "0.1009"])],
)
def test_the_measured_tables_have_the_figures_that_are_known_exactly(name: str, figures: list[str]) -> None:
    assert all(figure in table(name) for figure in figures)


def test_every_option_it_names_is_there(cli) -> None:
    commands = ("run", "list", "show", "audit", "fit", "doctor", "check", "ab")
    known = "".join(cli(*words, "--help").out for words in (*((each,) for each in commands), ("suite", "show")))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README.read_text()))
    assert options
    assert {option for option in options if option not in known} == set()


def test_the_settings_of_the_gate_that_it_shows_are_read(folder: Path) -> None:
    from attnbench.engine.gate.settings import settings

    (text,) = (block for block in blocks("toml") if "[tool.attnbench.check]" in block)
    (folder / "own").mkdir()
    (folder / "own" / "pyproject.toml").write_text(text)
    (folder / "own" / "gate.toml").write_text((folder / "gate.toml").read_text())
    found = settings(folder / "own")
    thresholds = found.thresholds()
    assert (found.base, found.max_time, found.fail_on) == ("origin/main...", 30, ("worse", "missing"))
    assert thresholds.of("linear_attn 32x32").tolerance == 0.1 and thresholds.of("se 32x32").tolerance == 0.05
    assert thresholds.of("se 32x32", "static.macs").tolerance == 0.01
    assert thresholds.of("se 32x32", "static.params").tolerance == 0


def test_the_suite_it_shows_is_one(folder: Path) -> None:
    from attnbench.engine.suite import load_suite

    (text,) = (block for block in blocks("toml") if "[grid." in block)
    (folder / "shown.toml").write_text(text)
    questions = load_suite(str(folder / "shown.toml")).questions()
    assert [question.case.size for question in questions if question.case.target == "self_attn"] == ["32x32", "48x96"]
    assert {question.options.max_time for question in questions if "my_attn" in question.case.target} == {5.0}
    (folder / "wrong.toml").write_text(text.replace("module = [", "modul = [", 1))
    (sentence,) = re.findall(r"`mine.toml,\s+(line 5: .*?)`", README.read_text(), flags=re.S)
    with pytest.raises(UsageError) as error:
        load_suite(str(folder / "wrong.toml"))
    assert str(error.value).endswith(" ".join(sentence.split()))
