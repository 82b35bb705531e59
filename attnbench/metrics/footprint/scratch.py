"""What a CPU kernel takes beside its outputs: seen in one call alone, or carried on from smaller calls of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from attnbench.core.polynomial import fit_exact
from attnbench.metrics.footprint.alone import LARGE, SMALL, TINY, Budget, Scratch, alone
from attnbench.metrics.footprint.calls import Call
from attnbench.metrics.footprint.shrunk import Axis, axes, one_head

__all__ = ["scratch_of"]

_POINTS = 5
# So many axes, from the longest, are tried one by one.
_TRIED = 3
# Operators of torch's own loops, which write where they read: they take nothing while no type is promoted. (Of a number
# beside the tensors they make a tensor: a dozen bytes, which count where the call is small and is made.)
_PLAIN = frozenset({
    "add", "sub", "rsub", "mul", "div", "neg", "abs", "exp", "exp2", "log", "sqrt", "rsqrt", "reciprocal", "pow", "sin",
    "cos", "tanh", "sigmoid", "relu", "elu", "gelu", "silu", "leaky_relu", "hardtanh", "softplus", "clamp", "clamp_min",
    "clamp_max", "where", "maximum", "minimum", "add_", "sub_", "mul_", "div_", "relu_", "copy_", "fill_", "zero_",
    "tanh_backward", "sigmoid_backward", "threshold_backward", "silu_backward", "elu_backward",
    "clone", "ones_like", "zeros_like", "empty_like", "full_like", "new_zeros", "new_empty", "zeros", "empty", "full",
    "cat", "stack", "amax", "amin", "mm", "bmm", "addmm", "bernoulli_",
    "native_group_norm", "sum", "mean", "cumsum", "masked_fill", "masked_fill_",
})  # fmt: skip

_FLASH = "aten._scaled_dot_product_flash_attention_for_cpu"


def scratch_of(call: Call) -> Scratch | None:
    """What the call takes on this machine's CPU; None where it cannot be known without making it.

    A small call is made, on zeros. A larger one is made at a few smaller sizes: an exact polynomial through them that
    spare points confirm tells the rest.
    """
    with unset_fake_temporarily(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        return _scratch(call, torch.get_num_threads())


@lru_cache(maxsize=10_000)
def _scratch(call: Call, threads: int) -> Scratch | None:
    """`threads` is there for the cache: many kernels take a buffer for each thread."""
    if SMALL.covers(call):
        return _alone(call)
    if _is_plain(call):
        return Scratch(0)
    if call.name.startswith(_FLASH):
        return _flash(call)
    # A convolution of few elements runs in another library than a larger one, which therefore tells nothing.
    for budget in (SMALL, LARGE) if "convolution" in call.name else (TINY, SMALL, LARGE):
        found = _alone(call) if budget.covers(call) else _carried_on(call, budget)
        if found is not None:
            return found
    return None


def _alone(call: Call) -> Scratch | None:
    return _seen(call, torch.get_num_threads())


@lru_cache(maxsize=10_000)
def _seen(call: Call, threads: int) -> Scratch | None:
    """Larger calls of one kind are told by the same small ones."""
    return alone(call)


def _carried_on(call: Call, budget: Budget) -> Scratch | None:
    """Scratch at the call's own size, from calls that are shorter along one axis, or else along two."""
    lengths = list(axes(call))
    laws = (_law(axis, budget.covers, _alone) for axis in lengths[:_TRIED])
    found = next((law for law in laws if law is not None), None)
    if found is None and len(lengths) > 1:
        found = _law(
            lengths[0],
            lambda small: bool(_second(small).lengths(_POINTS, budget.covers)),
            lambda small: _inner(small, budget),
        )
    return found


def _inner(call: Call, budget: Budget) -> Scratch | None:
    return _alone(call) if budget.covers(call) else _law(_second(call), budget.covers, _alone)


def _second(call: Call) -> Axis:
    return list(axes(call))[1]


def _law(axis: Axis, fits: Callable[[Call], bool], measure: Callable[[Call], Scratch | None]) -> Scratch | None:
    """The polynomial through smaller lengths of the axis, at its own length."""
    points, guessed = [], axis.fickle
    for length in axis.lengths(_POINTS, fits):
        found = measure(axis.at(length))
        if found is None:
            return None
        points.append((length, found.taken))
        guessed |= found.guessed
    law = fit_exact(points)
    return None if law is None or (axis.grows and law.degree == 0) else Scratch(int(law(axis.length)), guessed=guessed)


def _is_plain(call: Call) -> bool:
    return call.name.removeprefix("aten.") in _PLAIN and {each.dtype for each in call.tensors} <= {torch.float32}


def _flash(call: Call) -> Scratch | None:
    """Flash attention takes its blocks for each thread, whatever the batch and the heads: one head tells them.

    Its backward besides makes the incoming gradient contiguous in the order (batch, tokens, heads, channels).
    """
    first = call.arguments[0]
    found = _alone(replace(call, arguments=one_head(call.arguments), options=one_head(call.options)))
    if found is None or not call.name.endswith("backward"):
        return found
    copied = not first.zeros("meta").transpose(1, 2).is_contiguous()
    return Scratch(found.taken + copied * first.bytes)
