"""Puts an attention into a network: behind which of its modules, and how it is initialised there."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from attnbench.core.errors import UnsupportedError
from attnbench.targets.hosts.patterns import chosen
from attnbench.targets.hosts.stages import Host, MapSizes, stages_of

__all__ = ["initialise", "insert", "places"]

# The name of the attention in the module that it stands behind.
INSERTED = "inserted"


def places(host: Host, patterns: Sequence[str], name: str) -> dict[str, MapSizes]:
    """The modules that an attention goes behind, and the sizes (C, H, W) of the maps it gets there.

    Raises:
        UsageError: a pattern matches no module.
        UnsupportedError: no rule finds a place, or what was named gives no map.
    """
    sizes = {call.name: host.map_of(call) for call in host.calls}
    called = [each for each, _ in host.network.named_modules() if each in sizes and each]
    names = chosen(called, patterns, name) if patterns else stages_of(host)
    if not names:
        raise UnsupportedError(f"{name} has no places for an attention: at {_text(host.image)} no rule for hosts finds "
                               "stages of feature maps (B, C, H, W); name places with --at")  # fmt: skip
    return {each: _sizes(host, each, sizes[each]) for each in names}


def _sizes(host: Host, name: str, found: MapSizes | None) -> MapSizes:
    if found is None:
        output = next(call.output for call in reversed(host.calls) if call.name == name)
        gives = "x".join(map(str, output.shape)) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UnsupportedError(f"no attention can stand behind {name}: it gives {gives}, which is no map (B, C, H, W)")
    return found


def _text(image: tuple[int, int]) -> str:
    return f"{image[0]}x{image[1]}"


def insert(network: nn.Module, attentions: Mapping[str, nn.Module]) -> None:
    """Put each attention behind the module of that dotted name.

    The module stays what it is, for whoever reads its attributes or loads its weights: it gets the attention as a
    further child, which a hook calls with what it gave. A container that would run it as one of its own, or trip over
    it, is wrapped; a plain `Sequential` runs it as its last.
    """
    for name, attention in attentions.items():
        initialise(attention)
        module = network.get_submodule(name)
        if type(module).forward is nn.Sequential.forward:
            module.append(attention)  # type: ignore[operator]
        elif isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            network.set_submodule(name, nn.Sequential(module, attention))
        else:
            module.add_module(INSERTED, attention)
            module.register_forward_hook(_behind)


def _behind(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    attended: Tensor = module.get_submodule(INSERTED)(output)
    return attended


def initialise(attention: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015) of the linear layers, as VGG's own layers have; biases are zero."""
    for module in attention.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
