"""Loading results, baselines and suites never executes code, and what stands in a file of records is never opened."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attnbench
from attnbench.core.store import load
from attnbench.engine.sweep import Sweep

ROOT = Path(attnbench.__file__).parent
HERE = Path(__file__).parent

# Modules that turn data into code, or into objects of any class.
_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "runpy",
            "code", "codeop", "imp", "jsonpickle", "commands", "pty"}  # fmt: skip
_NAMES = {"eval", "exec", "compile", "__import__", "execfile"}
_METHODS = {
    "load": {"torch", "yaml", "pickle", "marshal", "np", "numpy", "joblib"}, "loads": {"pickle", "marshal", "yaml"},
    "read_pickle": {"pd", "pandas"}, "system": {"os"}, "popen": {"os"}, "spawnl": {"os"}, "execv": {"os"},
    "execvp": {"os"}, "getoutput": {"subprocess"}, "getstatusoutput": {"subprocess"}, "exec": {"builtins"},
    "eval": {"builtins", "pd", "pandas"}, "compile": {"builtins"}, "__import__": {"builtins"}, "hub": {"torch"},
}  # fmt: skip
_ANYONES = {"exec_module", "load_module", "run_path", "run_module", "load_state_dict_from_url", "read_pickle"}

ALLOWED = {
    ("targets/sources.py", "exec_module"): "`--module my_attn.py:MyAttn` runs that file, as the README says",
}


def dangers(tree: ast.AST) -> Iterator[str]:
    """What in a file could turn data into code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in _MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if node.module.split(".")[0] in _MODULES else []
            yield from (each.name for each in node.names if each.name in _METHODS.get("system", ()) or
                        each.name in _ANYONES)  # fmt: skip
        elif isinstance(node, ast.Name) and node.id in _NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in _ANYONES or of in _METHODS.get(node.attr, ()):
                yield f"{of}.{node.attr}" if of in _METHODS.get(node.attr, ()) else node.attr
        elif isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield f"{node.arg}="
        elif isinstance(node, ast.keyword) and node.arg == "weights_only":
            yield "weights_only="


