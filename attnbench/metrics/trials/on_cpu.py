"""Tries on the CPU: its clock, the load of others, the allocator's events, and what the process had resident."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from attnbench.core.errors import named
from attnbench.core.units import MIB, significant
from attnbench.metrics.footprint.cpu_allocator import Account, followed
from attnbench.metrics.footprint.parts import Unknown
from attnbench.metrics.footprint.resident import resident_peak
from attnbench.metrics.hardware import OtherLoad, own_cpus
from attnbench.metrics.trials.answer import Answer, no, partly, yes

__all__ = ["allocator_events", "builds", "compiler", "host_clock", "host_load", "no_compiler", "resident"]

# Blocks of steps last about a millisecond: a clock that moves by a hundredth of it is too coarse for a single block.
_COARSE_NS = 10_000
_READS, _ROUNDS = 1000, 1000
_LOOK_S = 0.5


def host_clock(device: str, clock_ns: Callable[[], int] = time.perf_counter_ns) -> Answer:
    """By how little the clock was seen to move, and what reading it costs."""
    for _ in range(_ROUNDS):
        times = [clock_ns() for _ in range(_READS)]
        steps = [after - before for before, after in pairwise(times) if after > before]
        if steps:
            return _clock(min(steps), (times[-1] - times[0]) / (_READS - 1))
    return no("the host's clock was not seen to move")


def _clock(step_ns: int, read_ns: float) -> Answer:
    how = f"the host's clock (perf_counter_ns) around blocks of steps of 1 ms; it moves by {step_ns:,} ns or less"
    if step_ns > _COARSE_NS:  # which says nothing of what a read costs
        return partly(f"{how}, which is coarse", "trust what takes long, and give it more --max-time", step_ns=step_ns)
    return yes(f"{how}, and a read takes {significant(read_ns, 2)} ns or less", step_ns=step_ns, read_ns=read_ns)


def host_load(device: str, wait: Callable[[float], None] = time.sleep) -> Answer:
    """How many cores others keep busy now."""
    load = OtherLoad()
    wait(_LOOK_S)
    cores = load.cores()
    if cores is None:
        return no("this system does not tell the load of its CPUs (/proc/stat)")
    all_cpus = os.cpu_count() or 1
    own = len(own_cpus()) or all_cpus
    how = f"/proc/stat: others keep {cores:.1f} of {all_cpus} CPUs busy now"
    if own >= all_cpus:
        return yes(how, other_cores=cores)
    return partly(f"{how}; it does not tell which, and this process may use {own} of them: load on the others is taken "
                  "for load on these", other_cores=cores)  # fmt: skip


def allocator_events(device: str) -> Answer:
    """Whether the allocator tells of a block that is taken and given back."""
    account = Account()
    with followed(account):
        block = torch.empty(MIB, dtype=torch.uint8)
        del block
    if account.peak >= MIB and account.now == 0:
        return yes("the CPU allocator's own events: a block of 1 MiB was seen to come and go")
    return no("torch's profiler did not tell of a block of 1 MiB that was taken and given back")


def resident(device: str) -> Answer:
    """Whether the most that the process had resident can be read, and reset before a step."""
    found = resident_peak(lambda: None)
    how = found.method.removeprefix("the process's peak: ")
    if isinstance(found.peak, Unknown):
        return no(found.peak.why)
    return yes(how) if "reset before" in how else partly(how)


def compiler(device: str) -> Answer:
    """Whether the C++ compiler that torch.compile would take makes a library."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return builds(get_cpp_compiler())
    except Exception as error:  # torch finds none
        return no_compiler(error)


def no_compiler(error: Exception) -> Answer:
    """The answer where torch.compile does not get as far as to compile."""
    cause = getattr(error, "inner_exception", None) or error  # without what dynamo wraps around it
    return no(f"torch.compile cannot be used here: {named(cause)}",
              "on a CPU it needs a C++ compiler (CXX), on a GPU Triton and a C compiler (CC)")  # fmt: skip


def builds(compiler: str) -> Answer:
    """Whether the C++ compiler of that name makes a library of one line."""
    tried = "torch.compile itself is tried without --quick"
    if os.name != "posix":  # others are called in another way, and torch has looked whether it is there
        return partly(f"{compiler} is there; {tried}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "one.cpp"
        source.write_text("int one() { return 1; }\n")
        words = [compiler, "-shared", "-fPIC", str(source), "-o", str(source.with_suffix(".so"))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return yes(f"{compiler} compiles; {tried}")
    return no(f"{compiler} does not compile: {done.stderr.strip().partition(chr(10))[0]}")
