"""`attnbench list` and `attnbench show NAME`: the whole catalogue on a page, its filters, and a page about each."""

import json
import re

import pytest

from attnbench.core.spec import Spec
from attnbench.targets.catalogue import catalogue

MODULES = [spec for spec in catalogue() if spec.kind == "module"]


def names(out: str) -> list[str]:
    """Names are indented below those of their families."""
    return re.findall(r"^  (\w+) ", out, re.MULTILINE)


def headings(out: str) -> list[str]:
    return re.findall(r"^([a-z_]+) *$", out, re.MULTILINE)


def listed(cli, *words: str) -> list[str]:
    return [spec["name"] for spec in json.loads(cli("list", "--json", *words).out)]


@pytest.mark.parametrize("columns", ["80", "120", "200"])
def test_the_list_has_a_line_for_each_and_fits(cli, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = cli("list")
    assert code == 0, err
    assert names(out) == [spec.name for spec in catalogue()]
    assert headings(out) == list(dict.fromkeys(spec.family for spec in catalogue()))
    assert all(len(line) <= int(columns) for line in out.splitlines())
    assert "…" not in out
    families = len({spec.family for spec in MODULES})
    assert out.splitlines()[-1] == f"{len(MODULES)} modules in {families} families, 1 network"


@pytest.mark.parametrize(
    ("columns", "paper"),
    [
        ("80", "Hu et al. 2017"),
        ("120", "Hu et al. 2017, arXiv:1709.01507"),
        ("200", "Hu et al. 2017, Squeeze-and-Excitation Networks, arXiv:1709.01507"),
    ],
)
def test_as_much_of_the_papers_as_there_is_room_for(
    cli, monkeypatch: pytest.MonkeyPatch, columns: str, paper: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    (line,) = [line for line in cli("list", "--family", "channel,softmax").out.splitlines() if line.startswith("  se ")]
    assert re.split(r"  +", line.strip())[-1] == paper
    assert ("Memory" in cli("list").out) == (columns != "80")


def test_one_family_or_several(cli) -> None:
    out = cli("list", "--family", "spatial").out
    assert headings(out) == ["spatial"]
    assert out.splitlines()[-1] == f"{len(names(out))} modules in 1 family"
    both = listed(cli, "--family", "spatial,low-rank")
    assert both == listed(cli, "--family", "low_rank", "--family", "spatial")
    assert {"simam", "linformer"} < set(both)
    assert cli("list", "--family", "networks").out.splitlines()[-1] == "1 network"


def test_filters_go_together_and_with_json(cli) -> None:
    linear, causal = listed(cli, "--linear"), listed(cli, "--causal")
    assert "linear_attn" in linear
    assert "pseudo_linear_attn" in linear  # it claims so: `list` repeats claims
    assert "self_attn" not in linear
    assert {"sdpa", "linear_attn", "retention"} < set(causal)
    assert "se" not in causal
    both = listed(cli, "--linear", "--causal")
    assert both == [name for name in linear if name in causal]
    own = listed(cli, "--linear", "--causal", "--family", "linear")
    assert own == [name for name in both if name in listed(cli, "--family", "linear")]
    assert names(cli("list", "--linear", "--causal", "--family", "linear").out) == own


def test_a_filter_that_nothing_passes_says_so(cli) -> None:
    assert cli("list", "--family", "spatial", "--causal").out == "Nothing in the catalogue is all of that.\n"
    assert listed(cli, "--family", "spatial", "--causal") == []


def test_an_unknown_family_among_several(cli) -> None:
    code, out, err = cli("list", "--family", "softmax,low-rnk")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "unknown family 'low-rnk'. Did you mean 'low_rank'?" in err


@pytest.mark.parametrize("spec", catalogue(), ids=lambda spec: spec.name)
def test_show_prints_everything_about_each(cli, monkeypatch: pytest.MonkeyPatch, spec: Spec) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = cli("show", spec.name)
    assert code == 0, err
    assert all(len(line) <= 80 for line in out.splitlines())
    text = " ".join(out.split())
    assert ("/ rounds down" in text) == (
        "//" in "".join(f.text for f in (spec.params, spec.macs, *spec.where.values()))
    )
    for part in (spec.summary, *spec.aliases):
        assert part in text
    assert spec.paper.replace(" ", "") in text.replace(" ", "")
    for heading in ("Family", "Layout", "Claims", "Computes", "Causal", "Parameters", "MACs", "Arguments", "Source"):
        assert f"\n{heading} " in out
    sizes = ["224x224"] if spec.kind == "network" else ["32x32", "64x64", "128x128"]
    assert re.findall(r"^At (\w+)", out, re.MULTILINE) == sizes
    assert len(re.findall(r"[0-9,]+ parameters, [0-9.,e-]+ G?MACs", text)) == len(sizes)


def test_the_figures_of_a_page_are_those_of_the_formulas(cli) -> None:
    """SE: two layers of 64 x 16. Linear attention: 4 N C² + 2 N C d + N C, N = 1024, d = 64: one head has all."""
    assert "At 32x32 2,128 parameters, 2,048 MACs at 64 channels" in " ".join(cli("show", "se").out.split())
    linear = " ".join(cli("show", "linear_attn").out.split())
    macs = (4 * 1024 * 64**2 + 2 * 1024 * 64 * 64 + 1024 * 64) / 1e9
    assert f"At 32x32 16,640 parameters, {macs:.5f} GMACs at 64 channels, 1 head" in linear
