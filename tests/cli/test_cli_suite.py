"""`attnbench suite`: list, show, new; and a real process that loads no torch for any of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.engine.suite import example, load_suite, shipped


@pytest.mark.parametrize("columns", ["60", "100"])
def test_the_list_has_each_with_its_cases(cli, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = cli("suite", "list")
    assert (code, err) == (0, "")
    assert all(len(line) <= int(columns) for line in out.splitlines())
    rows = [line.split() for line in out.splitlines()]
    counts = {row[0]: int(row[1]) for row in rows if row and row[0] in shipped()}
    assert counts == {name: len(load_suite(name).questions()) for name in shipped()}
    assert load_suite("paper").description in " ".join(cli("suite", "show", "paper").out.split())


def test_the_list_as_json(cli) -> None:
    found = json.loads(cli("suite", "list", "--json").out)
    assert [each["name"] for each in found] == list(shipped())
    assert all(each["cases"] == sum(each["grids"].values()) and each["description"] for each in found)


def test_show_tells_what_is_asked(cli) -> None:
    Path("s.toml").write_text("""
    description = "What it is"
    [defaults]
    metrics = ["static", "latency"]
    [grid.maps]
    description = "Two of them"
    module = ["se", "sdpa"]
    res = [8, "8x16"]
    dtype = ["fp32", "half"]
    heads = 2
    set = { k = [1, 2] }
    [[grid.maps.override]]
    match.dtype = "fp16"
    max-time = 5
    processes = 3
    precision-target = "0.5%"
    keep-samples = true
    [grid.networks]
    network = "vgg16"
    attn = ["none", "se"]
    metrics = "static"
    batch-size = "auto"
    """)
    code, out, err = cli("suite", "show", "s.toml")
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[:2] == ["s", "What it is"]
    assert lines[-1] == "18 cases in 2 grids"
    for line in [
        "maps: 16 cases", "About Two of them", "Modules se, sdpa", "Sizes 8x8, 8x16", "Heads 2", "Dtypes fp32, fp16",
        "Arguments k=1, k=2", "Measured static,latency (8 cases)",
        "Measured static,latency · precision-target 0.5% · max-time 5 s · processes 3 · keep-samples (8 cases)",
        "networks: 2 cases", "Networks vgg16, vgg16+se", "Inputs 224x224", "Measured static · batch of best throughput",
    ]:  # fmt: skip
        assert line in [" ".join(each.split()) for each in lines]
    assert not any(each.startswith(("Batches", "Modes", "Seed")) for each in lines)  # as usual
    (one,) = json.loads(cli("suite", "show", "s.toml", "--json").out)
    assert one == {"name": "s", "description": "What it is", "cases": 18, "grids": {"maps": 16, "networks": 2}}


@pytest.mark.parametrize("name", list(shipped()))
def test_show_of_the_file_begins_an_own_one(cli, name: str) -> None:
    Path("mine.toml").write_text(cli("suite", "show", name, "--toml").out)
    assert load_suite("mine.toml").questions() == load_suite(name).questions()


def test_new_prints_or_writes_and_never_overwrites(cli) -> None:
    assert cli("suite", "new").out == cli("suite", "new", "-").out == example()
    code, out, err = cli("suite", "new", "mine.toml")
    assert (code, out) == (0, "")
    assert "attnbench run --suite mine.toml" in err
    assert Path("mine.toml").read_text() == example()
    Path("mine.toml").write_text("my work")
    code, _, err = cli("suite", "new", "mine.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert "mine.toml is there already" in err
    assert Path("mine.toml").read_text() == "my work"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new", "mine.txt"], "mine.txt is no name for a suite"),
        (["new", "nowhere/mine.toml"], "cannot write to nowhere/mine.toml: No such file or directory"),
        (["new", "a" * 300 + ".toml"], "File name too long"),
        (["show", "quik"], "unknown suite 'quik'. Did you mean 'quick'?"),
        (["show", "nowhere.toml"], "cannot read nowhere.toml: No such file or directory"),
        (["show", "bad.toml"], "bad.toml, line 2: unknown key 'modul' in [grid.a]. Did you mean 'module'?"),
        (["show"], "SUITE"),
        (["lst"], "lst"),
    ],
)
def test_what_is_wrong_is_one_sentence(cli, words: list[str], sentence: str) -> None:
    Path("bad.toml").write_text('[grid.a]\nmodul = "se"\n')
    code, out, err = cli("suite", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("attnbench: ")
    assert err.count("\n") == 1


def test_without_a_word_it_says_which_there_are(cli) -> None:
    code, out, err = cli("suite")
    assert (code, err) == (0, "")
    assert all(f"\n  {word} " in out for word in ("list", "show", "new"))


def test_none_of_it_loads_torch() -> None:
    code = (
        "import sys; from attnbench.cli import _code\n"
        "for words in (['list'], ['show', 'vision'], ['show', 'ci', '--json'], ['new'], ['--help']):\n"
        "    sys.argv = ['attnbench', 'suite', *words]\n"
        "    assert _code() == 0, words\n"
        "heavy = {'torch', 'pandas', 'numpy', 'fvcore', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
