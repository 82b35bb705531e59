"""What a case may take: refused before it starts, capped while it runs, told in a sentence, and nobody else's limit."""

import errno
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attnbench.core.case import Case
from attnbench.core.errors import OutOfMemoryError, UnsupportedError
from attnbench.engine.measure import _guard
from attnbench.engine.memory_cap import host_kept_free, is_out_of_memory, out_of_memory, within_limit
from attnbench.engine.workers import spent
from attnbench.engine.workers.spent import Before, is_broken

MIB, GIB = 2**20, 2**30
CASE = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to such a limit")


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                      "tried to allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("could not create a memory object"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (ValueError("out of memory"), False),
        (RuntimeError("out of resource: shared memory, required: 200000, hardware limit: 166912"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OutOfMemoryError("not started: it needs more"), False),  # which says it already
    ],
)  # fmt: skip
def test_a_lack_of_memory_is_known_in_all_its_words(error: Exception, lacks: bool) -> None:
    assert is_out_of_memory(error) is lacks


def test_a_lack_of_memory_is_told_in_words_and_bytes() -> None:
    text = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes. Error 12"
    assert out_of_memory(RuntimeError(text)) == "can't allocate memory: it asked for 1.0 GiB more"
    assert out_of_memory(MemoryError()) == "out of memory"
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")) == "CUDA out of memory"


@linux
@pytest.mark.parametrize("take", [lambda: bytearray(GIB), lambda: torch.empty(GIB, dtype=torch.uint8)])
def test_the_limit_holds_while_it_runs_and_no_longer(take) -> None:
    before = soft_limit()
    with pytest.raises(OutOfMemoryError, match=r"--mem-limit allows 10\.0 MiB$"), within_limit("cpu", 10 * MIB):
        assert soft_limit() > 0
        take()
    assert soft_limit() == before
    take()
    with within_limit("cpu", 2 * GIB):
        take()
    with within_limit("cpu", None):
        assert soft_limit() == before


@linux
def test_the_host_is_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.engine.memory_cap.free_bytes", lambda device: 100 * MIB)
    before = soft_limit()
    told = r"; 100\.0 MiB were free on the host when it began$"
    with pytest.raises(OutOfMemoryError, match=told), host_kept_free("cpu"):
        bytearray(GIB)
    with host_kept_free("cuda"):  # where the driver takes addresses as it likes
        assert soft_limit() == before
        bytearray(GIB)


@linux
def test_other_errors_pass_and_the_limit_is_put_back() -> None:
    before = soft_limit()
    with pytest.raises(UnsupportedError, match="no"), within_limit("cpu", 10 * MIB):
        raise UnsupportedError("no")
    assert soft_limit() == before


@linux
def test_a_tighter_limit_of_the_users_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    now = int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line))
    resource.setrlimit(resource.RLIMIT_DATA, (now * 1024 + GIB, before[1]))
    try:
        with within_limit("cpu", 100 * GIB):
            assert soft_limit() == now * 1024 + GIB
        assert soft_limit() == now * 1024 + GIB
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize("status", [None, "Name: x\n", "VmData: many kB\n"])
def test_where_the_system_does_not_tell_nothing_is_capped(monkeypatch: pytest.MonkeyPatch, status: str | None) -> None:
    def read_text(path: Path) -> str:
        if status is None:
            raise FileNotFoundError(path)
        return status

    monkeypatch.setattr(Path, "read_text", read_text)
    before = soft_limit()
    with within_limit("cpu", MIB):
        assert soft_limit() == before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A CUDA device of 8 GiB, of which 5 are free, whose allocator holds 1."""
    seen = SimpleNamespace(fractions=[], allocated=0, broken=False)

    def synchronize() -> None:
        if seen.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "mem_get_info": lambda device: (5 * GIB, 8 * GIB),
        "memory_reserved": lambda device: GIB,
        "memory_allocated": lambda: seen.allocated,
        "set_per_process_memory_fraction": lambda fraction, device: seen.fractions.append((fraction, device)),
        "synchronize": synchronize,
    }
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(spent, "release_memory", lambda: None)
    return seen


def test_on_a_gpu_the_allocator_holds_the_limit(gpu: SimpleNamespace) -> None:
    told = r"^CUDA out of memory \(test_memory_cap\.py, line .*\); --mem-limit allows 3\.0 GiB$"
    with pytest.raises(OutOfMemoryError, match=told), within_limit("cuda:1", 3 * GIB):
        assert gpu.fractions == [(0.5, "cuda:1")]  # the gibibyte that it holds already, and three more, of eight
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert gpu.fractions == [(0.5, "cuda:1"), (1.0, "cuda:1")]
    with within_limit("cuda", 100 * GIB):
        assert gpu.fractions[-1] == (1.0, "cuda")


def test_on_a_gpu_only_what_none_of_it_could_hold_is_not_tried(gpu: SimpleNamespace) -> None:
    case = CASE.with_(device="cuda")
    _guard(case, 7 * GIB, None)  # more than is free: others may go, and CUDA refuses cleanly
    with pytest.raises(OutOfMemoryError, match=r"^not started: it needs 9\.0 GiB and cuda has 8\.0 GiB in all$"):
        _guard(case, 9 * GIB, None)
    with pytest.raises(OutOfMemoryError, match=r"^not started: it needs 7\.0 GiB and --mem-limit allows 6\.0 GiB$"):
        _guard(case, 7 * GIB, 6 * GIB)


def test_without_a_gpu_there_is_nothing_to_ask() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    _guard(CASE.with_(device="cuda"), 100_000 * GIB, None)
    with within_limit("cuda", GIB):
        pass


def test_what_could_not_be_predicted_needs_its_weights(gpu: SimpleNamespace) -> None:
    with pytest.raises(OutOfMemoryError, match=r"^not started: it needs \d+ B and --mem-limit allows 10 B$"):
        _guard(CASE, None, 10)
    _guard(CASE, None, MIB)


def test_a_context_that_is_broken_is_found_by_asking_it(gpu: SimpleNamespace) -> None:
    cuda = CASE.with_(device="cuda")
    assert not is_broken(cuda)
    assert is_broken(cuda.with_(engine="cudagraph"))  # a recording may have been broken off
    gpu.broken = True
    assert is_broken(cuda)
    assert not is_broken(CASE)


def test_a_context_that_never_was_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert not is_broken(CASE.with_(device="cuda", engine="cudagraph"))


def test_memory_that_a_case_keeps_on_a_gpu_is_left_behind(gpu: SimpleNamespace) -> None:
    before = Before.now()
    gpu.allocated = 100 * MIB
    assert before.left_behind(CASE) == []
    gpu.allocated = 2 * GIB
    assert before.left_behind(CASE) == ["2.0 GiB of the device's memory"]
