"""A network as its Case wants it: watched once without data, its own attentions swapped, others inserted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from attnbench.core.case import INSERTED, SWAPPED, Case
from attnbench.core.errors import CaseError, UnsupportedError, UsageError, named
from attnbench.core.record import Note
from attnbench.targets.construct import default_heads
from attnbench.targets.hosts.attentions import attentions_in
from attnbench.targets.hosts.fitted import Maker
from attnbench.targets.hosts.insertion import insert, places
from attnbench.targets.hosts.stages import Host
from attnbench.targets.hosts.swapping import Found, swap
from attnbench.targets.hosts.watching import Call, watch
from attnbench.targets.layouts import Shape
from attnbench.targets.sources import locate

__all__ = ["Changed", "change", "own_attentions"]

# The plain network of a Case and the inputs of its forward, on the device of the context.
Plain = Callable[[], tuple[nn.Module, tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Changed:
    """What was put into a network: dotted names of the places, with the class that stood there or in front of it.

    `shapes` are those of the maps that inserted attentions get, `attentions` all that were put in.
    """

    swapped: Mapping[str, str] = field(default_factory=dict)
    inserted: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    notes: tuple[Note, ...] = ()
    attentions: tuple[nn.Module, ...] = ()


def change(network: nn.Module, case: Case, plain: Plain) -> Changed:
    """Put into the network what the Case says.

    Raises:
        UsageError: there is nothing to swap, or no place of that name.
        UnsupportedError: the attention cannot stand there.
    """
    notes: list[Note] = []
    put: list[nn.Module] = []
    swapped: dict[str, str] = {}
    if case.swap is not None:
        found = _attentions(case, plain).at(_patterns(case))
        notes += swap(network, found, _maker(case.swap, case.settings(SWAPPED), True), case.heads)
        swapped = {place.name: place.kind for place in found.places}
        put += [network.get_submodule(name) for name in swapped]
    shapes: dict[str, Shape] = {}
    inserted: dict[str, str] = {}
    if case.insert is not None:
        shapes = _inserted_shapes(case, plain)
        inserted = {name: type(network.get_submodule(name)).__name__ for name in shapes}
        maker = _maker(case.insert, case.settings(INSERTED), case.heads is not None)
        attentions = {name: maker.over_map(shape) for name, shape in shapes.items()}
        insert(network, attentions)
        put += attentions.values()
        notes.append(Note("inserted", f"{case.insert} stands behind {', '.join(inserted)}"))
    return Changed(swapped, inserted, tuple(shapes.values()), tuple(notes), tuple(put))


def own_attentions(network: nn.Module, case: Case, plain: Plain) -> list[nn.Module]:
    """The attentions of a network into which nothing was put: those that could be swapped."""
    return [network.get_submodule(place.name) for place in _attentions(case, plain).places]


def _maker(name: str, settings: Mapping[str, Any], heads_given: bool) -> Maker:
    return Maker(locate(name), settings, heads_given)


def _patterns(case: Case) -> list[str]:
    return case.at.split(",") if case.at else []


def _attentions(case: Case, plain: Plain) -> Found:
    network, calls = _watched(case, plain)
    image = None if case.height is None or case.width is None else (case.height, case.width)
    prefix = getattr(network, "num_prefix_tokens", 0)
    found, left = attentions_in(calls, image, prefix if isinstance(prefix, int) else 0)
    return Found(case.target, found, left)


def _inserted_shapes(case: Case, plain: Plain) -> dict[str, Shape]:
    """The places of the inserted attention by name, and the shape of the map at each."""
    if case.height is None or case.width is None:
        raise UnsupportedError(f"{case.target} reads tokens and has no feature maps: use --swap instead of --attn")
    network, calls = _watched(case, plain)
    found = places(Host(network, calls, (case.height, case.width)), _patterns(case), case.target)
    return {
        name: Shape(case.batch_size, height, width, height * width, channels, case.heads or default_heads(channels))
        for name, (channels, height, width) in found.items()
    }


def _watched(case: Case, plain: Plain) -> tuple[nn.Module, list[Call]]:
    """The plain network and the calls of one forward on the meta device, else with data.

    Raises:
        UnsupportedError: it runs with neither.
    """
    try:
        return _forward(plain, "meta")
    except UsageError:
        raise
    except Exception as error:  # foreign code
        first = error
    try:
        return _forward(plain, "cpu")
    except Exception as error:
        if isinstance(first, CaseError):
            raise first from error
        raise UnsupportedError(f"{case.target} does not run at {case.size}: {named(first)}") from error


def _forward(plain: Plain, device: str) -> tuple[nn.Module, list[Call]]:
    with unset_fake_temporarily(), torch.device(device):
        network, inputs = plain()
        return network, watch(network, inputs)
