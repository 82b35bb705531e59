"""The only door from a Case to a Subject: finds the target, fills its constructor, and makes its inputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from attnbench.core.case import Case, Scalar
from attnbench.core.errors import CaseError, UnsupportedError, UsageError
from attnbench.core.record import Note
from attnbench.core.spec import Spec
from attnbench.metrics.subject import Expected, Subject, tensors_in
from attnbench.targets.construct import construct, default_heads, is_heads, variants
from attnbench.targets.fake import NEEDS_VALUES, fake_tensors
from attnbench.targets.insertion import insert, site_shapes
from attnbench.targets.layouts import LAYOUTS, Shape, make_inputs, over_map, plausible
from attnbench.targets.sources import Target, locate

__all__ = ["build", "resolve"]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_IMAGE_CHANNELS = 3
# Settings that begin with this go to the inserted attention, not to the network.
_INSERTED = "attn."


def build(case: Case, where: str) -> Subject:
    """The Subject of a resolved Case, its weights and inputs on `where`: `meta`, `fake` (inside a fake mode) or real.

    Raises:
        UnsupportedError: the module refuses this shape, dtype or device.
        UsageError: the target is not there.
    """
    device = {"meta": "meta", "fake": case.device}.get(where, where)
    target = locate(case.target)
    torch.manual_seed(case.seed)
    with torch.device(device):
        module, arguments = _network(case, target) if case.kind == "network" else _module(case, target)
        module = _cast(module, _DTYPES[case.dtype], where)
        inputs = make_inputs(module, case.layout, _shape(case), _DTYPES[case.dtype], device)
    module.train(case.mode == "fwd_bwd")
    if case.kind == "module" and case.mode == "fwd_bwd":
        # Inside a network an attention hands gradients on to the layer before it.
        inputs = tuple(value.requires_grad_() if isinstance(value, torch.Tensor) else value for value in inputs)
    return Subject(case, module, inputs, where, _expected(case, target, arguments), _claim(case, target),
                   (_built_note(case, target, arguments),))  # fmt: skip


def _cast(module: nn.Module, dtype: torch.dtype, where: str) -> nn.Module:
    """The module in that dtype. `Module.to` cannot replace fake parameters, so these are replaced one by one."""
    if where != "fake":
        return module.to(dtype)
    cast: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                new = cast.get(id(parameter)) or nn.Parameter(parameter.detach().to(dtype), parameter.requires_grad)
                cast[id(parameter)] = owner._parameters[name] = new
        for name, buffer in owner._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                owner._buffers[name] = buffer.to(dtype)
    return module


def _shape(case: Case) -> Shape:
    dim = _IMAGE_CHANNELS if case.kind == "network" else case.dim or 1
    tokens = case.tokens or (case.height or 1) * (case.width or 1)
    heads = case.heads or default_heads(dim)
    return Shape(case.batch_size, case.height, case.width, tokens, dim, heads)


def _settings(case: Case, inserted: bool) -> dict[str, Scalar]:
    """The user's `--set`: for the attention in a network when they begin with `attn.`, else for the target."""
    return {
        name.removeprefix(_INSERTED): value for name, value in case.params if name.startswith(_INSERTED) == inserted
    }


def _module(case: Case, target: Target) -> tuple[nn.Module, dict[str, Any]]:
    return _construct(target, _shape(case), _settings(case, inserted=False), case.heads is not None)


