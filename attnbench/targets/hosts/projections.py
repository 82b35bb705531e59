"""The projections of an attention (query, key, value, out), read and written under the names people give them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Kept", "Projection", "carry", "projections"]

_FUSED = "qkv to_qkv qkv_proj Wqkv c_attn in_proj query_key_value"
_KEYS_AND_VALUES = "kv to_kv kv_proj"
_SINGLE = {
    "query": "query q q_proj to_q q_lin query_proj wq Wq queries linear_q fc_q",
    "key": "key k k_proj to_k k_lin key_proj wk Wk keys linear_k fc_k",
    "value": "value v v_proj to_v v_lin value_proj wv Wv values linear_v fc_v",
    "out": "out proj out_proj o_proj to_out c_proj dense out_lin o merge wo Wo fc_o output_proj projection fc_out",
}
_PARTS = ("query", "key", "value")
# These lay the three parts out head by head.
_BY_HEAD = "query_key_value"


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x W^T + b: views of the weight (out, in) and of the bias, and the names of the parameters they lie in."""

    weight: Tensor
    bias: Tensor | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Which projections were carried over, and which parameters of the host were not."""

    parts: tuple[str, ...]
    left: tuple[str, ...]


def projections(module: nn.Module, heads: int = 0) -> dict[str, Projection]:
    """What is found in the module of `query`, `key`, `value` and `out`; nothing where its names tell nothing.

    `heads` tell apart what some lay out head by head.
    """
    found = _packed(module) if isinstance(module, nn.MultiheadAttention) else _fused(module, heads)
    for part, names in _SINGLE.items():
        single = next(_linear(module, names), None)
        if part not in found and single is not None:
            found[part] = single
    return found


def _packed(module: nn.MultiheadAttention) -> dict[str, Projection]:
    """Of torch's own module, whose projections are bare parameters."""
    bias = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.detach().chunk(3)
    if module.in_proj_weight is not None:
        names, weights = ("in_proj_weight",) * 3, module.in_proj_weight.detach().chunk(3)
    else:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        weights = tuple(getattr(module, name).detach() for name in names)
    return {
        part: Projection(weight, each, (name, "in_proj_bias"))
        for part, weight, each, name in zip(_PARTS, weights, bias, names, strict=True)
    }


def _fused(module: nn.Module, heads: int) -> dict[str, Projection]:
    """Of one layer that makes all three, or keys and values, one after the other."""
    for names, parts in ((_FUSED, _PARTS), (_KEYS_AND_VALUES, _PARTS[1:])):
        whole = next(_linear(module, names), None)
        if whole is not None and whole.weight.shape[0] % len(parts) == 0 and not _fewer_keys(module):
            by_head = heads if _lies_by_head(module, whole.names[0]) else 0
            weights = _split(whole.weight, len(parts), by_head)
            biases = [None] * len(parts) if whole.bias is None else _split(whole.bias, len(parts), by_head)
            apart = [_apart(module, part) for part in parts]
            return {
                part: Projection(weight, each if own is None else own[1], (*whole.names, *(own[:1] if own else ())))
                for part, weight, each, own in zip(parts, weights, biases, apart, strict=True)
            }
    return {}


def _lies_by_head(module: nn.Module, name: str) -> bool:
    return name.partition(".")[0] == _BY_HEAD or getattr(module, "head_first", False) is True


def _split(rows: Tensor, parts: int, heads: int) -> Sequence[Tensor]:
    """The rows of each part; where they lie head by head, a copy."""
    if not heads or rows.shape[0] % (heads * parts):
        return rows.chunk(parts)
    by_part = rows.reshape(heads, parts, -1, *rows.shape[1:]).unbind(1)  # of (heads, d) or (heads, d, in)
    return [each.flatten(0, 1) for each in by_part]


def _fewer_keys(module: nn.Module) -> bool:
    """Whether heads share keys and values, so that the parts of one layer are of different sizes."""
    groups = getattr(module, "num_key_value_groups", 1)
    return isinstance(groups, int) and groups > 1


def _apart(module: nn.Module, part: str) -> tuple[str, Tensor] | None:
    """A bias that is a parameter of its own beside the fused layer, as BEiT and EVA have it."""
    name = f"{part[0]}_bias"
    bias = getattr(module, name, None)
    return (name, bias.detach()) if isinstance(bias, Tensor) else None


def _linear(module: nn.Module, names: str) -> Iterator[Projection]:
    """The children of these names that are linear maps of the channels."""
    for name in names.split():
        child = getattr(module, name, None)
        if isinstance(child, nn.Sequential) and len(child):  # a projection and its dropout
            name, child = f"{name}.0", child[0]
        weight = _matrix(child)
        if isinstance(child, nn.Module) and weight is not None:
            bias: Any = child.bias
            yield Projection(weight, None if bias is None else bias.detach(), (f"{name}.weight", f"{name}.bias"))


def _matrix(layer: Any) -> Tensor | None:
    """(out, in) of a linear layer, a convolution of size 1, or transformers' Conv1D, which is a transposed one."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    if isinstance(layer, nn.Linear):
        return weight.detach()
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return weight.detach().flatten(1) if layer.groups == 1 and weight[0, 0].numel() == 1 else None
    return weight.detach().t() if type(layer).__name__ == "Conv1D" and weight.dim() == 2 else None


def carry(host: nn.Module, replacement: nn.Module, heads: int, out: Projection | None = None) -> Kept:
    """Copy the host's projections into the replacement's, where both have them in the same sizes.

    Query and key only together, since they mean something to each other alone. `out` stands for the host's output
    projection where the host has none itself.
    """
    ours, theirs = projections(host, heads), projections(replacement, heads)
    if out is not None:
        ours.setdefault("out", out)
    fitting = {part for part in ours.keys() & theirs.keys() if _fits(ours[part], theirs[part])}
    if not {"query", "key"} <= fitting:
        fitting -= {"query", "key"}
    for part in fitting:
        _copy(ours[part], theirs[part])
    carried = {name for part in fitting for name in ours[part].names}
    parameters = [name for name, _ in host.named_parameters()]
    return Kept(
        tuple(part for part in _SINGLE if part in fitting),
        tuple(dict.fromkeys(_top(name) for name in parameters if name not in carried)),
    )


def _fits(source: Projection, target: Projection) -> bool:
    """Without a bias to take it, the source's would be lost and the projection another."""
    return source.weight.shape == target.weight.shape and (source.bias is None or target.bias is not None)


def _copy(source: Projection, target: Projection) -> None:
    with torch.no_grad():
        target.weight.copy_(source.weight)
        if target.bias is not None:
            target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)


def _top(name: str) -> str:
    """`q_norm` of `q_norm.weight`: the layer says enough."""
    return name.removesuffix(".weight").removesuffix(".bias")


