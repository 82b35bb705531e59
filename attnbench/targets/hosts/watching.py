"""Watches one forward of a network: which module was called with what, gave what, and multiplied activations itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Call", "Product", "watch"]

# Products of two tensors by the names under which torch calls them; a linear layer or a convolution is none of them.
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum"}
_WHOLE = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
# Scores and the weighted sum: an attention multiplies activations twice.
ATTENTION = 2


@dataclass(frozen=True, slots=True)
class Product:
    """Of the first product in a forward: the sizes of its first operand, and whether a mask was causal by flag."""

    sizes: tuple[int, ...]
    causal: bool


@dataclass(slots=True)
class Call:
    """One call of a module: its dotted name, what went in and came out, and the products of its own forward.

    `products` counts those of activations with activations; those of modules inside that have no parameters are added.
    `parent` is the call that it happened in, `began` how many calls had returned when it began.
    """

    name: str
    module: nn.Module
    parent: "Call | None"
    began: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    products: int = 0
    first: Product | None = None

    @property
    def attends(self) -> bool:
        """Whether it multiplies activations often enough to be an attention."""
        return self.products >= ATTENTION

    def multiplied(self, times: int, first: Product | None) -> None:
        self.products += times
        self.first = self.first or first


class _Watch(TorchFunctionMode):
    """Keeps the stack of calls by hooks, and gives each product to the innermost."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.done: list[Call] = []
        self._stack: list[Call] = []
        self._hooks = [
            hook
            for name, module in network.named_modules()
            for hook in (
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True, prepend=True),
                module.register_forward_hook(self._left, with_kwargs=True),
            )
        ]

    def unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _entering(self, name: str) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            parent = self._stack[-1] if self._stack else None
            self._stack.append(Call(name, module, parent, len(self.done), args, kwargs))

        return enter

    def _left(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._stack.pop()
        call.output = output
        if call.parent is not None and next(module.parameters(), None) is None:
            call.parent.multiplied(call.products, call.first)
        self.done.append(call)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._stack and func in _WHOLE:
            self._stack[-1].multiplied(ATTENTION, _first(func, args, kwargs))
        elif self._stack and getattr(func, "__name__", "") in _PRODUCTS:
            tensors = list(_operands([*args, *kwargs.values()]))
            if len(tensors) >= 2 and all(_is_activation(tensor) for tensor in tensors[-2:]):
                self._stack[-1].multiplied(1, Product(tuple(tensors[0].shape), causal=False))
        return func(*args, **kwargs)


def _first(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Product | None:
    causal = kwargs.get("is_causal", args[5] if len(args) > 5 and func is _WHOLE[0] else False)
    if func is not _WHOLE[0]:
        return Product((), bool(causal))  # its heads are its module's to say
    query = args[0] if args else kwargs["query"]
    return Product(tuple(query.shape), bool(causal))


def _operands(values: Sequence[Any]) -> Any:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _operands(value)


def _is_activation(tensor: Tensor) -> bool:
    return not isinstance(tensor, nn.Parameter) and tensor.dim() >= 3


def watch(network: nn.Module, inputs: Sequence[Any]) -> list[Call]:
    """The calls of one forward in eval mode, in the order in which they returned; the network is left as it was."""
    training = network.training
    watching = _Watch(network)
    try:
        with torch.no_grad(), watching:
            network.eval()(*inputs)
    finally:
        watching.unhook()
        network.train(training)
    return watching.done
