"""Puts an attention in the place of a network's own ones, and says what that did and did not keep."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.core.record import Note
from attnbench.targets.hosts.attentions import Left, Place
from attnbench.targets.hosts.fitted import Maker
from attnbench.targets.hosts.patterns import chosen
from attnbench.targets.hosts.projections import Kept, carry, projections
from attnbench.targets.hosts.swapped import Swapped
from attnbench.targets.layouts import Shape, inner

__all__ = ["Found", "swap"]


@dataclass(frozen=True, slots=True)
class Found:
    """The attentions of a network of that name that can be replaced, and those that cannot."""

    network: str
    places: Sequence[Place]
    left: Sequence[Left]

    def at(self, patterns: Sequence[str]) -> "Found":
        """Those that a pattern names, or the whole of them where there is no pattern.

        Raises:
            UsageError: there is no attention, or none that can be replaced, or a pattern names none.
        """
        if not self.places:
            raise UsageError(f"{self.network} has no attention that could be swapped. {self._why()}")
        if not patterns:
            return self
        names = chosen([place.name for place in self.places], patterns, self.network, inside=True)
        return Found(self.network, [place for place in self.places if place.name in names], self.left)

    def _why(self) -> str:
        if self.left:
            return "; ".join(_stays(self.left))
        return ("Looked for in one forward: torch.nn.MultiheadAttention, calls of scaled_dot_product_attention, and "
                "modules that multiply activations with each other; there are none.")  # fmt: skip


def swap(network: nn.Module, found: Found, maker: Maker, heads: int | None) -> list[Note]:
    """Replace the attentions found by new ones, with the weights that both have; notes on what that means.

    `heads` are the user's, if she asked for a number, else each host's own.

    Raises:
        UnsupportedError: the attention cannot be built for a place, or reads a map where there is none.
    """
    kept: list[Kept] = []
    over_maps = False
    for place in found.places:
        host = network.get_submodule(place.name)
        attention, over = _made(place, maker, heads)
        kept.append(_carried(network, place, host, attention))
        network.set_submodule(place.name, Swapped(attention, place, host, over))
        over_maps = over_maps or (over is not None and place.prefix > 0)
    for module in network.modules():
        if isinstance(module, nn.TransformerEncoder):  # else it hands nested tensors to what it believes is torch's own
            module.use_nested_tensor = False
    return list(_notes(found, maker, kept, over_maps))


def _made(place: Place, maker: Maker, heads: int | None) -> tuple[nn.Module, tuple[int, int] | None]:
    """The attention for a place, and the sides of the map where it is one over maps."""
    maker = maker.with_(causal=True) if place.causal and maker.has("causal") else maker
    height, width = place.sides or (None, None)
    shape = Shape(place.batch, height, width, place.tokens - place.prefix, place.dim, heads or place.heads)
    whole = Shape(place.batch, None, None, place.tokens, place.dim, heads or place.heads)
    if maker.reads_maps(shape):
        return _over_map(place, maker, shape), place.sides
    try:
        return maker.over_tokens(whole), None
    except UnsupportedError:
        if place.sides is None:
            raise
        return maker.over_map(shape), place.sides  # it asks for the sides of a map


def _over_map(place: Place, maker: Maker, shape: Shape) -> nn.Module:
    if place.sides is None:
        raise UnsupportedError(f"{maker.attention.name} reads feature maps, and the {place.tokens} tokens of "
                               f"{place.name} ({place.kind}) are none, with or without tokens before them")  # fmt: skip
    return maker.over_map(shape)


def _carried(network: nn.Module, place: Place, host: nn.Module, attention: nn.Module) -> Kept:
    """Carry the weights; an output projection that stands behind the host's own module moves into the attention."""
    behind = _behind(network, place, host)
    outside = None if behind is None else projections(behind).get("out")
    kept = carry(host, inner(attention), place.heads, outside)
    if behind is not None and "out" in kept.parts:
        behind.dense = nn.Identity()  # it is in the attention now, and would be counted twice
    return kept


def _behind(network: nn.Module, place: Place, host: nn.Module) -> nn.Module | None:
    """As in BERT: the module `output` beside it holds `dense`, its output projection."""
    beside = network.get_submodule(place.name.rpartition(".")[0])
    output = getattr(beside, "output", None)
    is_there = isinstance(output, nn.Module) and isinstance(getattr(output, "dense", None), nn.Linear)
    return output if is_there and "out" not in projections(host) else None


def _notes(found: Found, maker: Maker, kept: Sequence[Kept], apart: bool) -> Iterator[Note]:
    places, name = found.places, maker.attention.name
    yield Note("swapped", f"{name} stands in the place of {_count(len(places), 'attention')}: {_where(places)}")
    every = [part for part in ("query", "key", "value", "out") if all(part in each.parts for each in kept)]
    some = f"the weights of {', '.join(every)} are the network's own" if every else "no weight is the network's own"
    left = dict.fromkeys(name for each in kept for name in each.left)
    yield Note("weights", some + (f"; left behind are {', '.join(left)}" if left else ""))
    ignored = dict.fromkeys(name for place in places for name in place.ignored)
    if ignored:
        own = "; it is causal by itself" if _is_causal(maker) and any(place.causal for place in places) else ""
        yield Note("ignored", f"{name} is not handed what the network's attention is: {', '.join(ignored)}{own}")
    if apart:
        counts = sorted({place.prefix for place in places if place.prefix})
        first = " or ".join(map(str, counts))
        yield Note("prefix", f"the first {first} token(s), of a class or registers, pass by {name}, which sees the map")
    yield from _doubts(found, maker)


def _doubts(found: Found, maker: Maker) -> Iterator[Note]:
    """Where the new attention does not do the same as the network's, and the figures compare two things."""
    name = maker.attention.name
    causal = [place for place in found.places if place.causal]
    if causal and not _is_causal(maker):
        yield Note("not_causal", f"the network's attention is causal, and {name} looks ahead")
    if _always_causal(maker) and len(causal) < len(found.places):
        yield Note("causal", f"{name} is causal, and the network's attention is not")
    near = [place for place in found.places if place.reach]
    if near:
        place = near[0]
        yield Note("reach", f"the network's attention looks at {place.reach} of {place.tokens} tokens at a time "
                            f"({place.name}); {name} gets them all")  # fmt: skip
    if found.left:
        yield Note("left", "; ".join(_stays(found.left)))


def _is_causal(maker: Maker) -> bool:
    """Whether it is causal where the network's attention is."""
    return _always_causal(maker) or (maker.has("causal") and maker.settings.get("causal", True) is not False)


def _always_causal(maker: Maker) -> bool:
    spec = maker.attention.spec
    return maker.settings.get("causal") is True or (spec is not None and spec.causal == "always")


def _stays(left: Iterable[Left]) -> list[str]:
    """One text for each reason: `2 ClassAttn left as found (token.0.attn ... token.1.attn): ...`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in left:
        groups.setdefault((each.kind, each.why), []).append(each.name)
    return [f"{len(names)} {kind} left as found ({_ends(names)}): {why}" for (kind, why), names in groups.items()]


def _where(places: Sequence[Place]) -> str:
    """`12 Attention (blocks.0.attn ... blocks.11.attn)`."""
    counts = Counter(place.kind for place in places)
    texts = []
    for kind, count in counts.items():
        names = [place.name for place in places if place.kind == kind]
        texts.append(f"{count} {kind} ({_ends(names)})")
    return ", ".join(texts)


def _ends(names: Sequence[str]) -> str:
    return " ... ".join(dict.fromkeys((names[0], names[-1])))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
