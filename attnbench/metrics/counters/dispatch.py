"""The counter whose figures are printed: it watches every operator that the dispatcher sees, forward and backward.

Composite operators are taken apart into those that ATen has kernels for; their work follows from their shapes. It needs
no data, so it counts on meta and fake tensors as on real ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnbench.metrics.counters.arithmetic import CONTRACTIONS, Uncountable, Work, packet_name
from attnbench.metrics.counters.callers import Calls, Modules, threads_are_said
from attnbench.metrics.counters.count import Count
from attnbench.metrics.counters.products import Products
from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.counters.work import elements, fft_flops, kind_of, tensors_of
from attnbench.metrics.subject import Subject

__all__ = ["dispatch_count"]


def dispatch_count(subject: Subject, *, backward: bool = False) -> Count:
    """Count one forward of the subject, wherever it lives, and on request the backward behind it.

    Raises:
        Exception: whatever the module raises where it cannot run.
    """
    count = Count()
    operators = _Operators(count, Modules(subject.module, count), Calls(count), Products())
    with quiet(), threads_are_said(count), operators.modules, operators.calls, operators:
        if backward:
            _forward_and_backward(subject, operators)
        else:
            subject.forward()
        operators.products.finish()
    return count


def _forward_and_backward(subject: Subject, operators: "_Operators") -> None:
    with subject.constants():
        output = subject.module(*subject.inputs)
        operators.calls.in_backward = True
        subject.backward(output)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each operator that reaches a kernel."""

    def __init__(self, count: Count, modules: Modules, calls: Calls, products: Products) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count, self.modules, self.calls, self.products = count, modules, calls, products

    # flex_attention and its like are no operators of ATen, but are to be counted as ones.
    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not hasattr(func, "overloadpacket"):
            return self._higher_order(func, args, kwargs)
        name = packet_name(func)
        if name not in CONTRACTIONS and kind_of(func) == "unknown":
            with self:
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        out = func(*args, **kwargs)
        self._see(func, name, args, kwargs, out)
        return out

    def _see(self, func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        if name in CONTRACTIONS:
            self._contraction(func, CONTRACTIONS[name], args, kwargs, out)
        elif kind_of(func) == "unknown":
            self._count.uncounted[_kernel_name(func)] += 1
        tensors = tensors_of(args, kwargs)
        if not _is_view(func, tensors, out):
            self.products.see(name, args, tensors, out, self._teller(func))
        if not self.calls.in_backward and self.calls.name != "scaled_dot_product_attention":
            self._other_work(func, args, tensors, out)

    def _contraction(self, func: Any, formula: Any, args: Any, kwargs: Any, out: Any) -> None:
        try:
            work: Work = formula(args, kwargs, out)
        except (Uncountable, IndexError):
            self._count.uncounted[_kernel_name(func)] += 1
            return
        self._teller(func, _COMPLEX if tensors_of(out)[0].dtype.is_complex else "")(work.macs)
        self._count.recomputed += work.recomputed

    def _teller(self, func: Any, kernel: str = "") -> Callable[[int], None]:
        """Whom to tell of a contraction that happens here, also when it is known only later."""
        if self.calls.in_backward:
            # What records gradients there is a checkpoint running its forward again.
            return self._recomputed if torch.is_grad_enabled() else self._backward
        label, paths = self.calls.name or _kernel_name(func).removeprefix("aten."), self.modules.active
        kernel = kernel or _kernel_name(func)

        def forward(macs: int) -> None:
            self._count.by_op[label] += macs
            self._count.by_kernel[kernel] += macs
            self._count.by_module.update(dict.fromkeys(paths, macs))

        return forward

    def _backward(self, macs: int) -> None:
        self._count.backward += macs

    def _recomputed(self, macs: int) -> None:
        self._count.recomputed += macs

    def _other_work(self, func: Any, args: Sequence[Any], tensors: Sequence[Tensor], out: Any) -> None:
        match kind_of(func):
            case "elementwise":
                self._count.elementwise += elements(tensors_of(out))
            case "reduction":
                self._count.reductions += elements(tensors)
            case "fft":
                self._count.fft_flops += fft_flops(args, out)

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = str(func)
        out = func(*args, **kwargs)
        if name in CONTRACTIONS:
            self._contraction(func, CONTRACTIONS[name], args, kwargs, out)
        else:
            self._count.uncounted[name] += 1
        return out


# A kernel on complex numbers does four times the work of the same kernel on real ones, which not every counter knows.
_COMPLEX = "a product of complex numbers"


def _kernel_name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func))


def _is_view(func: Any, tensors: Sequence[Tensor], out: Any) -> bool:
    """Whether what comes out lies in the memory of what went in, unchanged."""
    if func.is_view:
        return True
    if func._schema.is_mutable:
        return False
    given = {id(tensor.untyped_storage()) for tensor in tensors}
    made = tensors_of(out)
    return bool(made) and all(id(tensor.untyped_storage()) in given for tensor in made)
