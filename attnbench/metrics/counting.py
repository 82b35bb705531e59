"""Counts parameters and multiply-accumulates without running anything, by counters that share nothing.

The printed figures come from the counter at the dispatcher. fvcore traces the module with our own handles for what it
does not know, torch's FlopCounterMode watches the kernels it has formulas for, and the module's own formula, where it
has one, is plain arithmetic. The figure is `verified` when those that could count all of it agree as integers.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from attnbench.core.errors import named
from attnbench.core.record import Note, Reading
from attnbench.metrics.counters.count import Count
from attnbench.metrics.counters.dispatch import dispatch_count
from attnbench.metrics.counters.flop_counter import hears, torch_macs_by_kernel
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.footprint.attention_kernels import as_on_cuda
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["count_backward", "count_macs", "count_parameters"]


@metric(name="params", on="meta", fields=("static.params", "static.trainable_params", "static.buffers",
                                          "static.claimed_complexity", "static.swapped",
                                          "static.inserted"))  # fmt: skip
def count_parameters(subject: Subject, options: Options) -> Iterator[Finding]:
    """Parameters, each counted once however often it is shared; and the elements of the buffers."""
    parameters = list(subject.module.parameters())
    yield Reading("static.params", sum(p.numel() for p in parameters), "count", "same", "Params")
    yield Reading("static.trainable_params", sum(p.numel() for p in parameters if p.requires_grad), "count", "same")
    yield Reading("static.buffers", sum(buffer.numel() for buffer in subject.module.buffers()), "count", "same")
    for how in ("swapped", "inserted"):
        if places := getattr(subject, how):
            yield Reading(f"static.{how}", {"count": len(places), "places": dict(places)})
        else:
            yield Note("not_measured", f"static.{how}: nothing was {how}")
    if subject.complexity is not None:
        yield Reading("static.claimed_complexity", subject.complexity)


@metric(name="macs", on="meta", fields=("static.macs", "static.flops", "static.macs_by_op", "static.macs_by_module",
                                        "static.useful_macs", "static.elementwise", "static.reductions",
                                        "static.fft_flops", "static.uncounted_ops", "static.counters",
                                        "static.verified", "static.counted_on"))  # fmt: skip
def count_macs(subject: Subject, options: Options) -> Iterator[Finding]:
    """Contraction multiply-accumulates of one forward of the whole batch, and the work beside them."""
    voices = _Voices()
    count = voices.ask("dispatch", lambda: dispatch_count(subject))
    traced = voices.ask("fvcore", lambda: fvcore_macs(subject))
    kernels = voices.ask("torch", lambda: torch_macs_by_kernel(subject))
    if subject.expected is not None:
        voices.figures["formula"] = subject.expected.macs
    if traced is not None:
        voices.heard_fvcore(traced[0], traced[1], count)
    if kernels is not None:
        voices.heard_torch(kernels, count)
    voices.figures["dispatch"] = count and count.macs
    yield Reading("static.counters", voices.figures)
    if count is None:
        yield from _second_best(voices)
        return
    yield from _work(count)
    yield Reading("static.verified", voices.agree(count))
    yield from voices.doubts(count)


def _work(count: Count) -> Iterator[Finding]:
    yield Reading("static.macs", count.macs, "MAC", "same", "MACs")
    yield Reading("static.flops", 2 * count.macs, "FLOP", "same", "FLOPs")
    # Where no attention is causal the figure says nothing new, and needs no column.
    yield Reading("static.useful_macs", count.macs - count.masked, "MAC", "same", "Useful MACs" * (count.masked > 0))
    yield Reading("static.macs_by_op", dict(count.by_op.most_common()))
    yield Reading("static.macs_by_module", dict(count.by_module))
    yield Reading("static.elementwise", count.elementwise, "count")
    yield Reading("static.reductions", count.reductions, "count")
    yield Reading("static.fft_flops", count.fft_flops, "FLOP", "same", "FFT FLOPs" * (count.fft_flops > 0))
    yield Reading("static.uncounted_ops", dict(count.uncounted))


def _second_best(voices: "_Voices") -> Iterator[Finding]:
    """Where our own counter cannot run the module: another's figure, which nobody has checked."""
    yield from (Note("uncounted", reason) for reason in voices.silent.values())
    figures = [figure for figure in voices.figures.values() if figure is not None]
    if not figures:
        yield Note("uncounted", "no counter could count its MACs: the column is empty, not zero")
        return
    yield Reading("static.macs", max(figures), "MAC", "same", "MACs")
    yield Reading("static.flops", 2 * max(figures), "FLOP", "same", "FLOPs")
    yield Reading("static.verified", False)