def _construct(
    target: Target, shape: Shape, settings: Mapping[str, Scalar], heads_given: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The module and the arguments it was built with: the first variant that its constructor takes."""
    refusal: UnsupportedError | None = None
    for arguments in variants(target.name, target.factory, shape, settings, heads_given):
        try:
            return construct(target.name, target.factory, arguments), arguments
        except UnsupportedError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _network(case: Case, target: Target) -> tuple[nn.Module, dict[str, Any]]:
    network, arguments = _module(case, target)
    if case.insert is None:
        return network, arguments
    attention = locate(case.insert)
    insert(network, [_attention_at(case, attention, shape) for shape in _inserted_shapes(case, target)])
    return network, arguments


def _attention_at(case: Case, attention: Target, shape: Shape) -> nn.Module:
    module, _ = _construct(attention, shape, _settings(case, inserted=True), case.heads is not None)
    layout = attention.spec.layout if attention.spec else _detect(attention, case, shape)
    return over_map(module, layout)


def _inserted_shapes(case: Case, target: Target) -> list[Shape]:
    """The shape of the feature map at each place of the network, from a forward on the meta device."""
    with torch.device("meta"):
        network, _ = _module(case, target)
        (image,) = make_inputs(network, "bchw", _shape(case), torch.float32, "meta")
        sites = site_shapes(network, image)
    return [
        Shape(case.batch_size, height, width, height * width, channels, case.heads or default_heads(channels))
        for channels, height, width in sites
    ]


def _expected(case: Case, target: Target, arguments: Mapping[str, Any]) -> Expected | None:
    """The formulas' figures, where the target and what is inserted have formulas."""
    if target.spec is None:
        return None
    total = _evaluate(target.spec, _shape(case), arguments)
    if case.insert is None:
        return total
    attention = locate(case.insert)
    if attention.spec is None:
        return None
    settings = _settings(case, inserted=True)
    parts = [total]
    for shape in _inserted_shapes(case, target):
        filled = next(variants(attention.name, attention.factory, shape, settings, case.heads is not None))
        parts.append(_evaluate(attention.spec, shape, filled))
    return Expected(sum(part.params for part in parts), sum(part.macs for part in parts))


def _evaluate(spec: Spec, shape: Shape, arguments: Mapping[str, Any]) -> Expected:
    symbols = spec.symbols(B=shape.batch, N=shape.tokens, H=shape.height, W=shape.width, C=shape.dim, **arguments)
    return Expected(spec.params(**symbols), spec.macs(**symbols))


def _claim(case: Case, target: Target) -> str | None:
    source = locate(case.insert) if case.insert else target
    return source.spec.complexity if source.spec else None


def _built_note(case: Case, target: Target, arguments: Mapping[str, Any]) -> Note:
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    inserted = f" with {case.insert} behind its attention sites" if case.insert else ""
    # Of a module that is not ours, people must see what was made of it.
    kind = "built" if target.spec else "built_own"
    return Note(kind, f"built as {target.name}({call}){inserted}, layout {case.layout}")


def resolve(case: Case) -> Case:
    """The Case with its layout found and its heads said, after one build and one forward on the meta device.

    Raises:
        UsageError: the target is not there, or an argument cannot be filled in.
        UnsupportedError: it can be built, but not run, at this shape.
    """
    target = locate(case.target)
    case = _with_heads(case, target)
    if case.kind == "network":
        case = case.with_(layout="bchw")
    elif target.spec is not None:
        if case.layout not in ("auto", target.spec.layout):
            raise UnsupportedError(f"{target.name} reads {target.spec.layout}, not {case.layout}")
        case = case.with_(layout=target.spec.layout)
    elif case.layout == "auto":
        case = case.with_(layout=_detect(target, case, _shape(case)))
    _try(case)
    return case


def _with_heads(case: Case, target: Target) -> Case:
    """Say the number of heads where the constructor is given one, and only there."""
    if case.kind == "network":
        return case
    settings = _settings(case, inserted=False)
    arguments = next(variants(target.name, target.factory, _shape(case), settings, case.heads is not None))
    return case.with_(heads=next((value for name, value in arguments.items() if is_heads(name)), None))


def _try(case: Case) -> None:
    """One forward without data: a shape that the module refuses is found before anything is measured.

    The meta device comes first, since it is fast; fake tensors forgive more (a constant on the CPU). What neither can
    run because it looks at values is left to the real device.
    """
    try:
        build(case, "meta").forward()
        return
    except (CaseError, UsageError):
        raise
    except Exception:  # foreign code; the second try below tells whether this matters
        pass
    try:
        with fake_tensors():
            build(case, "fake").forward()
    except NEEDS_VALUES:
        return
    except Exception as error:
        raise UnsupportedError(f"{case.name} does not run at {case.size}: {_first_line(error)}") from error


def _detect(target: Target, case: Case, shape: Shape) -> str:
    """The layout whose inputs the module takes, tried on the meta device; the one that keeps the shape is preferred.

    Raises:
        UnsupportedError: it takes none; the message says what it answered to each.
    """
    probe = _distinct(shape)
    scores, refusals = _scores(target, case, probe, "meta")
    if not scores and any("meta" in refusal for refusal in refusals):
        scores, refusals = _scores(target, case, probe, "cpu")
    best = max(scores.values(), default=0)
    if best == 0:
        raise UnsupportedError(f"{target.name} takes none of the layouts at {case.size}: " + "; ".join(refusals[:3]))
    return next(layout for layout, score in scores.items() if score == best)


def _scores(target: Target, case: Case, probe: Shape, device: str) -> tuple[dict[str, int], list[str]]:
    """How well each layout fits that the module runs with, and what it answers to the others."""
    settings = _settings(case, inserted=case.insert is not None)
    scores: dict[str, int] = {}
    refusals = []
    with torch.device(device), torch.no_grad():
        module, _ = _construct(target, probe, settings, case.heads is not None)
        for layout in LAYOUTS:
            try:
                inputs = make_inputs(module, layout, probe, torch.float32, device)
                output = next(tensors_in(module.eval()(*inputs)), None)
                scores[layout] = plausible(module, layout, inputs, output)
            except Exception as error:  # foreign code may refuse in any way
                refusals.append(f"{layout}: {_first_line(error)[:120]}")
    return scores, refusals


def _distinct(shape: Shape) -> Shape:
    """A shape like this one in which no two axes have the same size, so that a wrong layout cannot pass."""
    if shape.height is None or shape.width is None:
        tokens = shape.tokens if shape.tokens != shape.dim else 2 * shape.tokens
        return Shape(2, None, None, tokens, shape.dim, shape.heads)
    height, width = shape.height, shape.width
    while shape.dim in (height, width, height * width):
        height, width = 2 * height, 2 * width
    return Shape(2, height, width, height * width, shape.dim, shape.heads)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]
