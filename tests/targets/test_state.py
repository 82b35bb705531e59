"""Whatever a module changes for the whole process is set back and named; what it is free to use is set back unnamed."""

import contextlib
import gc
import locale
import logging
import os
import random
import signal
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from torch.nn.modules import module as modules

from attnbench.core.case import Case
from attnbench.targets.build import build
from attnbench.targets.sources import locate, set_back_after_import
from attnbench.targets.state.kept import Kept, kept_state, seeded
from attnbench.targets.state.of_python import look_in
from attnbench.targets.state.piece import Piece

Change = Callable[[], object]


def setting(place: object, name: str, value: object) -> Change:
    return lambda: setattr(place, name, value)


def left_open(context: object) -> Change:
    """A context that is entered and never left; whoever entered it may keep it, or not."""
    return lambda: context.__enter__()


CHANGES: dict[str, tuple[Change, str]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype (torch.float32 to torch.float64)"),
    "device": (lambda: torch.set_default_device("meta"), "torch's default device (meta)"),
    "the same device": (lambda: torch.set_default_device("cpu"), "torch's default device (cpu)"),
    "grad": (lambda: torch.set_grad_enabled(False), "torch's gradient mode (True to False)"),
    "inference": (left_open(torch.inference_mode()), "torch's inference mode (False to True)"),
    "no_grad": (left_open(torch.no_grad()), "torch's gradient mode (True to False)"),
    "threads": (lambda: torch.set_num_threads(7), "torch's number of threads"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), "torch's deterministic algorithms"),
    "fill": (setting(torch.utils.deterministic, "fill_uninitialized_memory", False),
             "torch's deterministic algorithms"),
    "benchmark": (setting(torch.backends.cudnn, "benchmark", True), "torch.backends.cudnn"),
    "cudnn": (setting(torch.backends.cudnn, "deterministic", True), "torch.backends.cudnn"),
    "tf32": (setting(torch.backends.cuda.matmul, "allow_tf32", True), "torch's precision of fp32"),
    "cudnn tf32": (setting(torch.backends.cudnn, "allow_tf32", False), "torch's precision of fp32"),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), "torch's precision of fp32"),
    "reduced": (setting(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
                "torch.backends.cuda.matmul"),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), "torch's autocast"),
    "autocast dtype": (lambda: torch.set_autocast_dtype("cuda", torch.bfloat16), "torch's autocast"),
    "flash": (lambda: torch.backends.cuda.enable_flash_sdp(False), "torch's attention kernels"),
    "mkldnn": (setting(torch.backends.mkldnn, "enabled", False), "torch.backends.mkldnn"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), "torch's anomaly detection"),
    "denormal": (lambda: torch.set_flush_denormal(True), "torch's flushing of denormal numbers (False to True)"),
    "hooks": (lambda: modules.register_module_forward_hook(lambda *_: None), "torch's hooks on all modules"),
    "environ": (lambda: os.environ.update(ATTNBENCH_NEW="1", HOME="/"), "os.environ (ATTNBENCH_NEW, HOME)"),
    "environ less": (lambda: os.environ.pop("PATH"), "os.environ (PATH)"),
    "folder": (lambda: os.chdir("/"), "the working folder"),
    "path": (lambda: sys.path.insert(0, "/nowhere"), "sys.path"),
    "path less": (lambda: sys.path.remove(sysconfig.get_path("stdlib")), "sys.path"),
    "strict": (lambda: warnings.simplefilter("error", FutureWarning), "warning filters (error)"),
    "logger": (lambda: logging.getLogger().setLevel(logging.DEBUG), "the root logger"),
    "handlers": (lambda: logging.getLogger().addHandler(logging.NullHandler()), "the root logger"),
    "disabled": (lambda: logging.disable(logging.ERROR), "the root logger"),
    "locale": (lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8"), "the locale"),
    "collector": (gc.disable, "the garbage collector"),
    "frozen": (gc.freeze, "the garbage collector"),
    "threshold": (lambda: gc.set_threshold(5, 5, 5), "the garbage collector"),
    "depth": (lambda: sys.setrecursionlimit(5000), "the recursion limit"),
    "interval": (lambda: sys.setswitchinterval(0.5), "the switch interval (0.005 to 0.5)"),
    "signal": (lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN), "signal handlers (SIGUSR2)"),
    "alarm": (lambda: signal.alarm(100), "an alarm clock"),
    "cpus": (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}), "the CPUs it may use"),
    "errors": (lambda: numpy.seterr(all="raise"), "numpy's handling of errors"),
}  # fmt: skip
NEEDS = {"cpus": len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else False}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this test session itself finds strict need not be what a user finds."""
    monkeypatch.setattr(warnings, "filters", [("default", None, Warning, None, 0)])


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_set_back_and_named(name: str) -> None:
    if not NEEDS.get(name, True):
        pytest.skip("there is but one CPU")
    change, told = CHANGES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with kept_state() as kept:
            change()
    assert kept.changed[0].startswith(told), kept
    assert len(kept.changed) == 1
    assert kept.left == []
    with kept_state() as again:
        pass
    assert again == Kept()


def test_it_is_set_back_whatever_is_raised() -> None:
    with contextlib.suppress(KeyboardInterrupt), kept_state() as kept:
        torch.set_default_dtype(torch.float64)
        raise KeyboardInterrupt
    assert torch.get_default_dtype() == torch.float32
    assert len(kept.changed) == 1


def test_random_numbers_are_everybodys_to_use() -> None:
    def numbers() -> tuple[float, ...]:
        return random.random(), float(numpy.random.random()), float(torch.rand(()))

    before = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    with kept_state() as kept:
        first = numbers()
    assert kept == Kept()
    assert numbers() == first
    random.setstate(before[0])
    numpy.random.set_state(before[1])
    torch.set_rng_state(before[2])


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_random_numbers_begin_at_the_seed(seed: int) -> None:
    with kept_state():
        seeded(seed)
        first = random.random(), float(numpy.random.random()), float(torch.rand(()))
        seeded(seed)
        assert (random.random(), float(numpy.random.random()), float(torch.rand(()))) == first


def test_what_cannot_be_set_back_is_told() -> None:
    with kept_state() as kept:
        mode = torch.utils._python_dispatch.TorchDispatchMode()
        mode.__enter__()
    mode.__exit__(None, None, None)
    assert kept.left == ["a dispatch mode of torch that was left open"]


def test_a_device_that_was_set_inside_of_another_is_forgotten() -> None:
    """torch takes it down with the context around it, and goes on believing in it."""
    with kept_state() as kept, torch.device("meta"):
        torch.set_default_device("cpu")
    assert (kept.changed, kept.left) == (["torch's default device (cpu)"], [])
    torch.set_default_device(None)
    assert torch.empty(1).device == torch.device("cpu")


def test_contradicting_switches_are_set_back() -> None:
    """The old switches raise once the new ones say something else."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has only the old ones")
    with kept_state() as kept:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.fp32_precision = "ieee"
    assert kept == Kept(["torch's precision of fp32"])
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with kept_state() as kept:
        pass
    assert kept == Kept()
    with kept_state() as kept:
        os.chdir(tmp_path)
    assert kept == Kept(["the working folder"], ["the working folder"])


