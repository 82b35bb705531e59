"""Reads a value of a trace: its shape, its constants, the lists it was made from."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Handle", "Node", "Value", "ints", "is_tensor", "shape", "tensors"]

# A traced value and the operator that made it; torch exports torch._C.Value and torch._C.Node to no type checker.
Value = Any
Node = Any
# From what goes in and what comes out to multiply-accumulates.
Handle = Callable[[Sequence[Value], Sequence[Value]], int]


def shape(value: Value) -> list[int]:
    """Sizes of a traced tensor; `ValueError` where the trace does not know them: nothing is counted by guess."""
    sizes = value.type().sizes() if is_tensor(value) else None
    if sizes is None:
        raise ValueError(f"the trace does not know the shape of {value.debugName()}")
    return list(sizes)


def is_tensor(value: Value) -> bool:
    return bool(value.type().kind() == "TensorType")


def ints(value: Value) -> list[int] | None:
    """A constant number or list of numbers as a list; None where it was left out; `ValueError` if it was computed."""
    node = value.node()
    parts = list(node.inputs()) if node.kind() == "prim::ListConstruct" else [value]
    if any(part.node().kind() != "prim::Constant" for part in parts):
        raise ValueError(f"{value.debugName()} is not a constant of the trace")
    found = [part.toIValue() for part in parts]
    if found == [None]:
        return None
    return [int(number) for each in found for number in (each if isinstance(each, list) else [each])]


def tensors(value: Value) -> list[Value]:
    """The tensors of a traced list."""
    if value.node().kind() != "prim::ListConstruct":
        raise ValueError(f"the trace does not know the tensors of {value.debugName()}")
    return list(value.node().inputs())
