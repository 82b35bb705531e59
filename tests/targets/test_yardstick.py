"""Yardsticks: what they are, that they run wherever a case does, and that not a letter of them has changed."""

import hashlib
import inspect
import math

import pytest
import torch
from torch.nn import functional

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.metrics.subject import tensors_in
from attnbench.targets.build import build
from attnbench.targets.names import canonical
from attnbench.targets.providers.yardstick import YARDSTICKS, target
from attnbench.targets.resolve import resolve

# Ratios in the files of others were taken against this very code. If this test fails, put the class back as it was, and
# give the new one a name and a version of its own.
FROZEN = {"softmax-1": "763dd72ead44593a", "linear-1": "24c707ecb459e980"}


@pytest.mark.parametrize("name", YARDSTICKS)
def test_a_version_of_a_yardstick_never_changes(name: str) -> None:
    source = inspect.getsource(YARDSTICKS[name])
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == FROZEN[name]


def test_the_softmax_yardstick_is_attention() -> None:
    torch.manual_seed(0)
    module, x = YARDSTICKS["softmax-1"](dim=8), torch.randn(2, 6, 8)
    query, key, value = module.query_key_value(x).chunk(3, dim=-1)
    assert torch.allclose(module(x), module.out(functional.scaled_dot_product_attention(query, key, value)), atol=1e-6)


def test_the_linear_yardstick_is_attention_without_a_softmax() -> None:
    torch.manual_seed(0)
    module, x = YARDSTICKS["linear-1"](dim=8), torch.randn(2, 6, 8)
    query, key, value = module.query_key_value(module.widen(x)).chunk(3, dim=-1)
    weights = functional.relu(query) @ functional.relu(key).transpose(-2, -1) / 6
    assert torch.allclose(module(x), module.out(weights @ value), atol=1e-6)


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd", "train"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", YARDSTICKS)
def test_it_runs_in_each_mode_and_dtype(name: str, dtype: str, mode: str) -> None:
    case = resolve(Case(f"yardstick:{name}", batch_size=2, tokens=32, dim=32, dtype=dtype, mode=mode))
    assert case.layout == "bnc"
    subject = build(case, "cpu")
    outputs = list(tensors_in(subject.step()))
    assert [tuple(each.shape) for each in outputs] == [(2, 32, 32)]
    assert all(math.isfinite(float(each.detach().float().sum())) for each in outputs)


def test_another_version_is_no_yardstick() -> None:
    assert canonical("yardstick:softmax-1", "module") == "yardstick:softmax-1"
    with pytest.raises(UsageError, match="no module 'softmax-0'"):
        target("softmax-0")
