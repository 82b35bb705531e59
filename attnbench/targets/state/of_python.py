"""Python's and the system's own state, which holds for the whole process."""

import gc
import locale
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from attnbench.targets.state.piece import Piece

__all__ = ["PIECES", "look_elsewhere", "look_in"]

# Those a module may have a use for; SIGINT is Ctrl-C, and a crash is for faulthandler.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGCHLD",
                 "SIGABRT", "SIGPROF", "SIGVTALRM", "SIGXCPU")
    if hasattr(signal, name)
)  # fmt: skip
# What torch.compile tells the processes that it starts, and finds again if it is gone.
_TORCHS_OWN = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_")
# As far as it raises the recursion limit.
_COMPILERS_DEPTH = 2000
_LOOKED_IN: list[str] = []


def look_in(folder: str) -> None:
    """Let what lies in the folder be imported from now on."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if folder not in _LOOKED_IN:
        _LOOKED_IN.append(folder)


def look_elsewhere(place: Callable[[str], str]) -> None:
    """Have each folder in which modules are looked for replaced by what `place` gives for it, and named once."""
    for folders in (sys.path, _LOOKED_IN):
        folders[:] = dict.fromkeys(place(folder) for folder in folders)


def _path() -> list[str]:
    """Without what is looked in on purpose, and what packages add of their own."""
    return [folder for folder in sys.path if folder not in _LOOKED_IN and "site-packages/" not in folder]


def _set_path(value: Sequence[str]) -> None:
    """What is no piece of the state stays where it stands now; but where files are looked for they are found again."""
    path = list(value)
    others = [folder for folder in sys.path if folder not in _path()]
    for folder in [*others, *(folder for folder in _LOOKED_IN if folder not in others)]:
        path.insert(sys.path.index(folder) if folder in sys.path else 0, folder)
    sys.path[:] = path


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_TORCHS_OWN)}


def _set_environ(value: dict[str, str]) -> None:
    for name in set(_environ()) - set(value):
        del os.environ[name]
    os.environ.update(value)


def _environ_told(before: dict[str, str], after: dict[str, str]) -> str:
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"os.environ ({', '.join(names)})"


def _set_filters(value: Sequence[Any]) -> None:
    if list(warnings.filters) != value:
        warnings.filters[:] = value  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]


def _filters_told(before: Sequence[Any], after: Sequence[Any]) -> str:
    """Packages hush their own warnings as they are imported; that warnings become errors is news."""
    strict = any(each[0] == "error" and each not in before for each in after)
    return "warning filters (error)" if strict else ""


def _depth_told(before: int, after: int) -> str:
    by_torch = after == max(before, _COMPILERS_DEPTH) and "torch._inductor.compile_fx" in sys.modules
    return "" if by_torch else f"the recursion limit ({before} to {after})"


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return root.level, list(root.handlers), list(root.filters), root.manager.disable


def _set_logging(value: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.setLevel(value[0])
    root.handlers[:], root.filters[:] = value[1:3]
    logging.disable(value[3])


def _collector() -> tuple[Any, ...]:
    return gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0, gc.get_debug()


def _set_collector(value: tuple[Any, ...]) -> None:
    enabled, threshold, frozen, debug = value
    (gc.enable if enabled else gc.disable)()
    gc.set_threshold(*threshold)
    gc.set_debug(debug)
    if gc.get_freeze_count() and not frozen:
        gc.unfreeze()


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in _SIGNALS]


def _set_handlers(value: Sequence[Any]) -> None:
    for number, handler in zip(_SIGNALS, value, strict=True):
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _handlers_told(before: Sequence[Any], after: Sequence[Any]) -> str:
    names = [number.name for number, old, new in zip(_SIGNALS, before, after, strict=True) if old != new]
    return f"signal handlers ({', '.join(names)})"


def _timer() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_timer(running: bool) -> None:
    if not running:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _cpus() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _numpy() -> Any:
    """That of its random numbers; None where it is not loaded, or only half."""
    return getattr(sys.modules.get("numpy"), "random", None)


def _numpys_numbers() -> Any:
    return numpy.get_state() if (numpy := _numpy()) is not None else None


def _set_numpys_numbers(value: Any) -> None:
    if value is not None:
        _numpy().set_state(value)


def _errors() -> Any:
    numpy: Any = sys.modules.get("numpy")
    return numpy.geterr() if hasattr(numpy, "geterr") else None


def _set_errors(value: Any) -> None:
    if value is not None:
        sys.modules["numpy"].seterr(**value)


PIECES = (
    Piece("os.environ", _environ, _set_environ, _environ_told),
    Piece("the working folder", os.getcwd, os.chdir),
    Piece("sys.path", _path, _set_path),
    Piece("warning filters", lambda: list(warnings.filters), _set_filters, _filters_told),
    Piece("the root logger", _logging, _set_logging),
    Piece("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    Piece("the garbage collector", _collector, _set_collector),
    Piece("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit, _depth_told),
    Piece("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Piece("signal handlers", _handlers, _set_handlers, _handlers_told),
    Piece("an alarm that was set", _timer, _set_timer, lambda before, after: "an alarm clock"),
    Piece("the CPUs it may use", lambda: sorted(_cpus()), lambda value: os.sched_setaffinity(0, value)),
    Piece("numpy's handling of errors", _errors, _set_errors),
    Piece("Python's random numbers", random.getstate, random.setstate, silent=True),
    Piece("numpy's random numbers", _numpys_numbers, _set_numpys_numbers, silent=True),
)