@dataclass(slots=True)
class _Voices:
    """What each counter says, why some say nothing, and where they differ from the printed figure."""

    figures: dict[str, int | None] = field(
        default_factory=lambda: dict.fromkeys(("dispatch", "fvcore", "torch", "formula"))
    )
    silent: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    # Those that counted all there is, so that their agreement means something.
    complete: set[str] = field(default_factory=set)

    def ask(self, name: str, count: Callable[[], Any]) -> Any:
        """What that counter says, or None where the module, which is foreign code, does not let it."""
        try:
            return count()
        except Exception as error:
            self.silent[name] = f"{_NAMES[name]} cannot count it ({named(error)})"
            return None

    def heard_fvcore(self, by_op: Counter[str], uncounted: Counter[str], count: Count | None) -> None:
        """fvcore's figure is complete when it passed nothing over."""
        if uncounted:
            self.silent["fvcore"] = f"fvcore has no handle for {_listed(uncounted)}"
            return
        self.figures["fvcore"] = by_op.total()
        self.complete.add("fvcore")
        if count is not None and by_op.total() != count.macs:
            self._differ("fvcore", count.by_op, by_op)

    def heard_torch(self, kernels: Counter[str], count: Count | None) -> None:
        """torch's figure is complete when it knows every kernel that ran; else it is set beside its part of them."""
        self.figures["torch"] = kernels.total()
        if count is None:
            return
        mine = Counter({kernel: macs for kernel, macs in count.by_kernel.items() if hears(kernel)})
        if mine.total() == count.macs:
            self.complete.add("torch")
        else:
            deaf = ", ".join(kernel for kernel in count.by_kernel if not hears(kernel))
            self.silent["torch"] = f"torch's counter has no formula for {deaf}"
        if mine.total() != kernels.total():
            self._differ("torch", mine, kernels)

    def _differ(self, name: str, mine: Counter[str], other: Counter[str]) -> None:
        where = [f"{op} {mine[op]:,} against {other[op]:,}" for op in mine | other if mine[op] != other[op]]
        self.differences.append(f"{_NAMES[name]} differs in {', '.join(where)}")

    def agree(self, count: Count) -> bool:
        """Whether somebody else counted all of it, and everybody who counted says the same."""
        if self.figures["formula"] is not None:
            self.complete.add("formula")
            if self.figures["formula"] != count.macs:
                self.differences.append(f"its own formula says {self.figures['formula']:,}")
        return bool(self.complete) and not self.differences and not count.uncounted

    def doubts(self, count: Count) -> Iterator[Note]:
        """Operators that nobody counted, differences, and a figure that stands alone."""
        if count.uncounted:
            yield Note("uncounted", f"MACs are a lower bound: not counted are {_listed(count.uncounted)}")
        if self.differences:
            yield Note("unverified", f"the counters disagree on its {count.macs:,} MACs: {'; '.join(self.differences)}")
        elif not self.complete:
            yield Note("unverified", f"its MACs were counted once only: {'; '.join(self.silent.values())}")
        else:
            yield from (Note("method", reason) for reason in self.silent.values())


_NAMES = {"dispatch": "our counter at the dispatcher", "fvcore": "fvcore", "torch": "torch's counter"}


def _listed(operators: Counter[str]) -> str:
    return ", ".join(f"{name} ({calls}x)" for name, calls in sorted(operators.items()))


@metric(name="backward_macs", on="fake", fields=("static.backward_macs", "static.recomputed_macs",
                                                "static.backward_uncounted_ops"))  # fmt: skip
def count_backward(subject: Subject, options: Options) -> Iterator[Finding]:
    """MACs of the gradients by the kernels that will run: the mathematics, and what is computed a second time."""
    if not subject.case.differentiates:
        yield Note("not_measured", "static.backward_macs, static.recomputed_macs, static.backward_uncounted_ops: a "
                                   "forward alone has no backward")  # fmt: skip
        return
    absent = subject.case.device.startswith("cuda") and not torch.cuda.is_available()
    with as_on_cuda() if absent else nullcontext():
        count = dispatch_count(subject, backward=True)
    yield Reading("static.backward_macs", count.backward, "MAC", "same", "Backward MACs")
    yield Reading("static.recomputed_macs", count.recomputed, "MAC", "same", "Recomputed MACs" * (count.recomputed > 0))
    yield Reading("static.backward_uncounted_ops", dict(count.uncounted))
    if count.uncounted:
        text = f"the MACs of the backward are a lower bound: not counted in a step are {_listed(count.uncounted)}"
        yield Note("uncounted", text)
