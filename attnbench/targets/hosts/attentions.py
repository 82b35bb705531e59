"""Finds a network's own attentions, whatever their class: modules that multiply activations and keep their shape."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from attnbench.metrics.subject import tensors_in
from attnbench.targets.construct import default_heads
from attnbench.targets.hosts.maps import Sides, grid
from attnbench.targets.hosts.watching import Call

__all__ = ["Left", "Place", "attentions_in"]

_HEADS = ("num_heads", "heads", "n_heads", "n_head", "nhead", "num_attention_heads", "h")
_SIDES = ("window_size", "feat_size", "input_resolution", "fmap_size")
# The other sequence that a cross-attention looks at.
_OTHERS = ("key", "encoder_hidden_states", "key_value_states", "context", "memory", "kv", "cross_attention_states")
# What holds an attention and more besides: to put another in its place would take the rest away.
_MORE = re.compile(r"(Block|Layer|Stage|Encoder|Decoder|Model|Transformer|Net|Former|ViT)\w{0,3}$")
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Place:
    """An attention of the network's own: where it is, and what it sees.

    `layout` is that of its hidden states, `btnc` for tokens in groups (B, T, N, C) that are attended apart. Batch,
    tokens, sides, channels C and heads are what one of its calls saw, the first `prefix` tokens being outside of the
    map. `position` and `argument` say which argument of its forward the hidden states are, `extras` what it returns
    after them in a tuple: the sides of a map, and None for what is computed; it is None where the hidden states come
    alone. `ignored` names arguments that were more than a flag; `reach` is how far a query sees,
    where that is not all tokens.
    """

    name: str
    kind: str
    layout: str
    batch: int
    tokens: int
    sides: Sides | None
    prefix: int
    dim: int
    heads: int
    position: int
    argument: str
    extras: tuple[Any, ...] | None
    causal: bool
    ignored: tuple[str, ...]
    reach: int | None


@dataclass(frozen=True, slots=True)
class Left:
    """An attention that cannot be replaced, and why."""

    name: str
    kind: str
    why: str


def attentions_in(calls: Sequence[Call], image: Sides | None, prefix: int = 0) -> tuple[list[Place], list[Left]]:
    """The attentions among the calls of one forward, each module once, and those that have to stay.

    `image` are the sides of the network's input, if it is one; `prefix` is how many tokens it says are no patches.
    """
    found: dict[str, Place | Left] = {}
    for call in calls:
        if call.attends and call.name and call.name not in found:
            place = _place(call, image, prefix)
            if isinstance(place, Place) and (norm := _last_norm(call, calls)):
                place = Left(call.name, place.kind, f"it adds its input and ends in {norm}, which would be lost")
            if place is not None:
                found[call.name] = place
    places = [each for each in found.values() if isinstance(each, Place) and not _inside(each.name, found)]
    left = [each for each in found.values() if isinstance(each, Left)]
    taken = {place.name for place in places}
    return places, [each for each in left if not _inside(each.name, taken)]


def _inside(name: str, others: Any) -> bool:
    """Whether a place that can be replaced encloses this one."""
    outer = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    if isinstance(others, Mapping):
        return any(isinstance(others.get(each), Place) for each in outer)
    return any(each in others for each in outer)


def _place(call: Call, image: Sides | None, prefix: int) -> Place | Left | None:
    """What the call tells; None for one without parameters, whose caller is the attention."""
    if next(call.module.parameters(), None) is None:
        return None
    kind = type(call.module).__name__
    arguments = _bound(call)
    hidden = next(((name, value) for name, value in arguments.items() if isinstance(value, Tensor)), None)
    output = next(tensors_in(call.output), None)
    if hidden is None or output is None or hidden[1].shape != output.shape:
        return Left(call.name, kind, f"it makes {_sizes(output)} of {_sizes(hidden and hidden[1])}")
    name, x = hidden
    other = next((each for each in _OTHERS if isinstance(arguments.get(each), Tensor)), None)
    if other is not None and arguments[other] is not x and arguments.get("value", arguments[other]) is not x:
        return Left(call.name, kind, f"it attends from one sequence to another, {other!r}")
    if _MORE.search(kind) and ("Att" not in kind or "Block" in kind):
        return Left(call.name, kind, "there is more in it than an attention")
    if isinstance(arguments.get("residual"), Tensor):
        return Left(call.name, kind, "it adds the residual to what it makes, which would be lost")
    layout = _layout(call, x)
    if layout is None:
        return Left(call.name, kind, f"its hidden states, {_sizes(x)}, are neither tokens nor a map")
    return _seen(call, arguments, name, x, layout, image, prefix)


def _last_norm(call: Call, calls: Sequence[Call]) -> str | None:
    """The norm whose output is that of the module itself: it stands behind the residual sum, as in ALBERT."""
    output = next(tensors_in(call.output), None)
    inner = (each for each in calls if each.parent is call and each.output is output)
    return next((type(each.module).__name__ for each in inner if type(each.module).__name__.endswith("Norm")), None)


def _seen(
    call: Call, arguments: Mapping[str, Any], name: str, x: Tensor, layout: str, image: Sides | None, prefix: int
) -> Place:
    batch, tokens, dim, own = _axes(x, layout)
    sides, before = (own, 0) if own else _sides(call, arguments, tokens, image, prefix)
    heads = _heads(call, dim)
    return Place(
        call.name, type(call.module).__name__, layout, batch, tokens, sides, before, dim, heads,
        position=next((at for at, value in enumerate(call.args) if value is x), -1),
        argument=name,
        extras=_extras(call.output),
        causal=bool(call.first and call.first.causal) or getattr(call.module, "is_causal", False) is True,
        ignored=tuple(each for each, value in arguments.items() if value is not x and not _is_flag(value)),
        reach=_reach(call, dim, tokens),
    )  # fmt: skip


def _bound(call: Call) -> dict[str, Any]:
    """The arguments of the call by name, those that are caught by **kwargs by their own."""
    signature = inspect.signature(call.module.forward)
    bound = signature.bind(*call.args, **call.kwargs).arguments
    named: dict[str, Any] = {}
    for name, value in bound.items():
        caught = signature.parameters[name].kind
        if caught is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif caught is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}[{at}]": each for at, each in enumerate(value)}
        else:
            named[name] = value
    return named


def _extras(output: Any) -> tuple[Any, ...] | None:
    if not isinstance(output, tuple | list):
        return None
    return tuple(value if _is_flag(value) else None for value in output[1:])


def _is_flag(value: Any) -> bool:
    """Whether it holds nothing that an attention would have to look at: a switch, or the sides of the map."""
    if isinstance(value, tuple | list):
        return all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, _PLAIN)


def _layout(call: Call, x: Tensor) -> str | None:
    if x.dim() == 3:
        return "nbc" if getattr(call.module, "batch_first", True) is False else "bnc"
    if x.dim() != 4:
        return None
    inner = list(call.module.modules())
    if any(isinstance(each, nn.Linear) and each.in_features == x.shape[-1] for each in inner):
        length = call.first.sizes[-2] if call.first and len(call.first.sizes) >= 2 else 0
        apart = length == x.shape[2] and x.shape[1] > 1 and call.first is not None and len(call.first.sizes) > 4
        return "btnc" if apart else "bhwc"
    channels = {getattr(each, "in_channels", getattr(each, "in_features", None)) for each in inner}
    return "bchw" if x.shape[1] in channels else None


def _axes(x: Tensor, layout: str) -> tuple[int, int, int, Sides | None]:
    """Batch, tokens, channels, and the sides where the hidden states are a map."""
    sizes = tuple(x.shape)
    match layout:
        case "nbc":
            return sizes[1], sizes[0], sizes[2], None
        case "bhwc":
            return sizes[0], sizes[1] * sizes[2], sizes[3], (sizes[1], sizes[2])
        case "bchw":
            return sizes[0], sizes[2] * sizes[3], sizes[1], (sizes[2], sizes[3])
        case "btnc":
            return sizes[0] * sizes[1], sizes[2], sizes[3], None
    return sizes[0], sizes[1], sizes[2], None


def _sides(
    call: Call, arguments: Mapping[str, Any], tokens: int, image: Sides | None, prefix: int
) -> tuple[Sides | None, int]:
    """The sides of the map that the tokens are, as its arguments or the module say them, else the image's."""
    said = [*arguments.values(), *(getattr(call.module, each, None) for each in _SIDES)]
    numbers = [value for value in arguments.values() if isinstance(value, int) and not isinstance(value, bool)]
    for pair in (*said, *pairwise(numbers)):
        if isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(side, int) for side in pair):
            height, width = pair
            if height * width == tokens:
                return (height, width), 0
    found = grid(tokens, image, prefix) if image else None
    return found or (None, 0)


def _heads(call: Call, dim: int) -> int:
    """As the module says, else as its first product shows: (B, heads, N, d); else by its channels."""
    config = getattr(call.module, "config", None)
    said = next(_integers([call.module, config], _HEADS), None)
    if said is not None and said > 0 and dim % said == 0:
        return said
    sizes = call.first.sizes if call.first else ()
    if len(sizes) >= 4 and sizes[-3] * sizes[-1] == dim:
        return sizes[-3]
    return default_heads(dim)


def _integers(owners: Sequence[Any], names: Sequence[str]) -> Iterator[int]:
    for owner in owners:
        for name in names:
            value = getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                yield value


def _reach(call: Call, dim: int, tokens: int) -> int | None:
    """Over how many tokens each query looks, where the first product shows that these are groups of all."""
    sizes = call.first.sizes if call.first else ()
    if len(sizes) < 4 or sizes[-3] * sizes[-1] != dim:
        return None
    return sizes[-2] if sizes[-2] < tokens and tokens % sizes[-2] == 0 else None


def _sizes(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else "x".join(map(str, tensor.shape))