def test_nothing_in_the_package_turns_data_into_code() -> None:
    found = {
        (str(path.relative_to(ROOT)), danger)
        for path in sorted(ROOT.rglob("*.py"))
        for danger in dangers(ast.parse(path.read_text()))
    }
    assert found - ALLOWED.keys() == set(), "say in ALLOWED why that may be"
    assert ALLOWED.keys() - found == set(), "no longer there"


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import yaml.loader", "eval(x)", "f = exec", "compile(x, '', 'exec')",
     "__import__(x)", "torch.load(p)", "yaml.load(p)", "numpy.load(p)", "os.system(x)",
     "subprocess.run(x, shell=True)", "subprocess.run(x, shell=flag)", "loader.exec_module(m)", "builtins.exec(x)",
     "torch.hub.load(x)", "pandas.read_pickle(x)", "np.load(p, allow_pickle=True)", "runpy.run_path(p)"],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert list(dangers(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["json.load(f)", "torch.compile(m)", "re.compile(p)", "module.eval()", "subprocess.run(x, shell=False)"]
)
def test_the_search_finds_nothing_else(source: str) -> None:
    assert not list(dangers(ast.parse(source)))


@pytest.mark.parametrize("room", ["core", "report"])
def test_the_rooms_that_read_records_import_nothing_by_its_name(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert "import_module" not in path.read_text(), path.name


EVIL = """
from pathlib import Path
Path({marker!r}).touch()
class Evil: pass
"""
_STRUCTURE = {"name", "unit", "better", "title", "low", "high", "status", "kind", "schema", "key", "fingerprint"}


def hostile(folder: Path) -> list[str]:
    """Texts that do harm to whoever opens, imports, runs or evaluates them; `marker` tells of it."""
    marker = folder / "executed"
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    (folder / "secret.txt").write_text("secret")
    (folder / "evil.sh").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (folder / "evil.sh").chmod(0o755)
    return [
        str(folder / "secret.txt"), "/etc/passwd", "../../../../etc/passwd", f"file://{folder / 'secret.txt'}",
        "~/.ssh/id_rsa", f"{folder / 'evil.py'}:Evil", "evil.py:Evil", "evil:Evil", "evil", f"$(touch {marker})",
        f"`touch {marker}`", f"; touch {marker} #", f"| {folder / 'evil.sh'}", str(folder / "evil.sh"),
        f"__import__('os').system('touch {marker}')", "!!python/object/apply:os.system ['touch executed']",
        "cos\nsystem\n(S'touch executed'\ntR.", "{{7*7}}", "%(x)s {0.__class__}", f"http://127.0.0.1:9/{folder.name}",
        "torchvision:resnet18", "timm:vit_tiny_patch16_224", "hf:gpt2", "zoo:evil", f"=cmd|'/c touch {marker}'!A1",
        "\\\\host\\share", "con", "-o/etc/passwd", "--module=evil.py", f"{folder / 'out.md'}",
    ]  # fmt: skip


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """The JSON with the text in every place that says something, and none that makes it a record."""
    if isinstance(value, dict):
        return {name: poisoned(below, text, name) for name, below in value.items()}
    if isinstance(value, list):
        return [poisoned(each, text, key) for each in value]
    return text if isinstance(value, str) and key not in _STRUCTURE else value


def hostile_records(texts: list[str]) -> str:
    sources = (HERE / "old_records" / "swapped.jsonl").read_text().splitlines()[:2]
    lines = []
    for number, text in enumerate(texts):
        data = poisoned(json.loads(sources[number % 2]), text)
        # Where a place is empty as a rule, it is not here; and a title is what people read.
        data["case"] |= {"backend": text, "insert": text, "at": text, "params": {text: text}, "device": text}
        data["readings"][0]["title"], data["readings"][1]["unit"] = text, text
        data["kernels"] = [{"name": text, "calls": 1, "share": 1.0}]
        data["asked"] = {"files": {text: text}, "key": text}
        data["env"] |= {"fingerprint": text, "git_commit": text, text: text}
        lines.append(json.dumps(data) + "\n")
    return "".join(lines)


def watched(commands: list[list[str]], folder: Path) -> tuple[list[int], list[tuple[str, str]], str]:
    (folder / "commands.json").write_text(json.dumps(commands))
    script = [sys.executable, str(HERE / "watched_commands.py"), "commands.json", "events.json"]
    environment = {**os.environ, "COLUMNS": "120", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(script, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "events.json").read_text())
    return told["codes"], [(event, what) for event, what in told["events"]], told["said"]


def test_a_hostile_file_of_records_makes_no_command_open_or_run_anything(tmp_path: Path) -> None:
    texts = hostile(tmp_path)
    (tmp_path / "hostile.jsonl").write_text(hostile_records(texts))
    assert load(tmp_path / "hostile.jsonl").set_aside == ()  # a line that is set aside would prove nothing
    outs = [word for ending in ("md", "csv", "json", "jsonl") for word in ("-o", f"table.{ending}")]
    commands = [
        ["show", "hostile.jsonl"], ["show", "hostile.jsonl", "--notes", "--baseline", texts[5]],
        ["show", "hostile.jsonl", "--by", "op"], ["show", "hostile.jsonl", "--by", "module"],
        ["export", "hostile.jsonl", *outs], ["check", "hostile.jsonl", "hostile.jsonl"],
    ]  # fmt: skip
    codes, events, said = watched(commands, tmp_path)
    assert codes == [0, 2, 0, 0, 0, 3]
    assert texts[0] in said.replace("\n", "")  # the text did come through all this
    assert [each for each in events if not harmless(each, tmp_path)] == []
    assert ("open", "hostile.jsonl") in events  # the watch did see what there was to see
    assert not (tmp_path / "executed").exists()


def test_a_hostile_suite_is_shown_without_running_what_it_names(tmp_path: Path) -> None:
    texts = hostile(tmp_path)
    module = json.dumps([f"{tmp_path / 'evil.py'}:Evil", "evil.py:Evil"])
    (tmp_path / "hostile.toml").write_text(
        f"description = {json.dumps(texts[9])}\n[grid.{json.dumps(texts[13])}]\nmodule = {module}\nres = [8]\n"
        f"set = {{ a = {json.dumps(texts[14])} }}\n"
    )
    commands = [["suite", "show", "hostile.toml"], ["suite", "show", "--json", "hostile.toml"]]
    codes, events, said = watched(commands, tmp_path)
    assert codes == [0, 0], said
    assert [each for each in events if not harmless(each, tmp_path)] == []
    assert ("open", "hostile.toml") in events
    assert not (tmp_path / "executed").exists()


def harmless(event: tuple[str, str], folder: Path) -> bool:
    """The file of records itself, and what is written: a new file beside the one that it then becomes."""
    name, what = event
    path = Path(folder, what)
    if name == "os.mkdir":  # of a folder that is there
        return path == folder
    written = tuple(f".table.{ending}." for ending in ("md", "csv", "json", "jsonl"))
    known = path.name in ("hostile.jsonl", "hostile.toml") or path.name.startswith(written)
    return name in ("open", "os.rename") and known and path.parent == folder


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "[1,2]", "(1,2)", "{'a': 1}", "os.environ", "lambda: 1", "1+1", "2**100000000",
     "f'{1}'", "open('/etc/passwd').read()", "$(true)", "`true`", "!!python/name:os.system", "b'1'", "0x10", "1e",
     "...", "True or False", "\\x41", "@/etc/passwd", "None.__class__", "9" * 5000 + "x"],
)  # fmt: skip
def test_what_set_is_given_stays_text_and_is_never_evaluated(text: str) -> None:
    (case,) = Sweep(modules=["se"], res=["8"], settings=[f"a={text}"]).cases()
    assert dict(case.params)["a"] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-2.5", -2.5), ("1e3", 1000.0), ("true", True), ("None", None), ("'1'", "1"), ('"true"', "true")],
)
def test_what_set_takes_for_a_literal(text: str, value: object) -> None:
    (case,) = Sweep(modules=["se"], res=["8"], settings=[f"a={text}"]).cases()
    found = dict(case.params)["a"]
    assert (found, type(found)) == (value, type(value))
