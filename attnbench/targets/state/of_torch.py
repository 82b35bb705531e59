"""torch's own switches, which hold for the whole process."""

import gc
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch.nn.modules import module as modules

from attnbench.targets.state.piece import Piece

__all__ = ["PIECES"]

_BACKENDS: Any = torch.backends
_DEVICES = ("cpu", "cuda")
_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_pre_hooks", "_global_backward_hooks",
          "_global_module_registration_hooks", "_global_parameter_registration_hooks",
          "_global_buffer_registration_hooks")  # fmt: skip
_SDP = ("flash", "mem_efficient", "math", "cudnn")
_REDUCED = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction",
            "allow_fp16_accumulation")  # fmt: skip
# Contexts that are to last.
_OPEN: list[Any] = []
# The smallest number there is, and one: their product is zero where such numbers are flushed.
_TINY, _ONE = [5e-324], [1.0]


def _device() -> tuple[Any, int]:
    """What `set_default_device` put there, and how many contexts are open."""
    return getattr(_HELD, "device_context", None), torch._C._len_torch_function_stack()


_HELD: Any = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)


def _set_device(value: tuple[Any, int]) -> None:
    context, contexts = value
    if torch._C._len_torch_function_stack() == contexts:
        _HELD.device_context = context  # what was set inside a context went with it; torch still believes in it
    else:
        torch.set_default_device(None if context is None else context.device)


def _device_told(before: tuple[Any, int], after: tuple[Any, int]) -> str:
    context = after[0]
    return "torch's default device" + (f" ({context.device})" if context is not None else "")


def _set_inference(value: bool) -> None:
    gc.collect()  # a context that was left open ends when it is collected
    if torch.is_inference_mode_enabled() != value:
        _OPEN.append(torch.inference_mode(value))
        _OPEN[-1].__enter__()


def _deterministic() -> tuple[bool, bool, bool]:
    return (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory)  # type: ignore[attr-defined]  # fmt: skip


def _set_deterministic(value: tuple[bool, bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])
    torch.utils.deterministic.fill_uninitialized_memory = value[2]  # type: ignore[attr-defined]


def _cudnn() -> tuple[Any, ...]:
    cudnn = _BACKENDS.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.benchmark_limit


def _set_cudnn(value: tuple[Any, ...]) -> None:
    cudnn = _BACKENDS.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.benchmark_limit = value


@cache
def _precisions() -> Mapping[str, Any]:
    """Where the precision of fp32 is set since torch 2.9, the widest first."""
    found = {"": _BACKENDS, ".mkldnn": _BACKENDS.mkldnn, ".cudnn": _BACKENDS.cudnn}
    for name, backend in (("mkldnn", _BACKENDS.mkldnn), ("cudnn", _BACKENDS.cudnn)):
        found |= {f".{name}.{kind}": getattr(backend, kind, None) for kind in ("matmul", "conv", "rnn")}
    found[".cuda.matmul"] = _BACKENDS.cuda.matmul
    return {name: place for name, place in found.items() if hasattr(place, "fp32_precision")}


def _precision() -> tuple[Any, ...]:
    """By the old switches, which raise once the new ones contradict them, and by the new ones."""
    old = (torch.get_float32_matmul_precision(), _BACKENDS.cuda.matmul.allow_tf32, _BACKENDS.cudnn.allow_tf32)
    return (*old, *(place.fp32_precision for place in _precisions().values()))


def _set_precision(value: tuple[Any, ...]) -> None:
    """The old switches first: they set the new ones as well, and not to what they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(value[0])
        _BACKENDS.cuda.matmul.allow_tf32, _BACKENDS.cudnn.allow_tf32 = value[1:3]
    for place, precision in zip(_precisions().values(), value[3:], strict=True):
        if place.fp32_precision != precision:
            place.fp32_precision = precision


def _reduced() -> tuple[Any, ...]:
    return tuple(getattr(_BACKENDS.cuda.matmul, name, None) for name in _REDUCED)


def _set_reduced(value: tuple[Any, ...]) -> None:
    for name, setting in zip(_REDUCED, value, strict=True):
        if getattr(_BACKENDS.cuda.matmul, name, None) != setting:
            setattr(_BACKENDS.cuda.matmul, name, setting)


def _autocast() -> tuple[Any, ...]:
    return (torch.is_autocast_cache_enabled(),
            *((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _DEVICES))


def _set_autocast(value: tuple[Any, ...]) -> None:
    torch.set_autocast_cache_enabled(value[0])
    for device, (enabled, dtype) in zip(_DEVICES, value[1:], strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _kernels() -> tuple[bool, ...]:
    return tuple(getattr(_BACKENDS.cuda, f"{name}_sdp_enabled")() for name in _SDP)


def _set_kernels(value: tuple[bool, ...]) -> None:
    for name, enabled in zip(_SDP, value, strict=True):
        getattr(_BACKENDS.cuda, f"enable_{name}_sdp")(enabled)


def _mkldnn() -> tuple[Any, Any]:
    return _BACKENDS.mkldnn.enabled, _BACKENDS.mkldnn.deterministic


def _set_mkldnn(value: tuple[Any, Any]) -> None:
    _BACKENDS.mkldnn.enabled, _BACKENDS.mkldnn.deterministic = value


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _hooks() -> list[dict[int, Any]]:
    return [dict(getattr(modules, name, {})) for name in _HOOKS]


def _set_hooks(value: list[dict[int, Any]]) -> None:
    for name, hooks in zip(_HOOKS, value, strict=True):
        held = getattr(modules, name, {})
        held.clear()
        held.update(hooks)


PIECES = (
    Piece("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Piece("torch's default device", _device, _set_device, _device_told),
    Piece("torch's inference mode", torch.is_inference_mode_enabled, _set_inference),
    Piece("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Piece("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Piece("torch's deterministic algorithms", _deterministic, _set_deterministic),
    Piece("torch.backends.cudnn", _cudnn, _set_cudnn),
    Piece("torch's precision of fp32", _precision, _set_precision),
    Piece("torch.backends.cuda.matmul", _reduced, _set_reduced),
    Piece("torch's autocast", _autocast, _set_autocast),
    Piece("torch's attention kernels", _kernels, _set_kernels),
    Piece("torch.backends.mkldnn", _mkldnn, _set_mkldnn),
    Piece("torch's anomaly detection", _anomaly, lambda value: torch.autograd.set_detect_anomaly(*value)),
    Piece("torch's flushing of denormal numbers", lambda: _TINY[0] * _ONE[0] == 0, torch.set_flush_denormal),
    Piece("torch's hooks on all modules", _hooks, _set_hooks),
    Piece("a dispatch mode of torch that was left open", torch._C._len_torch_dispatch_stack),
    Piece("torch's random numbers", torch.get_rng_state, torch.set_rng_state, silent=True),
)
