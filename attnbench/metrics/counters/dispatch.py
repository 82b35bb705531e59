"""The counter whose figures are printed: it watches every operator that the dispatcher sees, forward and backward.

Composite operators are taken apart into those that ATen has kernels for; their work follows from their shapes. It needs
no data, so it counts on meta and fake tensors as on real ones.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attnbench.metrics.counters.arithmetic import CONTRACTIONS, Uncountable, Work, packet_name
from attnbench.metrics.counters.products import Products
from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.counters.work import elements, fft_flops, kind_of, tensors_of
from attnbench.metrics.subject import Subject

__all__ = ["Count", "dispatch_count"]


@dataclass(slots=True)
class Count:
    """What one step of the whole batch computes.

    `by_op` are the forward's MACs under the names that the module called (`linear`, `einsum`), `by_kernel` under those
    of the dispatcher (`aten.addmm`), `by_module` those of each module with its children (`""` is the whole). `masked`
    are MACs that a causal flag makes useless. `elementwise` counts output elements, `reductions` input elements,
    `fft_flops` FLOPs; these are the forward's. `backward` is the mathematics of the gradients, `recomputed` what
    checkpoints and fused kernels compute again. `uncounted` names every operator that nobody knows, with its calls.
    """

    by_op: Counter[str] = field(default_factory=Counter)
    by_kernel: Counter[str] = field(default_factory=Counter)
    by_module: Counter[str] = field(default_factory=Counter)
    masked: int = 0
    elementwise: int = 0
    reductions: int = 0
    fft_flops: int = 0
    backward: int = 0
    recomputed: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)

    @property
    def macs(self) -> int:
        """Contraction multiply-accumulates of the forward."""
        return sum(self.by_op.values())


def dispatch_count(subject: Subject, *, backward: bool = False) -> Count:
    """Count one forward of the subject, wherever it lives, and on request the backward behind it.

    Raises:
        Exception: whatever the module raises where it cannot run.
    """
    count = Count()
    operators = _Operators(count, _Modules(subject.module, count), _Calls(count), Products())
    with quiet(), _threads_are_said(count), operators.modules, operators.calls, operators:
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


@contextmanager
def _threads_are_said(count: Count) -> Iterator[None]:
    """What watches torch watches this thread alone: work that a module gives to others is not seen, and said."""
    start = threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        count.uncounted[_THREADS] += 1
        start(thread)

    with mock.patch.object(threading.Thread, "start", starting):
        yield


_THREADS = "what runs in threads of its own"


class _Modules:
    """Which modules are in their forward just now, by their paths; nothing is left on the module afterwards."""

    def __init__(self, root: nn.Module, count: Count) -> None:
        self._paths = {id(module): path for path, module in root.named_modules()}
        self._stack: list[str] = []
        self._hooks: list[Any] = []
        self._count, self._thread = count, threading.get_ident()

    @property
    def active(self) -> list[str]:
        """The paths, each once, from the outermost."""
        return list(dict.fromkeys(self._stack))

    def __enter__(self) -> "_Modules":
        register = torch.nn.modules.module
        self._hooks = [
            register.register_module_forward_pre_hook(self._enter),
            register.register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self._thread:
            self._count.uncounted[_THREADS] += 1
        elif id(module) in self._paths:
            self._stack.append(self._paths[id(module)])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and id(module) in self._paths and self._stack:
            self._stack.pop()


class _Calls(TorchFunctionMode):
    """Remembers which of torch's functions the module is calling, and what a causal flag makes of an attention."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count
        self.name = ""
        self.in_backward = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LEAVING:
            self._count.uncounted["what numpy computes"] += 1
        if func is F.multi_head_attention_forward:
            # A function in Python is called with this mode off: the attention in it must be watched in another way.
            with mock.patch.object(F, "scaled_dot_product_attention", self._attention):
                return func(*args, **kwargs)
        if func is _SDPA:
            return self._attention(*args, **kwargs)
        with self._named(_label(func)):
            return func(*args, **kwargs)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        before, self.name = self.name, name
        try:
            yield
        finally:
            self.name = before

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.in_backward:
            causal = args[2] if len(args) > 2 else kwargs.get("is_causal", False)
            self._count.masked += _masked(query, key, value) if causal else 0
            # One softmax over the scores, whatever kernel makes it.
            self._count.reductions += query.shape[:-1].numel() * key.shape[-2]
        with self._named("scaled_dot_product_attention"):
            return _SDPA(query, key, value, *args, **kwargs)


_SDPA = F.scaled_dot_product_attention
# From here on torch knows nothing of what is done with the numbers.
_LEAVING = (Tensor.numpy, Tensor.__array__)
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def _label(func: Any) -> str:
    """The name a person knows the function by; none for one that is not torch's, which calls others."""
    name = getattr(func, "__name__", "")
    if name in _CONVOLUTIONS:
        return "convolution"
    if isinstance(func, FunctionType) and name not in ("einsum", "tensordot", "cdist", "chain_matmul"):
        return ""
    if name.startswith("__"):
        name = name.strip("_").removeprefix("r") if name != "__rpow__" else "pow"
    return name.rstrip("_")


def _masked(query: Tensor, key: Tensor, value: Tensor) -> int:
    """MACs of the pairs in which the key comes after the query: of L x S scores, those above the diagonal."""
    length, keys = query.shape[-2], key.shape[-2]
    rows = min(length, keys)
    useful = rows * (rows + 1) // 2 + (length - rows) * keys
    batch = query.shape[:-2].numel()
    return batch * (length * keys - useful) * (query.shape[-1] + value.shape[-1])


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each operator that reaches a kernel."""

    def __init__(self, count: Count, modules: _Modules, calls: _Calls, products: Products) -> None:
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
