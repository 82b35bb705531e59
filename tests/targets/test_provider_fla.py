"""Layers of flash-linear-attention by name: of a package that stands in for it, and its own where there is a GPU."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.targets.build import build
from attnbench.targets.names import canonical, is_network
from attnbench.targets.providers import fla
from attnbench.targets.resolve import resolve
from attnbench.targets.sources import locate

_LAYERS = """
import warnings

from torch import nn

warnings.warn("no GPU, rolling back")

__all__ = ["GatedLinearAttention", "DeltaNet", "HGRN2Attention", "a_function"]


class GatedLinearAttention(nn.Module):
    def __init__(self, mode: str = "chunk", hidden_size: int = 1024, num_heads: int = 4, expand_k: float = 0.5):
        super().__init__()
        warnings.warn("you had better train it otherwise")
        self.heads = num_heads
        self.query = nn.Linear(hidden_size, int(hidden_size * expand_k), bias=False)

    def forward(self, hidden_states, attention_mask=None):
        return hidden_states, None, "cache"


class DeltaNet(GatedLinearAttention):
    pass


class HGRN2Attention(GatedLinearAttention):
    pass


class NotALayer(nn.Module):
    pass


def a_function():
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package called fla on the path, and none of what was imported left afterwards."""
    (tmp_path / "fla").mkdir()
    (tmp_path / "fla" / "__init__.py").write_text("")
    (tmp_path / "fla" / "layers.py").write_text(_LAYERS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name == "fla" or name.startswith("fla.")]:
        monkeypatch.delitem(sys.modules, name)
    fla.target.cache_clear()
    yield
    fla.target.cache_clear()
    for name in ("fla", "fla.layers"):
        sys.modules.pop(name, None)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Triton and a GPU were there."""
    monkeypatch.setattr(fla, "_needed", lambda name: None)


@pytest.mark.parametrize("name", ["gated_linear_attention", "GatedLinearAttention", "gatedlinearattention"])
def test_a_layer_is_found_by_its_class_or_in_snake_case(package: None, gpu: None, name: str) -> None:
    assert not is_network(f"fla:{name}")
    assert canonical(f"fla:{name}", "module") == f"fla:{name}"
    target = locate(f"fla:{name}")
    assert (target.name, target.layout) == (f"fla:{name}", "bnc")


@pytest.mark.parametrize(
    ("name", "snake"),
    [("HGRN2Attention", "hgrn2_attention"), ("YOCOCrossAttention", "yoco_cross_attention"), ("DeltaNet", "delta_net")],
)
def test_class_names_in_snake_case(name: str, snake: str) -> None:
    assert fla._snake(name) == snake


def test_it_is_built_for_the_shape_without_its_warnings(package: None, gpu: None) -> None:
    case = Case("fla:delta_net", tokens=16, dim=64, heads=2, layout="bnc", params=(("expand_k", 0.25),))
    layer = build(case, "meta").module.layer
    assert (layer.heads, layer.query.in_features, layer.query.out_features) == (2, 64, 16)


def test_without_data_on_a_gpu_it_refuses_to_run(package: None, gpu: None) -> None:
    """Meta and fake tensors have no addresses: a kernel that takes theirs would write anywhere."""
    with pytest.raises(UnsupportedError, match="fla:delta_net runs kernels of Triton: it needs data on a GPU"):
        resolve(Case("fla:delta_net", tokens=16, dim=64, device="cpu"))


def test_its_first_output_is_the_hidden_states(package: None, gpu: None) -> None:
    module = build(Case("fla:delta_net", tokens=16, dim=64, layout="bnc"), "meta").module
    x = SimpleNamespace(is_cuda=True)
    assert module(x) is x


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("delta_nat", "fla has no module 'delta_nat'. Did you mean 'delta_net'?"),
        ("not_a_layer", "fla has no module 'not_a_layer'"),
        ("a_function", "fla has no module 'a_function'"),
    ],
)
def test_an_unknown_layer_is_refused_in_one_sentence(package: None, gpu: None, name: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        locate(f"fla:{name}")
    assert sentence in str(refusal.value)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.targets.providers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs fla, which is not installed: pip install 'attnbench\[fla\]'"):
        canonical("fla:delta_net", "module")


def test_without_triton_or_a_gpu_one_sentence_says_so(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fla, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="which need a GPU, and torch finds none here"):
        locate("fla:delta_net")
    monkeypatch.setattr(fla, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="Triton, which is not installed"):
        locate("fla:delta_net")


def test_a_package_that_breaks_is_said(tmp_path: Path, package: None, gpu: None) -> None:
    (tmp_path / "fla" / "layers.py").write_text("raise RuntimeError('no driver')")
    with pytest.raises(UsageError, match="fla does not import: RuntimeError: no driver"):
        locate("fla:delta_net")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["gated_linear_attention", "delta_net", "multi_scale_retention", "mamba2"])
def test_a_real_layer_runs_on_a_gpu(name: str) -> None:
    pytest.importorskip("fla")
    case = resolve(Case(f"fla:{name}", tokens=128, dim=256, heads=2, dtype="bf16", device="cuda"))
    assert build(case, "cuda").forward().shape == (1, 128, 256)
