"""The only door from a Case to a Subject: finds the target, fills its constructor, and makes its inputs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from attnbench.core.case import INSERTED, SWAPPED, Case, Scalar
from attnbench.core.errors import UnsupportedError
from attnbench.core.record import Note
from attnbench.core.spec import Spec
from attnbench.metrics.subject import Expected, Subject
from attnbench.targets.construct import construct, default_heads, variants
from attnbench.targets.fake import fake_device, numbers_on_the_cpu
from attnbench.targets.hosts.hosted import Changed, change, own_attentions
from attnbench.targets.layouts import Shape, make_inputs
from attnbench.targets.sources import Target, locate

__all__ = ["build", "settings_of", "shape_of"]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_IMAGE_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class _Built:
    """The module, the arguments it was built with, and what was put into it."""

    module: nn.Module
    arguments: dict[str, Any]
    changed: Changed = field(default_factory=Changed)


def build(case: Case, where: str) -> Subject:
    """The Subject of a resolved Case, its weights and inputs on `where`: `meta`, `fake` (inside a fake mode) or real.

    Raises:
        UnsupportedError: the module refuses this shape, dtype or device.
        UsageError: the target is not there.
    """
    device = {"meta": "meta", "fake": fake_device(case.device)}.get(where, where)
    target = locate(case.target)
    torch.manual_seed(case.seed)
    built = _constructed(case, target, where, device)
    with torch.device(device):
        module = _cast(built.module, _DTYPES[case.dtype], where)
        inputs = make_inputs(module, case.layout, shape_of(case), _DTYPES[case.dtype], device)
    module.train(case.differentiates)
    if case.kind == "module" and case.differentiates:
        # Inside a network an attention hands gradients on to the layer before it.
        inputs = tuple(value.requires_grad_() if isinstance(value, torch.Tensor) else value for value in inputs)
    return Subject(case, module, inputs, where, _expected(case, target, built), _claim(case, target),
                   (_built_note(case, target, built.arguments), *built.changed.notes), _optimizer(case, module),
                   attentions=partial(_attentions, case, target, built), swapped=built.changed.swapped,
                   inserted=built.changed.inserted)  # fmt: skip


def _constructed(case: Case, target: Target, where: str, device: str) -> _Built:
    """The module on that device, and what is known of how it was built.

    A constructor that reads a number off a tensor cannot run without data: it is run on the meta device, where what it
    makes on the CPU by name has values, or with its ranges of numbers on the CPU too; its weights are made fake, or
    moved, afterwards.
    """
    make = _network if case.kind == "network" else _module
    try:
        with torch.device(device):
            return make(case, target)
    except UnsupportedError as error:
        if where not in ("fake", "meta"):
            raise
        refusal = error
    for numbers in (nullcontext, numbers_on_the_cpu):
        with unset_fake_temporarily(), torch.device("meta"), numbers(), suppress(UnsupportedError):
            built = make(case, target)
            break
    else:
        raise refusal

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    _with_weights(built.module, fake)
    return built


def _cast(module: nn.Module, dtype: torch.dtype, where: str) -> nn.Module:
    """The module in that dtype, but for integers and complex numbers, which `Module.to` would make real.

    Nor can a module replace fake parameters by itself: these are replaced one by one.
    """
    if where != "fake":
        return {torch.float32: module.float, torch.bfloat16: module.bfloat16, torch.float16: module.half}[dtype]()
    return _with_weights(module, lambda tensor: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor)


def _with_weights(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """The module with each parameter and buffer replaced by what `change` makes of it; what is shared stays shared."""
    changed: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) not in changed:
                changed[id(parameter)] = nn.Parameter(change(parameter), parameter.requires_grad)
            setattr(owner, name, changed[id(parameter)])  # a recurrent layer keeps a list of them besides
        for name, buffer in list(owner.named_buffers(recurse=False)):
            owner._buffers[name] = change(buffer)
    return module


def _optimizer(case: Case, module: nn.Module) -> torch.optim.Optimizer | None:
    """AdamW (Loshchilov and Hutter 2019) in mode `train`: with a learning rate of zero it does all of its arithmetic
    and changes no weight, so that the thousandth step does what the first did."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if case.mode != "train":
        return None
    if not parameters:
        raise UnsupportedError(f"{case.name} has no parameters to train; use --mode fwd_bwd")
    cuda = case.device.startswith("cuda")
    # What torch chooses on each device, said aloud: fake tensors of a device that is not here are on the CPU.
    return torch.optim.AdamW(parameters, lr=0.0, foreach=cuda, capturable=cuda and case.engine == "cudagraph")


