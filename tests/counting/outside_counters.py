"""Every counter asked the same question in its own tongue: the multiply-accumulates and the parameters of a case."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from hand_case import HandCase, Sizes
from torch import Tensor, nn

from attnbench.core.record import Reading
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.counting import count_macs, count_parameters
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject

__all__ = ["COUNTERS", "Answer", "Counter"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a counter says. `open` when it says itself that it could not count all."""

    macs: int
    params: int | None = None
    open: bool = False
    verified: bool = False


Ask = Callable[[HandCase, Sizes], Answer]


@dataclass(frozen=True, slots=True)
class Counter:
    """`module` is what it lies in. `one_sample` for a counter that is made for a batch of one: it gets one, and is held
    to what one costs."""

    name: str
    module: str
    ask: Ask
    one_sample: bool = False

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        try:
            return version(self.module.partition(".")[0])
        except PackageNotFoundError:
            return None


def _ours(case: HandCase, sizes: Sizes) -> Answer:
    """What a record prints: counted on meta tensors, or on real ones where the module cannot run without data."""
    subject = case.subject("meta", sizes=sizes)
    try:
        subject.forward()
    except Exception:  # as the tool does: what meta cannot run, the CPU may
        subject = case.subject("cpu", sizes=sizes)
    read = {**_readings(count_macs, subject), **_readings(count_parameters, subject)}
    uncounted = bool(read["static.uncounted_ops"])
    return Answer(read["static.macs"], read["static.params"], uncounted, read["static.verified"])


def _readings(instrument: Any, subject: Subject) -> dict[str, Any]:
    return {each.name: each.value for each in instrument(subject, Options()) if isinstance(each, Reading)}


def _our_handles(case: HandCase, sizes: Sizes) -> Answer:
    by_op, uncounted = fvcore_macs(case.subject("cpu", sizes=sizes))
    return Answer(sum(by_op.values()), open=bool(uncounted))


def _plainly(count: Callable[[nn.Module, list[Tensor]], Answer], where: str = "cpu") -> Ask:
    """A counter as its users call it: without gradients, in the case's mode, on the CPU."""

    def ask(case: HandCase, sizes: Sizes) -> Answer:
        module, inputs = case.build(sizes, where)
        with torch.no_grad(), torch.device(where):
            return count(module, inputs)

    return ask


def _fvcore(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    # What fvcore calls a flop is one multiply-accumulate.
    return Answer(int(FlopCountAnalysis(module, tuple(inputs)).total()), parameter_count(module)[""])


def _flop_counter(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return Answer(counter.get_total_flops() // 2)


def _ptflops(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from ptflops import get_model_complexity_info

    names = list(inspect.signature(module.forward).parameters)
    named = dict(zip(names, inputs, strict=False))
    macs, params = get_model_complexity_info(module, (1,), input_constructor=lambda _: named, as_strings=False,
                                             print_per_layer_stat=False, verbose=False)  # fmt: skip
    if macs is None:
        raise RuntimeError("it prints a traceback and returns None")
    return Answer(round(macs), params)


def _thop(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from thop import profile

    macs, params = profile(module, inputs=tuple(inputs), verbose=False)
    return Answer(round(macs), round(params))


def _calflops(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from calflops import calculate_flops

    _, macs, params = calculate_flops(module, args=inputs, print_results=False, output_as_string=False)
    return Answer(round(macs), round(params))


def _torchinfo(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from torchinfo import summary

    found = summary(module, input_data=inputs, verbose=0, mode="train" if module.training else "eval", device="cpu")
    return Answer(found.total_mult_adds, found.total_params)


def _torchprofile(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from torchprofile import profile_macs

    return Answer(round(profile_macs(module, tuple(inputs))))


def _deepspeed(module: nn.Module, inputs: list[Tensor]) -> Answer:
    from deepspeed.profiling.flops_profiler import get_model_profile

    _, macs, params = get_model_profile(module, args=inputs, print_profile=False, detailed=False, as_string=False,
                                        warm_up=0)  # fmt: skip
    return Answer(round(macs), round(params))


COUNTERS: Mapping[str, Counter] = {
    counter.name: counter
    for counter in (
        Counter("attnbench", "attnbench.metrics.counting", _ours),
        Counter("fvcore + our handles", "fvcore.nn", _our_handles),
        Counter("fvcore", "fvcore.nn", _plainly(_fvcore)),
        Counter("FlopCounterMode, CPU", "torch.utils.flop_counter", _plainly(_flop_counter)),
        Counter("FlopCounterMode, meta", "torch.utils.flop_counter", _plainly(_flop_counter, "meta")),
        Counter("ptflops", "ptflops", _plainly(_ptflops), one_sample=True),
        Counter("thop", "thop", _plainly(_thop)),
        Counter("calflops", "calflops", _plainly(_calflops)),
        Counter("torchinfo", "torchinfo", _plainly(_torchinfo)),
        Counter("torchprofile", "torchprofile", _plainly(_torchprofile)),
        Counter("deepspeed", "deepspeed.profiling.flops_profiler", _plainly(_deepspeed)),
    )
}