def test_what_is_looked_in_stays_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What packages add below theirs is nobody's state.
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if "site-packages/" not in folder])
    monkeypatch.setattr("attnbench.targets.state.of_python._LOOKED_IN", [])
    own = str(tmp_path)
    before = list(sys.path)
    with kept_state() as kept:
        look_in(own)
        sys.path.append("/nowhere")
    assert kept.changed == ["sys.path"]
    assert sys.path == [own, *before]
    with kept_state() as kept:
        sys.path[:] = ["/nowhere"]
    assert sys.path == [own, *before]


def test_a_piece_that_says_nothing_is_not_named() -> None:
    assert Piece("a thing", int).named(1, 2) == "a thing (1 to 2)"
    assert Piece("a thing", int).named((1,), (2,)) == "a thing"
    assert Piece("a thing", int, told=lambda before, after: "").named(1, 2) == ""


IMPORTED = """
import os, sys, torch
torch.set_default_dtype(torch.float64)
sys.path.append(os.path.join(os.path.dirname(__file__), "more"))

class Late(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        import late_{number}
        self.proj = torch.nn.Linear(dim, dim)

    def forward(self, x):
        return self.proj(x)
"""


@pytest.mark.parametrize(("number", "by"), [(1, "file"), (2, "name")])
def test_a_file_may_look_later_where_it_said_it_would(
    number: int, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dtype is nobody's, and the folder that it added is still there when it runs."""
    # What packages add below theirs is nobody's state.
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if "site-packages/" not in folder])
    monkeypatch.setattr("attnbench.targets.state.of_python._LOOKED_IN", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / f"late_{number}.py").write_text("")
    (tmp_path / f"imported_{number}.py").write_text(IMPORTED.replace("{number}", str(number)))
    text = f"imported_{number}.py:Late" if by == "file" else f"imported_{number}:Late"
    locate(text)
    assert torch.get_default_dtype() == torch.float32
    assert set_back_after_import(text) == ("torch's default dtype (torch.float32 to torch.float64)",)
    with kept_state():
        built = build(Case(text, tokens=4, dim=8, layout="bnc"), "cpu")
    assert built.module.proj.weight.dtype == torch.float32
    build(Case(text, tokens=4, dim=8, layout="bnc"), "cpu")


def test_nothing_is_set_back_after_what_changes_nothing() -> None:
    locate("se")
    assert set_back_after_import("se") == ()
    assert set_back_after_import("nowhere.py:M") == ()
