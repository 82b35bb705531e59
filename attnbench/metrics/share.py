"""What the attentions of a network take alone: how much of its step they can be, and so what a faster one can gain.

A network in which attention takes the share s becomes 1 / (1 - s + s / a) times as fast by an attention that is a
times as fast (Amdahl 1967), and never more than 1 / (1 - s) times.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from attnbench.core.errors import AttnbenchError, named
from attnbench.core.record import Note, Reading
from attnbench.core.stats import Estimate
from attnbench.metrics.latency import time_of
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject, tensors_in

__all__ = ["measure_share"]

_FIELDS = "attention.places, attention.alone_ms, attention.alone_low_ms, attention.alone_high_ms, attention.share"
_METHOD = ("attention.alone_ms: {kinds} different of the network's {places} attentions, each alone with what it is "
           "given in a step, one after the other, caches warm; times how often each stands there")  # fmt: skip


@dataclass(slots=True)
class _Alone:
    """One attention, what a forward of the network hands it, and at how many places another like it gets the same."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    places: int = 1


@metric(name="share", on="device", needs=("latency",),
        fields=("attention.places", "attention.alone_ms", "attention.alone_low_ms", "attention.alone_high_ms",
                "attention.share"))  # fmt: skip
def measure_share(subject: Subject, options: Options) -> Iterator[Finding]:
    """The time of a network's attentions alone, and their share of its step."""
    if (why := _unfit(subject)) is not None:
        yield Note("not_measured", f"{_FIELDS}: {why}")
        return
    try:
        attentions = subject.attentions()
        found = _handed(subject, attentions)
        if not found:
            yield Note("not_measured", f"{_FIELDS}: no attention of the network's was found")
            return
        each = replace(options, max_time=options.max_time / len(found))
        times = [time_of(_subject(subject, alone), each).estimate for alone in found]
    except AttnbenchError as error:
        yield Note("not_measured", f"{_FIELDS}: {error}")
        return
    except Exception as error:  # foreign code that does not run apart from its network
        yield Note("not_measured", f"{_FIELDS}: an attention does not run alone ({named(error)})")
        return
    yield from _readings(subject, found, times)


def _unfit(subject: Subject) -> str | None:
    case = subject.case
    if case.kind != "network":
        return "a module is alone"
    if case.mode not in ("fwd", "fwd_bwd"):
        return f"mode {case.mode} has no step that an attention alone could run"
    if case.engine != "eager":
        return f"with --engine {case.engine} the parts of a network are not run one by one"
    return None


def _handed(subject: Subject, attentions: Sequence[nn.Module]) -> list[_Alone]:
    """The attentions that differ in weights or inputs, with what one forward hands them."""
    found: dict[Any, _Alone] = {}

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kind = (type(module), _shapes(list(module.parameters())), _shapes([args, kwargs]))
        if kind in found:
            found[kind].places += 1
        else:
            found[kind] = _Alone(module, _kept(args), _kept(kwargs))

    hooks = [each.register_forward_pre_hook(see, with_kwargs=True) for each in attentions]
    try:
        subject.forward()
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def _shapes(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors_in(values))


def _kept(value: Any) -> Any:
    """A copy that the rest of the forward cannot change; without a history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items()}
    return type(value)(map(_kept, value)) if type(value) in (tuple, list) else value


class _Called(nn.Module):
    """An attention with its keyword arguments in place."""

    def __init__(self, alone: _Alone) -> None:
        super().__init__()
        self.attention = alone.module
        self._call = partial(alone.module, **alone.kwargs)

    def forward(self, *args: Any) -> Any:
        return self._call(*args)


def _subject(subject: Subject, alone: _Alone) -> Subject:
    """The attention as a Subject of its own, run in the network's mode: with a backward it hands gradients on."""
    args = alone.args
    if subject.case.differentiates:
        args = tuple(x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)
    called = _Called(alone).train(subject.module.training)
    return Subject(subject.case, called, args, subject.where)


def _readings(subject: Subject, found: Sequence[_Alone], times: Sequence[Estimate]) -> Iterator[Finding]:
    total, low, high = (
        sum(alone.places * getattr(time, end) for alone, time in zip(found, times, strict=True))
        for end in ("median", "low", "high")
    )
    places = sum(alone.places for alone in found)
    yield Reading("attention.places", places, "count")
    yield Reading("attention.alone_ms", total, "ms", "lower", "Attention alone", "attention.alone_low_ms",
                  "attention.alone_high_ms")  # fmt: skip
    yield Reading("attention.alone_low_ms", low, "ms", "lower")
    yield Reading("attention.alone_high_ms", high, "ms", "lower")
    yield Note("method", _METHOD.format(kinds=len(found), places=places))
    step = subject.readings.get("latency.median_ms")
    if step:
        yield Reading("attention.share", 100 * total / step, "percent", "", "% attn.")
        if total > step:
            yield Note("share", "the attentions alone took longer than the network with them: the times are too "
                                "noisy, or each waits alone for what it finds at hand in the network")  # fmt: skip
