"""On whose behalf an operator runs: which modules are in their forward, which function of torch was called, and where
the counter cannot follow: into other threads, and out of torch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnbench.metrics.counters.count import Count

__all__ = ["Calls", "Modules", "threads_are_said"]


@contextmanager
def threads_are_said(count: Count) -> Iterator[None]:
    """What watches torch watches this thread alone: work that a module gives to others is not seen, and said."""
    start = threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        count.uncounted[_THREADS] += 1
        start(thread)

    with mock.patch.object(threading.Thread, "start", starting):
        yield


_THREADS = "what runs in threads of its own"


class Modules:
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

    def __enter__(self) -> "Modules":
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


class Calls(TorchFunctionMode):
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
