"""A tiny package, built and installed as anybody's would be, adds a module, a metric, an exporter and a source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiny-attn"
version = "1.0"

[project.entry-points."attnbench.modules"]
tiny = "tiny_attn.layers"
taken = "tiny_attn.taken"
broken = "tiny_attn.broken:Missing"

[project.entry-points."attnbench.metrics"]
carbon = "tiny_attn.carbon:measure_carbon"

[project.entry-points."attnbench.exporters"]
names = "tiny_attn.names:names"
gone = "tiny_attn.nowhere:nothing"

[project.entry-points."attnbench.sources"]
tiny = "tiny_attn.source:locate"

[tool.hatch.build.targets.wheel]
packages = ["tiny_attn"]
"""
FILES = {
    "layers": '''
from torch import Tensor, nn

from attnbench.modules.spec import attention


@attention(
    name="tiny_mean", layout="bnc", complexity="N", memory="N", params="C**2", macs="B*C**2", paper="none",
)
class TinyMean(nn.Module):
    """The mean of the tokens, through one layer. (B, N, C) -> (B, 1, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.mean(dim=1, keepdim=True))
''',
    "taken": '''
from torch import nn

from attnbench.modules.spec import attention


@attention(name="sdpa", layout="bnc", complexity="N", memory="N", params="0", macs="0", paper="none")
class Sdpa(nn.Module):
    """Not the one that everybody means. (B, N, C) -> (B, N, C)."""
''',
    "broken": "this is no Python",
    "carbon": '''
from attnbench.core.record import Reading
from attnbench.metrics.metric import metric


@metric(name="carbon", on="device", fields=("carbon.grams",))
def measure_carbon(subject, options):
    yield Reading("carbon.grams", 12, "count", "lower")
''',
    "names": '''
def names(records, baseline):
    return "".join(f"{record.case.name}!\\n" for record in records)
''',
    "source": '''
from attnbench.targets.sources import Target


def locate(place, name):
    from tiny_attn.layers import TinyMean

    return Target(f"{place}:{name}", TinyMean)
''',
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the package, which it built without the network."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("this environment has no pip to install a package with")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "tiny_attn").mkdir()
    (source / "tiny_attn" / "__init__.py").touch()
    for name, text in FILES.items():
        (source / "tiny_attn" / f"{name}.py").write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True)
    return target


def attnbench(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "attnbench", *words]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120
    )


def test_its_module_is_listed_and_what_is_broken_or_taken_is_left_out_with_a_word(
    installed: Path, tmp_path: Path
) -> None:
    done = attnbench(installed, tmp_path, "list", "--json")
    specs = {spec["name"]: spec for spec in json.loads(done.stdout)}
    assert specs["tiny_mean"]["family"] == "layers"
    assert specs["sdpa"]["paper"] != "none"
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [
        "attnbench: the plug-in 'broken' is left out: broken.py cannot be read (SyntaxError: invalid syntax "
        "(<unknown>, line 1))",
        "attnbench: the plug-in 'taken' is left out: there is another module or network called 'sdpa'",
    ]


def test_its_module_metric_exporter_and_source_are_used_like_ours(installed: Path, tmp_path: Path) -> None:
    words = ["run", "-m", "tiny_mean,tiny:whatever", "--res", "4", "--metrics", "static,carbon", "-o", "o.jsonl"]
    done = attnbench(installed, tmp_path, *words, "--format", "names", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tiny_mean!\ntiny:whatever!\n"
    own, provided = (json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines())
    assert own["static"]["counters"] == dict.fromkeys(("dispatch", "fvcore", "torch", "formula"), 4096)
    assert own["carbon"] == {"grams": 12}
    assert provided["static"]["macs"] == 4096
    gone = [line for line in done.stderr.splitlines() if "'gone'" in line]
    assert gone == ["attnbench: the plug-in 'gone' is left out: ModuleNotFoundError: No module named "
                    "'tiny_attn.nowhere'"]  # fmt: skip


def test_a_source_that_does_not_load_says_so_when_it_is_asked(installed: Path, tmp_path: Path) -> None:
    (installed / "tiny_attn" / "source.py").write_text("import nothing_of_that_name")
    done = attnbench(installed, tmp_path, "run", "-m", "tiny:whatever", "--res", "4", "--metrics", "static", "--quiet")
    assert done.returncode == 2
    said = "tiny: belongs to a plug-in that does not load: ModuleNotFoundError: No module named 'nothing_of_that_name'."
    assert said in done.stderr
    assert "Traceback" not in done.stderr
