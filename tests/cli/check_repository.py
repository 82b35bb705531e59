"""A scratch repository with two modules and a suite of both, and what answers a check of it without measuring."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from attnbench.core.sequential import Told
from attnbench.engine.gate.duel import Duel, Failed, Launch
from attnbench.engine.workers.channels import InlineChannel

__all__ = ["BOTH", "ONE", "OTHER", "SHAPE", "SMALL", "SUITE", "Here", "Says", "Slower", "edit", "found", "git"]

SMALL = '''"""A module of the user's."""

import torch
from torch import nn

STEPS = 2


class Small(nn.Module):
    """Of one product, and of sines."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.proj(x)[..., : x.shape[-1]]
        for _ in range(STEPS):
            z = torch.sin(y)
        return z
'''
OTHER = SMALL.replace("Small", "Other")
SUITE = '''
[defaults]
seq-len = 16
dim = 8
layout = "bnc"
[grid.both]
module = ["other.py:Other", "small.py:Small"]
'''
SHAPE = ("--seq-len", "16", "--dim", "8", "--layout", "bnc")
ONE = ("-m", "small.py:Small", *SHAPE)
BOTH = ("--suite", "suite.toml")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


def found(out: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The verdicts of a check as JSON, by the name of the module and the reading."""
    return {(each["case"].split(":")[1].split()[0], each["title"]): each for each in json.loads(out)["verdicts"]}


class Here(InlineChannel):
    """Answers in this process, which is taken for a fresh one."""

    def __init__(self, *, quiet: bool = False, env: object = None) -> None:
        return

    def fresh(self) -> None:
        return


class Says:
    """Says of each case that it is so much slower, or what became of it; `asked` are their names."""

    slower: ClassVar[dict[str, float | Failed]] = {}
    asked: ClassVar[list[str]] = []

    def __init__(self, channel: object, timeout: float | None = None) -> None:
        self.apart: dict[str, str] = {}

    def fresh(self) -> None:
        return

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        self.asked.append(duel.name)
        found = next((change for name, change in self.slower.items() if name in duel.name), 0.0)
        if isinstance(found, Failed):
            return found
        return Launch(Told(math.log1p(found), 0.001), 2.0, 2.0 * (1 + found), "cpu")


# Is told what is said of the latencies; gives the names of the cases that are timed from then on.
Slower = Callable[..., list[str]]
