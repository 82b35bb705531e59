"""Where an attention goes in a network of feature maps: one rule for each kind of host, and one for all others."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from attnbench.core.registry import Registry
from attnbench.metrics.subject import tensors_in
from attnbench.targets.hosts.maps import Sides, is_map
from attnbench.targets.hosts.watching import Call

__all__ = ["STAGES", "Host", "MapSizes", "stages_of"]

MapSizes = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Host:
    """A network, the calls of one forward of an image, and the sides of that image."""

    network: nn.Module
    calls: Sequence[Call]
    image: Sides

    def map_of(self, call: Call) -> MapSizes | None:
        """Channels, height and width of the map that the call gave, if it is one."""
        return self._map(call.output if isinstance(call.output, Tensor) else None)

    def map_into(self, call: Call) -> MapSizes | None:
        """The same of what it was called with."""
        return self._map(next(tensors_in([*call.args, *call.kwargs.values()]), None))

    def _map(self, tensor: Tensor | None) -> MapSizes | None:
        if tensor is None or not is_map(tuple(tensor.shape), self.image):
            return None
        return tensor.shape[1], tensor.shape[2], tensor.shape[3]

    def maps(self) -> dict[str, MapSizes]:
        """The maps by the dotted names of the modules that gave them, in order; without those of modules that have
        no parameters, and maps of a single position."""
        found = {call.name: self.map_of(call) for call in self.calls if call.name and _learns(call.module)}
        return {name: sizes for name, sizes in found.items() if sizes is not None and sizes[1] * sizes[2] > 1}


# A rule gives the dotted names of the modules that an attention goes behind; none where its kind of host is not there.
Rule = Callable[[Host], list[str]]
STAGES: Registry[Rule] = Registry("kind of host")


def stages_of(host: Host) -> list[str]:
    """The places by the first rule that knows the host."""
    return next((found for _, rule in STAGES.items() if (found := rule(host))), [])


@STAGES.register("a network that names its places")
def _named_by_itself(host: Host) -> list[str]:
    """By its own method `attention_sites`, which gives (parent, name of the child)."""
    offered = getattr(host.network, "attention_sites", None)
    if not callable(offered):
        return []
    children = {id(parent): path for path, parent in host.network.named_modules()}
    return [".".join(filter(None, (children[id(parent)], name))) for parent, name in offered()]


@STAGES.register("ResNet and its like")
def _layers(host: Host) -> list[str]:
    """layer1 to layer4, as in ResNet, DLA or RepVGG; timm's RegNet calls them s1 to s4, torchvision's block1 to 4."""
    return _siblings(host, r"(layer|s|block|stage|stages_|level)_?\d")


@STAGES.register("networks of stages")
def _stages(host: Host) -> list[str]:
    """ConvNeXt, NFNet, MetaFormer, transformers' ResNet: the members of `stages`."""
    return _siblings(host, r"stages\.\d+")


@STAGES.register("networks of features or blocks")
def _features(host: Host) -> list[str]:
    """VGG, DenseNet, EfficientNet, MobileNet: of the members of `features` or `blocks`, the last at each resolution."""
    maps = host.maps()
    last = {maps[name][1:]: name for name in _siblings(host, r"(features|blocks)\.\w+")}
    return list(last.values()) if len(last) > 1 else []


def _siblings(host: Host, pattern: str) -> list[str]:
    """The modules of maps whose dotted names end like that, the outermost: at least two of one parent."""
    whole = re.compile(rf"(.*\.)?{pattern}")
    names = [name for name in host.maps() if whole.fullmatch(name)]
    depth = min((name.count(".") for name in names), default=0)
    found = [name for name in names if name.count(".") == depth]
    return found if len(found) > 1 and len({name.rpartition(".")[0] for name in found}) == 1 else []


@STAGES.register("any other")
def _before_changes(host: Host) -> list[str]:
    """The last module with parameters before each change of the resolution, and before the end."""
    maps = host.maps()
    changes = list(_changes(host))
    places: dict[str, None] = {}
    for call, before, _ in changes:
        done = [each.name for each in host.calls[: call.began] if maps.get(each.name, (0,))[1:] == before]
        places |= dict.fromkeys(done[-1:])
    if changes:
        spanning = {call.name for call in host.calls if len(_resolutions(host, call)) > 2}
        end = [name for name, sizes in maps.items() if sizes[1:] == changes[-1][2] and name not in spanning]
        places |= dict.fromkeys(end[-1:])
    return list(places) if len(places) > 1 else []


def _changes(host: Host) -> Iterator[tuple[Call, Sides, Sides]]:
    """The outermost calls in which the resolution changes once, with the sides before and after."""
    taken: set[int] = set()
    for call in reversed(host.calls):  # a call returns after those within it
        before, after = host.map_into(call), host.map_of(call)
        if before and after and before[1:] != after[1:] and len(_resolutions(host, call)) == 2 and not _in(call, taken):
            taken.add(id(call))
    for call in host.calls:
        if id(call) in taken:
            before, after = host.map_into(call), host.map_of(call)
            assert before is not None and after is not None
            yield call, before[1:], after[1:]


def _in(call: Call, others: set[int]) -> bool:
    parent = call.parent
    while parent is not None:
        if id(parent) in others:
            return True
        parent = parent.parent
    return False


def _resolutions(host: Host, call: Call) -> set[Sides]:
    """Those of the maps that went into the call and came out of it and of all within it."""
    within = [each for each in host.calls if each is call or _in(each, {id(call)})]
    maps = [host.map_into(call), *(host.map_of(each) for each in within)]
    return {sizes[1:] for sizes in maps if sizes is not None}


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
