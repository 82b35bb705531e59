"""Argument lists for every command, right, wrong and hostile: what a person, a script or an enemy may type.

The commands and their options are read off the command line itself, so that a new one is tried without a word here.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st
from typer.main import get_command

from attnbench.cli import app

__all__ = ["FILES", "argument_lists", "suite_texts"]

# What stands in the folder that a line is tried in; see test_argument_lists.
FILES = ("good.jsonl", "elsewhere.jsonl", "torn.jsonl", "empty.jsonl", "garbage.jsonl", "folder.jsonl", "folder.md",
         "full.jsonl", "full.md", "nowhere.jsonl", "loop.jsonl", "mine.py", "good.toml", "bad.toml",
         "empty.toml")  # fmt: skip

_DIGITS = "9" * 5000
HOSTILE = (
    "", " ", ",", ",,", "a,,b", ",4", "4,", "-", "--", "-1", "0", "1", "2,3", "-0", "+4", " 4 ", "4 ", "0x10", "1_0",
    "1e3", "1e999", "-1e999", "nan", "inf", "-inf", "1.5", ".5", "5%", "%", "101%", "-1%", "nan%",
    "99999999999999999999", "-99999999999999999999", "2147483648", "9223372036854775808", "1" + "0" * 400, _DIGITS,
    "²", "½", "٤", "４", "Ⅳ", "é", "名前", "🙂" * 9, "\u202e4", "\u200b", "\udcff", "a\udcffb", "\x00", "a\x00b", "\n",
    "a\nb", "\t", "\r", "\x1b[31m", "[", "]", "[/]", "[bold]x[/]", "\\[/]", "\\", "x\\", "{}", "{0}", "%s", "%(a)s",
    "$HOME", "`id`", "*", "**", "?", "[a-", ".", "..", "/", "~", "~/x.jsonl", "~nobody-of-that-name/x.md", "./x",
    "a/b", "/dev/null", "/dev/full", "/dev/zero", "/proc/x.jsonl", "x" * 300, "x" * 300 + ".jsonl", "=", "a=", "=b",
    "a=b", "a=b=c", "a.b=c", "a.=1", ".a=1", "--help", "--version", "-m", "-h", "none", "None", "NONE", "true", "auto",
    "all", "null", "None,None", ":", "a:", ":a", "a:b:c", "torch:nn", "+", "~se", "+se", "se+", "se~", "a+b~c",
    "vgg16+se+se", "vgg16~", "se:se", ".py", "x.py:", ".jsonl", "x.jsonl/", "x.MD", "x.tar.gz", "-o",
    "__import__('os')", "0/0", "4x", "x4", "4x4x4", "4X4", "4×4", "-4x4", "4x-4", "cuda:", "cuda:-1", "cuda:²",
    "cuda:99", "cuda:1-0", "cuda:0-9999", "cuda:0-3,cuda:2", "cpu:0", "cpu,cpu", "meta", "mps",
)  # fmt: skip

# Values that make sense, by option; short lists, so that what they span together stays small.
_TARGETS = ("se", "self_attn", "linear_attn", "se,eca", "sdpa", "self_atn", "mine.py:MyAttn", "mine.py",
            "torch.nn:Linear", "nowhere.py:X", "folder.md:X", "vgg16")  # fmt: skip
_NETWORKS = ("vgg16", "vgg16+se", "vgg16~sdpa", "timm:vit_tiny_patch16_224", "hf:gpt2", "torchvision:resnet18",
             "vgg61", "timm:", "hf:", "fla:x", "vgg16+none")  # fmt: skip
_STORES = ("good.jsonl", "worse.jsonl", "torn.jsonl", "empty.jsonl", "garbage.jsonl", "new.jsonl", "folder.jsonl",
           "full.jsonl", "nowhere.jsonl", "loop.jsonl", "deep/er/new.jsonl")  # fmt: skip
_SUITES = ("quick", "ci", "quik", "good.toml", "bad.toml", "empty.toml", "nowhere.toml", "folder.md", "mine.py")
SENSIBLE: Mapping[str, Sequence[str]] = {
    "--module": _TARGETS, "--network": _NETWORKS, "--attn": ("se", "none", "none,se", "vgg16"),
    "--swap": ("sdpa", "none", "none,linear_attn"), "--at": ("features.*", "layer3,layer4", "*"),
    "--res": ("4", "4,13", "4x6", "8"), "--img-size": ("32", "32,48x64"), "--seq-len": ("16", "16,64"),
    "--batch-size": ("1", "1,2", "auto", "4"), "--dim": ("64", "32,64"), "--heads": ("1", "1,2", "3"),
    "--dtype": ("fp32", "bf16,fp32", "float16", "tf32"), "--device": ("auto", "cpu", "cuda", "cuda:1"),
    "--mode": ("fwd", "fwd,fwd_bwd", "bwd", "train"), "--engine": ("eager", "eager,compile", "cudagraph"),
    "--backend": ("auto", "auto,math", "flash"), "--layout": ("auto", "bchw", "bnc"),
    "--set": ("reduction=8", "eps=1e-6", "a=none", "x=true", "attn.reduction=4", "a='b'"),
    "--metrics": ("static", "latency", "params,macs", "all"), "--precision-target": ("1%", "0.05"),
    "--max-time": ("0.1", "2"),
    "--processes": ("1", "2", "0", "1001"), "--timeout": ("1", "600"), "--threads": ("1", "2", "5000"),
    "--mem-limit": ("1GiB", "1KiB", "0", "8 GB"), "--isolate": ("worker", "case", "none"),
    "--suite": _SUITES, "--executor": ("instant", "local", "ray", "slurm"),
    "--devices": ("cpu", "cpu,cpu", "cuda:0-1", "cuda"),
    "--address": ("auto", "127.0.0.1:6379"), "--baseline": ("se", "self_attn", "vgg16"), "--seed": ("0", "7"),
    "--out": (*_STORES, "t.md", "t.csv", "t.json", "t.html", "t.tex", "folder.md", "full.md", "good.jsonl/x.md"),
    "--format": ("table", "md", "csv", "json", "jsonl", "pdf"), "--memory": ("1GiB", "80 GB", "1KiB", "9PiB"),
    "--by": ("op", "module", "ops"), "--depth": ("1", "2", "0"),
    "--claim": ("O(N)", "O(N^2)", "O(N log N)", "O(1)", "O(x)"),
    "--family": ("linear", "softmax,linear", "softmx"), "--threshold": ("5%", "0.1"), "--sort": ("name",),
}  # fmt: skip
_POSITIONALS: Mapping[str, Sequence[str]] = {
    "target": (*_TARGETS, *_NETWORKS), "what": (*_TARGETS, *_NETWORKS, *_STORES, "./good.jsonl", *_SUITES),
    "source": _STORES, "baseline": _STORES, "candidate": _STORES,
    "file": ("new.toml", "good.toml", "-", "x.txt", "folder.md"),
}  # fmt: skip
# A command that is given little of its own still has something to do.
_USUALLY: Mapping[str, Sequence[Sequence[str]]] = {
    "run": (["--executor", "instant", "-m", "se", "--res", "4"], ["--executor", "instant", "-m", "se,self_attn"],
            ["--executor", "instant", "-n", "vgg16"], ["--executor", "instant", "--suite", "good.toml"],
            ["--executor", "instant", "-m", "mine.py:MyAttn", "--res", "4", "--dry-run"],
            ["--executor", "instant", "-m", "se", "-o", "good.jsonl", "--resume"], ["-m", "se"], []),
    "audit": (["se"], ["self_attn"], ["se", "--claim", "O(1)", "--strict"], []),
    "fit": (["se", "--memory", "1GiB"], ["vgg16"], ["self_attn", "--res", "8"], []),
    "doctor": (["--quick"], ["--processes", "2"], []),
    "show": (["self_attn"], ["good.jsonl"], ["se", "--by", "op"], ["good.jsonl", "--by", "module"], []),
    "check": (["good.jsonl", "good.jsonl"], ["good.jsonl", "worse.jsonl"], ["good.jsonl", "elsewhere.jsonl"], []),
    "export": (["good.jsonl", "-o", "t.md"], []),
    "suite show": (["good.toml"], ["paper"]),
}  # fmt: skip

# For one case in thirty: the ends of a range are drawn more often than what lies inside.
_dice = st.integers(0, 29)
_any_text = st.sampled_from(HOSTILE) | st.text(max_size=12) | st.sampled_from(FILES)


@cache
def commands() -> Mapping[tuple[str, ...], Any]:
    """Every command by the words that lead to it."""
    return dict(_below((), get_command(app)))


def _below(words: tuple[str, ...], command: Any) -> list[tuple[tuple[str, ...], Any]]:
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    return [(words, command), *(pair for name in inner for pair in _below((*words, name), inner[name]))]


def _values(known: Sequence[str]) -> st.SearchStrategy[str]:
    """Mostly one that makes sense, so that a line gets past its first option."""
    sensible = st.sampled_from(known or HOSTILE)
    return st.one_of(*[sensible] * 6, _any_text)


@st.composite
def _option(draw: st.DrawFn, parameter: Any) -> list[str]:
    """One option as it may be typed: by any of its names, with its value apart, joined, repeated or missing."""
    name = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
    if parameter.is_flag:
        return [name, *draw(st.sampled_from([[], [], [], [], [], ["x"]]))]
    known = next((SENSIBLE[each] for each in parameter.opts if each in SENSIBLE), ())
    value = draw(_values(known))
    match draw(_dice):
        case 11:
            return [name]
        case 12:
            return [f"{name}={value}"]
        case 13:
            return [name, value, name, draw(_values(known))]
        case 14:
            return [name + value]
    return [name, value]


@st.composite
def argument_lists(draw: st.DrawFn) -> list[str]:
    """The words behind `attnbench`."""
    if draw(_dice) == 11:
        return draw(st.lists(_any_text, max_size=5))
    path = draw(st.sampled_from(_often(tuple(commands()))))
    command = commands()[path]
    options = [each for each in command.params if each.param_type_name == "option"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    words: list[str] = []
    if draw(_dice) not in (11, 12):
        words += draw(st.sampled_from(_USUALLY.get(" ".join(path), [[]])))
    if not words or draw(_dice) in (11, 12):
        words += [draw(_values(_POSITIONALS.get(each.name, ()))) for each in arguments]
    if options:
        for chosen in draw(st.lists(st.sampled_from(options), max_size=3)):
            words += draw(_option(chosen))
    return draw(_disturbed([*path, *words]))


def _often(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """`run` is what people type, and has most options; a group alone has next to none."""
    return [*(path for path in paths for _ in range(3) if path), (), *[("run",)] * 3 * len(paths)]


@st.composite
def _disturbed(draw: st.DrawFn, words: list[str]) -> list[str]:
    """Now and then a word is left out, doubled, moved or put in between."""
    at = draw(st.integers(0, max(0, len(words) - 1)))
    match draw(_dice):
        case 11:
            return words[:at] + words[at + 1 :]
        case 12:
            return words[:at] + words[at : at + 1] + words[at:]
        case 13:
            return [*words[:at], draw(_any_text), *words[at:]]
        case 14:
            return draw(st.permutations(words))
        case 15:
            return [*words[:at], "--", *words[at:]]
    return words


_KEYS = ("description", "module", "network", "attn", "swap", "at", "res", "img-size", "seq-len", "batch-size", "dim",
         "heads", "dtype", "device", "mode", "engine", "backend", "layout", "set", "metrics", "max-time",
         "precision-target", "processes", "threads", "seed", "keep-samples", "subtract-idle", "modul",
         "match")  # fmt: skip
_GOES_WITH_ALL = ("batch-size", "dim", "dtype", "mode", "heads", "device", "engine", "metrics", "max-time", "threads",
                  "processes", "layout", "seed", "precision-target", "description")  # fmt: skip
_TABLES = ("[defaults]", "[grid.a]", "[grid.b]", "[[exclude]]", "[[override]]", "[[grid.a.exclude]]",
           "[[grid.a.override]]", "[grid.'']", "[grid]", "[other]", "[grid.a.b]", "[[grid]]", "[defaults")  # fmt: skip
_RAW = ("1", "-1", "0", "1.5", "nan", "inf", "-inf", "true", "[]", "{}", "[[]]", "[1, 'a']", "{ a = 1 }",
        "{ reduction = [1, 2] }", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "99999999999999999999", "0x1F",
        "1e400", "''", '"\\u0000"', '"\\u202e"', '"""a\nb"""', "[4, '4x6']", "['se', 'self_attn']", "'*'", "'se'",
        "'vgg16'", "{ module = 'se' }", "{ res = 4 }", "{ match = 1 }", "[{}]", "9" * 5000,
        "'" + "x" * 400 + "'")  # fmt: skip


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    inner = re.sub(r'[\x00-\x1f\x7f"\\]', lambda found: f"\\u{ord(found[0]):04x}", text)
    return f'"{inner}"'


@st.composite
def _entry(draw: st.DrawFn) -> str:
    key = draw(st.sampled_from(_KEYS) if draw(_dice) in (11, 12, 13, 14) else st.sampled_from(_GOES_WITH_ALL))
    known = SENSIBLE.get(f"--{key}", ())
    value = st.sampled_from(_RAW) | st.text(max_size=8).map(_quoted)
    if known and draw(_dice) not in (11, 12):
        value = st.sampled_from(known).map(_typed)
    return f"{key} = {draw(value)}"


def _typed(text: str) -> str:
    """What stands on a command line, as TOML has it: numbers bare, several as a list."""
    parts = [part if re.fullmatch(r"\d+(\.\d+)?", part) else _quoted(part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"


@st.composite
def suite_texts(draw: st.DrawFn, examples: Sequence[str]) -> str:
    """The text of a suite: one made of tables and keys, one of the `examples` with a line disturbed, or anything."""
    match draw(_dice):
        case 11:
            return draw(st.text(max_size=60))
        case 12 | 13 | 14 | 15 | 16 | 17:
            lines = draw(st.sampled_from(examples)).splitlines()
            at = draw(st.integers(0, len(lines) - 1))
            other = draw(st.sampled_from(["", "=", "[", "]]", "x = 1", "é", "[grid.modules]"]) | _entry())
            return "\n".join([*lines[:at], other, *lines[at + draw(st.integers(0, 2)) :]])
    head = draw(st.sampled_from(["", *["[grid.a]\nmodule = 'se'\nres = [4, 8]\n"] * 9]))
    first = draw(st.lists(_entry(), max_size=3, unique_by=lambda entry: entry.split(" = ")[0]))
    tables = draw(st.lists(st.tuples(st.sampled_from(_TABLES), st.lists(_entry(), max_size=3)), max_size=2))
    return head + "\n".join([*first, *("\n".join([title, *entries]) for title, entries in tables)])