def shape_of(case: Case) -> Shape:
    """The sizes that a constructor and the inputs are made from; a network's channels are those of an image."""
    dim = _IMAGE_CHANNELS if case.kind == "network" else case.dim or 1
    tokens = case.tokens or (case.height or 1) * (case.width or 1)
    heads = case.heads or default_heads(dim)
    return Shape(case.batch_size, case.height, case.width, tokens, dim, heads)


def settings_of(case: Case, inserted: bool) -> dict[str, Scalar]:
    """The user's `--set`: for the inserted attention when they begin with `attn.`, else for the target; those for a
    swapped one begin with `swap.`."""
    if inserted:
        return case.settings(INSERTED)
    return {name: value for name, value in case.params if not name.startswith((INSERTED, SWAPPED))}


def _module(case: Case, target: Target) -> _Built:
    settings = settings_of(case, inserted=False)
    return _Built(*construct(target.name, target.factory, shape_of(case), settings, case.heads is not None))


def _network(case: Case, target: Target) -> _Built:
    built = _module(case, target)
    changed = change(built.module, case, lambda: _plain(case, target))
    return _Built(built.module, built.arguments, changed)


def _attentions(case: Case, target: Target, built: _Built) -> Sequence[nn.Module]:
    """Those that were put into a network, or else its own."""
    return built.changed.attentions or own_attentions(built.module, case, lambda: _plain(case, target))


def _plain(case: Case, target: Target) -> tuple[nn.Module, tuple[Any, ...]]:
    """The network with nothing put into it, and inputs, on the device of the context."""
    network = _module(case, target).module
    device = str(torch.get_default_device())
    return network, make_inputs(network, case.layout, shape_of(case), torch.float32, device)


def _expected(case: Case, target: Target, built: _Built) -> Expected | None:
    """The formulas' figures, where the target and what is inserted have formulas."""
    if target.spec is None or case.swap is not None:
        return None
    total = _evaluate(target.spec, shape_of(case), built.arguments)
    if case.insert is None:
        return total
    attention = locate(case.insert)
    if attention.spec is None:
        return None
    settings = settings_of(case, inserted=True)
    parts = [total]
    for shape in built.changed.shapes:
        filled = next(variants(attention.name, attention.factory, shape, settings, case.heads is not None))
        parts.append(_evaluate(attention.spec, shape, filled))
    return Expected(sum(part.params for part in parts), sum(part.macs for part in parts))


def _evaluate(spec: Spec, shape: Shape, arguments: Mapping[str, Any]) -> Expected:
    symbols = spec.symbols(B=shape.batch, N=shape.tokens, H=shape.height, W=shape.width, C=shape.dim, **arguments)
    return Expected(spec.params(**symbols), spec.macs(**symbols))


def _claim(case: Case, target: Target) -> str | None:
    put = case.insert or case.swap
    source = locate(put) if put else target
    return source.spec.complexity if source.spec else None


def _built_note(case: Case, target: Target, arguments: Mapping[str, Any]) -> Note:
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    # Of a module that is the user's, people must see what was made of it.
    kind = "built" if target.spec or target.layout else "built_own"
    return Note(kind, f"built as {target.name}({call}), layout {case.layout}")
