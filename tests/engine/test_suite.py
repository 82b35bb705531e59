"""Suites: what a file says becomes questions, what is wrong in it an error with its line."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_files import BROKEN, PAIR, SMALL

import attnbench
from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.engine.question import Question
from attnbench.engine.suite import GIVEN, Suite, example, load_suite, shipped
from attnbench.engine.suites.keys import ASKING, MEASURING
from attnbench.engine.suites.lines import read_toml
from attnbench.engine.sweep import Sweep
from attnbench.metrics.metric import Options

Load = Callable[[str], Suite]
ROOT = Path(attnbench.__file__).parent


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A suite of this text, in a file s.toml of the current folder."""
    monkeypatch.chdir(tmp_path)

    def loaded(text: str) -> Suite:
        Path("s.toml").write_text(text, encoding="utf-8")
        return load_suite("s.toml")

    return loaded


def rows(questions: list[Question]) -> list[str]:
    return [f"{each.case.name} {each.case.size} {each.case.dtype}" for each in questions]


# What is wrong


@pytest.mark.parametrize(("text", "line", "words"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_what_is_wrong_is_said_with_its_line(load: Load, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"s.toml, line {line}"), message
    assert message[len(f"s.toml, line {line}")] in ":,"
    assert "--" not in message.replace("--suite s.toml --timeout", "")


def test_windows_lines_and_a_byte_order_mark(load: Load) -> None:
    text = b"\xef\xbb\xbf" + b'description = """\r\nx\r\n"""\r\n[grid.small]\r\nmodule = "se"\r\n'
    load(SMALL)
    Path("s.toml").write_bytes(text)
    assert load_suite("s.toml").description == "x"
    Path("s.toml").write_bytes(text + b"res = true\r\n")
    with pytest.raises(UsageError, match=r"^s\.toml, line 6: res takes"):
        load_suite("s.toml")


def test_what_is_no_file_no_text_or_too_deep(load: Load) -> None:
    with pytest.raises(UsageError, match=r"^s\.toml is nested too deeply"):
        load("x = " + "[" * 3000 + "]" * 3000)
    with pytest.raises(UsageError, match=r"^s\.toml is nested too deeply"):
        load(".".join("a" * 500) + " = 1")
    Path("s.toml").write_bytes(b'[grid.small]\nmodule = "\xff"\n')
    with pytest.raises(UsageError, match=r"^s\.toml, line 2: this is no UTF-8 text"):
        load_suite("s.toml")
    for name in ("nowhere.toml", "./folder/", "a\0b.toml", f"{'a' * 5000}.toml"):
        with pytest.raises(UsageError, match="cannot read"):
            load_suite(name)


def test_a_name_that_no_suite_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"unknown suite 'quik'\. Did you mean 'quick'\? Known: ci, paper, quick, tok"):
        load_suite("quik")
    (tmp_path / "mine.toml").write_text(SMALL)
    with pytest.raises(UsageError, match=r"For the file write mine\.toml\.$"):
        load_suite("mine")


LINES = '''# 1
description = """
[grid.no]
"""
[defaults]          # 5
metrics = ["a",
  # nothing
  "b", "c", ]
[grid.q]
module = ["x"]      # 10 ]
"odd key" = 1
[[grid.q.exclude]]
res = 1
[[grid.q.exclude]]
res = [             # 15
  """
]
""", 2,
  3,
  4]                # 20
[grid.q.exclude.set]
k = 1
[grid]
w.module = [
1]                  # 25
v = { module = ["z"], exclude = [{ res = 1 },
  { res = 2 }] }
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("description",), 2), (("defaults",), 5), (("defaults", "metrics"), 6), (("defaults", "metrics", 0), 6),
        (("defaults", "metrics", 1), 8), (("defaults", "metrics", 2), 8), (("grid",), 9), (("grid", "q"), 9),
        (("grid", "q", "module", 0), 10), (("grid", "q", "odd key"), 11), (("grid", "q", "exclude", 0), 12),
        (("grid", "q", "exclude", 0, "res"), 13), (("grid", "q", "exclude", 1), 14),
        (("grid", "q", "exclude", 1, "res"), 15), (("grid", "q", "exclude", 1, "res", 0), 18),
        (("grid", "q", "exclude", 1, "res", 1), 18),
        (("grid", "q", "exclude", 1, "res", 2), 19), (("grid", "q", "exclude", 1, "res", 3), 20),
        (("grid", "q", "exclude", 1, "set"), 21), (("grid", "q", "exclude", 1, "set", "k"), 22),
        (("grid", "w", "module"), 24), (("grid", "w", "module", 0), 25), (("grid", "v", "exclude", 0, "res"), 26),
        (("grid", "v", "exclude", 1, "res"), 27), (("grid", "v", "nothing"), 26), (("nothing",), 1),
    ],
)  # fmt: skip
def test_where_a_key_stands(tmp_path: Path, place: tuple[str | int, ...], line: int) -> None:
    path = tmp_path / "lines.toml"
    path.write_text(LINES)
    assert read_toml(path, "lines.toml").line(place) == line


def test_a_long_file_is_searched_in_no_time(load: Load) -> None:
    """Thousands of lines, of which tomllib tells none: to parse from the top for each of them would take minutes."""
    names = "".join('  "se",\n' for _ in range(1000))
    grids = "".join(f'[grid.g{number}]\nmodule = "se"\nres = {number + 1}\n' for number in range(300))
    with pytest.raises(UsageError, match=r"^s\.toml, line 1903: unknown module 'sse'"):
        load(grids + "[grid.last]\nmodule = [\n" + names + '  "sse",\n]\n')


WORDS = [
    "se", "sdpa", "self_attn", "vgg16", "vgg16+se", "none", "fp16", "bf16", "fwd", "bwd", "auto", "16", "8x8", "*",
    "s*", "my.py:X", "a.b:C", "timm:resnet18", "1%", "static", "latency", "cuda:1", "bnc", "", "é\0\n\"",
    "a" * 5000 + ".py:X",
]  # fmt: skip
NUMBERS = [0, 1, 2, 8, 16, 64, -1, 2**31, 2**63 - 1, -(2**63), 0.5, 1e400, float("nan"), 2.5e-9]
KEYS = [*ASKING, *MEASURING, "match", "exclude", "override", "description", "precision", "max_time", "timeout", "x y"]


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def plan_or_sentence(path: Path, document: dict[str, Any]) -> bool:
    """Whether there is a plan; anything but a sentence with the file's name is a fault."""
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in document.items())
    path.write_text(text, encoding="utf-8")
    try:
        questions = load_suite(str(path)).questions()
    except UsageError as error:
        assert str(error).startswith(str(path))
        return False
    assert questions
    assert all(isinstance(each, Question) for each in questions)
    return True


def drawn(random: Random, depth: int = 3) -> Any:
    kind = random.randrange(10 if depth else 6)
    if kind < 6:
        return random.choice(random.choice([WORDS, WORDS, NUMBERS, [True, False]]))
    if kind < 8:
        return [drawn(random, depth - 1) for _ in range(random.randrange(4))]
    return {random.choice(KEYS): drawn(random, depth - 1) for _ in range(random.randrange(4))}


@pytest.mark.parametrize("seed", range(8))
def test_keys_and_values_in_any_order_are_a_plan_or_a_sentence(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    plans = 0
    for _ in range(150):
        grid = {random.choice(KEYS): drawn(random) for _ in range(random.randrange(3))}
        grid["module"] = random.choice(["se", ["sdpa", "se"]]) if random.random() < 0.7 else drawn(random)
        document: dict[str, Any] = {"grid": {"small": grid}}
        if random.random() < 0.3:
            document[random.choice(["defaults", "exclude", "override", "description", "x"])] = drawn(random)
        plans += plan_or_sentence(tmp_path / "s.toml", document)
    assert 10 < plans < 140  # neither is the rule


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner),
        max_leaves=6,
    )
)
def test_whatever_stands_in_a_file_is_a_plan_or_a_sentence(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        grid = {"a": {"module": "se"}}
        for document in ({"grid": value}, {"grid": {"small": value}}, {"defaults": value, "grid": grid}):
            plan_or_sentence(Path(folder) / "s.toml", document)


# What a file says


def test_a_grid_is_what_the_command_line_would_ask(load: Load) -> None:
    text = """
    [grid.a]
    module = ["sagan", "sdpa"]
    res = [16, "8x4", "32"]
    batch_size = [1, "2"]
    dim = "64,128"
    heads = 2
    dtype = ["half", "fp32"]
    mode = "fwd,fwd_bwd"
    engine = ["eager", "compile"]
    backend = "flash"
    layout = "bnc"
    device = "cpu"
    seed = 7
    set = { k = 4, wide = true, name = "x", gain = 0.5, none = "none", "attn.deep" = 1 }
    """
    sweep = Sweep(
        modules=["self_attn", "sdpa"], res=["16", "8x4", "32"], batch_size=["1", "2"], dim=["64", "128"], heads=["2"],
        dtype=["fp16", "fp32"], mode=["fwd", "fwd_bwd"], engine=["eager", "compile"], backend=["flash"], layout="bnc",
        device="cpu", seed=7,
        settings=["k=4", "wide=true", "name=x", "gain=0.5", "none=none", "attn.deep=1"],
    )  # fmt: skip
    questions = load(text).questions()
    assert [each.case for each in questions] == sweep.cases()
    assert {each.options for each in questions} == {Options()}


def test_networks_and_places(load: Load) -> None:
    questions = load('[grid.n]\nnetwork = "vgg16"\nattn = ["none", "se"]\nat = ["a", "b"]\nimg-size = 64\n').questions()
    sweep = Sweep(networks=["vgg16"], attn=["none", "se"], at=["a", "b"], img_size=["64"])
    assert [each.case for each in questions] == sweep.cases()


def test_how_to_measure(load: Load) -> None:
    text = """
    [grid.a]
    module = "se"
    metrics = "static, latency"
    precision-target = "5%"
    max_time = 1
    processes = 3
    threads = 2
    keep-samples = true
    subtract-idle = true
    """
    (question,) = load(text).questions()
    assert question.options == Options(
        metrics=("static", "latency"), precision_target=0.05, max_time=1.0, processes=3, threads=2, keep_samples=True,
        subtract_idle=True,
    )  # fmt: skip


def test_a_batch_that_is_to_be_found(load: Load) -> None:
    auto, given_ = load(SMALL + 'batch-size = "auto"\n[grid.b]\nmodule = "se"\n').questions()
    assert auto.options == Options(best_batch=True)
    assert given_.options == Options()
    assert auto.case == given_.case  # and yet another question


def test_a_list_of_hyper_parameters_is_combined(load: Load) -> None:
    questions = load(SMALL + "res = [8, 16]\nset = { a = [1, 2], b = ['x', 'y'], attn = { c = 3 } }\n").questions()
    params = [dict(each.case.params) for each in questions]
    assert params == [{"a": a, "b": b, "attn.c": 3} for a in (1, 2) for b in ("x", "y") for _ in range(2)]


def test_defaults_hold_where_a_grid_says_nothing_and_they_make_sense(load: Load) -> None:
    suite = load("""
    [defaults]
    module = "se"
    res = [8, 16]
    img-size = 64
    attn = "se"
    at = "x"
    dtype = "bf16"
    max-time = 1
    set = { a = 1, b = 1 }
    [grid.maps]
    set = { b = 2 }
    max-time = 3
    [grid.tokens]
    module = "sdpa"
    seq-len = 64
    dtype = "fp32"
    [grid.network]
    network = "vgg16"
    """)
    plan = suite.by_grid()
    assert rows(plan["maps"]) == ["se 8x8 bf16", "se 16x16 bf16"]
    assert rows(plan["tokens"]) == ["sdpa 64 fp32"]
    assert rows(plan["network"]) == ["vgg16+se@x 64x64 bf16"]
    assert {each.case.params for each in plan["maps"]} == {(("a", 1), ("b", 2))}
    assert [plan[name][0].options.max_time for name in plan] == [3.0, 1.0, 1.0]
    assert [grid.title for grid in suite.grids] == ["[grid.maps]", "[grid.tokens]", "[grid.network]"]


def test_processes_of_the_defaults_are_for_grids_with_a_latency(load: Load) -> None:
    suite = load('[defaults]\nprocesses = 3\n[grid.a]\nmodule = "se"\n[grid.b]\nmodule = "eca"\nmetrics = "static"\n')
    assert [each.options.processes for each in suite.questions()] == [3, 1]
    assert [each.options.processes for each in suite.questions({"processes": 5})] == [5, 1]
    assert [each.options.processes for each in suite.questions({"metrics": ["static"]})] == [1, 1]
    with pytest.raises(UsageError, match=r"^--processes 5 is for the latency"):
        suite.questions({"processes": 5, "metrics": ["static"]})


def test_a_case_of_two_grids_is_asked_once(load: Load) -> None:
    suite = load('[grid.a]\nmodule = ["se", "eca"]\n[grid.b]\nmodule = ["cbam", "se"]\nres = "32x32"\n')
    assert {name: len(questions) for name, questions in suite.by_grid().items()} == {"a": 2, "b": 1}
    assert [each.case.target for each in suite.questions()] == ["se", "eca", "cbam"]


EVERYTHING = """
[grid.targets]
module = ["se", "self_attn", "sdpa"]
res = [8, "8x16"]
network = ["vgg16", "hf:gpt2+se"]
attn = ["none", "eca"]
swap = ["none", "mhsa"]
img-size = [32, 64]
set = { k = [1, 2], on = [true, false] }
[grid.ways]
module = ["eca", "sdpa"]
res = 24
batch-size = [1, 2]
dim = [64, 128]
heads = [1, 2]
dtype = ["fp32", "fp16"]
mode = ["fwd", "bwd"]
engine = ["eager", "compile"]
backend = ["auto", "math"]
[grid.tokens]
module = ["sdpa", "mhsa"]
seq-len = [64, 128]
batch-size = "auto"
backend = "flash"
"""


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any library counts as installed."""
    monkeypatch.setattr("attnbench.targets.providers.find_spec", lambda name: name)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ('module = "se"', lambda case: case.target == "se"),
        ('module = "s*"', lambda case: case.kind == "module" and case.target.startswith("s")),
        ('module = "se?f_*"', lambda case: case.target == "self_attn"),
        ('module = ["sagan", "se"]', lambda case: case.target in ("self_attn", "se")),
        ('network = "*"', lambda case: case.kind == "network"),
        ('network = "vgg16"', lambda case: case.target == "vgg16"),
        ('network = "hf:*"', lambda case: case.target == "hf:gpt2"),
        ('network = "hf:gpt2+se~mhsa"', lambda case: case.name == "hf:gpt2~mhsa+se"),
        ('network = "vgg16~mhsa+e*"', lambda case: case.name == "vgg16~mhsa+eca"),
        ('attn = "none"', lambda case: case.kind == "network" and case.insert is None),
        ('attn = ["se", "eca"]', lambda case: case.insert in ("se", "eca")),
        ('swap = "mhsa"', lambda case: case.swap == "mhsa"),
        ("res = 8", lambda case: case.kind == "module" and case.size == "8x8"),
        ('res = ["8X16", 8]', lambda case: case.kind == "module" and case.height == 8),
        ('res = "*x16"', lambda case: case.kind == "module" and case.width == 16),
        ("img-size = 64", lambda case: case.size == "64x64"),
        ("seq-len = [128]", lambda case: case.tokens == 128 and case.height is None),
        ("batch-size = 2", lambda case: case.batch_size == 2),
        ("batch-size = 1\nres = 24", lambda case: case.batch_size == 1 and case.size == "24x24"),
        ('batch-size = 1\nmodule = "sdpa"', lambda case: case.batch_size == 1 and case.target == "sdpa"
         and case.height is not None),
        ('batch-size = "auto"\nmodule = "mhsa"', lambda case: case.target == "mhsa"),
        ("dim = 128", lambda case: case.dim == 128),
        ('heads = "2"', lambda case: case.heads == 2),
        ('dtype = "float16"', lambda case: case.dtype == "fp16"),
        ('dtype = "?p16"', lambda case: case.dtype == "fp16"),
        ('mode = "bwd"', lambda case: case.mode == "bwd"),
        ('engine = "comp*"', lambda case: case.engine == "compile"),
        ('backend = "auto"\nres = 24', lambda case: case.backend is None and case.size == "24x24"),
        ("set.k = 2", lambda case: ("k", 2) in case.params),
        ("set.k = [1, 5]", lambda case: ("k", 1) in case.params),
        ('set = { on = "true" }', lambda case: ("on", True) in case.params),
        ('set.k = 2\nmodule = "se"\nres = 8', lambda case: ("k", 2) in case.params and case.name == "se"
         and case.size == "8x8"),
    ],
)  # fmt: skip
def test_what_an_exclude_is_for(load: Load, match: str, fits: Callable[[Case], bool]) -> None:
    every = load(EVERYTHING).questions()
    left = load(f"{EVERYTHING}\n[[exclude]]\n{match}\n").questions()
    assert left == [each for each in every if not fits(each.case)]
    assert 0 < len(left) < len(every)


@pytest.mark.usefixtures("libraries")
def test_true_is_no_number_and_what_is_not_said_is_no_match(load: Load) -> None:
    for match in ("set.on = 1", "set.k = 'x'", "set.other = 'none'"):
        with pytest.raises(UsageError, match=r"no case of the suite has set\."):
            load(f"{EVERYTHING}\n[[exclude]]\n{match}\n")


def test_overrides_change_what_they_match_and_the_last_one_wins(load: Load) -> None:
    suite = load("""
    [[override]]
    match.module = "*"
    max-time = 1
    threads = 1
    [grid.a]
    module = ["sdpa", "linformer", "se"]
    dtype = ["fp32", "fp16"]
    set = { a = 1, b = 1 }
    [[grid.a.override]]
    match = { module = ["sdpa", "linformer"], dtype = "half" }
    max-time = 5
    heads = 8
    layout = "bnc"
    set = { b = 2, k = 16 }
    [[grid.a.override]]
    match = { module = "lin*" }
    heads = 4
    metrics = "static"
    """)
    found = {f"{each.case.target} {each.case.dtype}": each for each in suite.questions()}
    untouched, plain, half = found["se fp16"], found["sdpa fp32"], found["sdpa fp16"]
    assert untouched.options == plain.options == Options(max_time=1.0, threads=1)
    assert half.options == Options(max_time=5.0, threads=1)
    assert (half.case.heads, half.case.layout) == (8, "bnc")
    assert half.case.params == (("a", 1), ("b", 2), ("k", 16))
    assert plain.case.params == untouched.case.params == (("a", 1), ("b", 1))
    linformer = found["linformer fp16"]
    assert linformer.options == Options(max_time=5.0, threads=1, metrics=("static",))
    assert (linformer.case.heads, dict(linformer.case.params)["k"]) == (4, 16)


def test_files_of_modules_are_sought_beside_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there" / "suites"
    folder.mkdir(parents=True)
    for path in (folder / "my.py", folder.parent / "up.py"):
        path.write_text("raise SystemExit('a suite executes nothing')\n")
    (folder / "s.toml").write_text(
        '[grid.a]\nmodule = ["my.py:X", "../up.py:X", "torch.nn:Identity"]\n'
        '[grid.b]\nnetwork = "my.py:Net+../up.py:X"\nswap = "my.py"\n[[exclude]]\nmodule = "../up.py:*"\n'
    )
    monkeypatch.chdir(tmp_path)
    names = [each.case.name for each in load_suite("there/suites/s.toml").questions()]
    network = "there/suites/my.py:Net~there/suites/my.py+there/up.py:X"
    assert names == ["there/suites/my.py:X", "torch.nn:Identity", network]
    monkeypatch.chdir(folder)
    assert load_suite("s.toml").questions()[0].case.target == "my.py:X"
    assert load_suite(str(folder / "s.toml")).questions()[0].case.target == f"{folder}/my.py:X"


# What is given on top


def test_what_is_given_on_the_command_line_wins_everywhere(load: Load) -> None:
    suite = load(
        PAIR + 'dtype = ["fp32", "fp16"]\ndevice = "cpu"\nmax-time = 3\n'
        '[[override]]\nmatch.dtype = "fp16"\nmax-time = 7\nmetrics = "latency"\n[[exclude]]\ndtype = "fp16"\nres = 8\n'
    )
    assert len(suite.questions()) == 6
    found = suite.questions(
        {"device": "cuda:1", "seed": 3, "dtype": ["bfloat16"], "max_time": 1, "precision_target": "2%",
         "metrics": ["static"], "threads": 2, "processes": None, "keep_samples": True, "subtract-idle": None}
    )  # fmt: skip
    assert rows(found) == ["se 8x8 bf16", "sdpa 8x8 bf16", "se 16x16 bf16", "sdpa 16x16 bf16"]
    assert {(each.case.device, each.case.seed) for each in found} == {("cuda:1", 3)}
    assert {each.options for each in found} == {
        Options(metrics=("static",), precision_target=0.02, max_time=1.0, threads=2, keep_samples=True)
    }
    assert rows(suite.questions({"dtype": ["half"]})) == ["se 16x16 fp16", "sdpa 16x16 fp16"]
    assert suite.questions({}) == suite.questions() == suite.questions({"device": None, "metrics": []})


def test_what_cannot_be_given_or_leaves_nothing(load: Load) -> None:
    suite = load(SMALL + "[grid.small.set]\nreduction = 8\n")
    for override, words in [
        ({"res": ["16"]}, "--res cannot be given on top of a suite: device, dtype, seed, metrics,"),
        ({"device": "tpu"}, "^--device 'tpu' is unknown"),
        ({"dtype": ["fp23"]}, "^unknown dtype 'fp23'. Did you mean"),
        ({"seed": -1}, "^--seed -1 is out of range"),
        ({"max_time": 0.0}, "^--max-time 0 is out of range"),
        ({"metrics": ["speed"]}, "^unknown metric 'speed'"),
        ({"precision_target": "much"}, "^--precision-target 'much' is no fraction"),
        ({"threads": 0}, "^--threads 0 is out of range"),
        ({"threads": "many"}, "^--threads takes a whole number"),
    ]:
        with pytest.raises(UsageError, match=words):
            suite.questions(override)
    without = load(PAIR + 'dtype = ["fp32", "fp16"]\n[[exclude]]\ndtype = "fp16"\n')
    with pytest.raises(UsageError, match="nothing of the suite s is left"):
        without.questions({"dtype": ["fp16"]})


def test_two_ways_that_only_the_command_line_makes_one_case(load: Load) -> None:
    suite = load(SMALL + 'dtype = ["fp32", "fp16"]\n[[override]]\nmatch.dtype = "fp16"\nthreads = 1\n[grid.b]\n'
                 'module = "se"\ndtype = "bf16"\nthreads = 2\n')  # fmt: skip
    assert len(suite.questions()) == 3
    (question,) = suite.questions({"dtype": ["fp32"]})
    assert question.options == Options()


# What comes with attnbench


@pytest.mark.parametrize("name", ["ci", "paper", "quick", "tokens", "vision"])
def test_shipped_suites(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description
    assert 20 <= len(suite.questions()) <= 200
    assert all(":" not in each.case.name for each in suite.questions())  # nothing that has to be installed
    assert suite.questions({"device": "cuda", "metrics": ["static"]})
    assert "# Time: " in suite.file.text


def test_what_the_shipped_suites_promise() -> None:
    assert set(shipped()) == {"ci", "paper", "quick", "tokens", "vision"}
    assert {each.case.height for each in load_suite("vision").questions()} == {16, 32, 64, 128, 256}
    assert {each.case.tokens for each in load_suite("tokens").questions()} == {256, 1024, 4096, 16384, 65536}
    timed = [each.options for each in load_suite("ci").questions() if "latency" in each.options.metrics]
    assert {(each.processes, each.threads) for each in timed} == {(5, 1)}
    assert {each.options.processes for each in load_suite("paper").questions()} == {5}


def test_the_example_is_a_suite_that_uses_what_it_explains(load: Load) -> None:
    suite = load(example())
    assert len(suite.questions()) <= 15
    assert all(grid.own for grid in suite.grids)
    assert suite.grids[0].excludes
    assert suite.grids[0].overrides
    assert len({each.options for each in suite.questions()}) == 3


def test_the_wheel_has_the_suites() -> None:
    included = {file.distribution_path for file in WheelBuilder(str(ROOT.parent)).recurse_included_files()}
    assert {f"attnbench/suites/{name}.toml" for name in (*shipped(), "_example")} <= included


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys; from attnbench.engine.suite import load_suite; assert load_suite('vision').questions();"
        "sys.exit(str({'torch', 'pandas', 'numpy', 'fvcore'} & set(sys.modules)) if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_may_be_given_on_top_is_what_an_options_is_made_of() -> None:
    assert set(GIVEN) == {"device", "dtype", "seed", *MEASURING}
