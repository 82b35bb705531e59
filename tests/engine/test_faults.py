"""Faults of a module as a sweep sees them: a row with a status and its reason, what was counted before the fault, and
a neighbour behind it that is measured as if nothing had been."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.engine.asking import measured, on_device, resolution, resolved
from attnbench.engine.workers.channels import InlineChannel, WorkerChannel
from attnbench.metrics.metric import Options

FILE = str(Path(__file__).parents[1] / "targets" / "user_modules.py")
QUICK = Options(metrics=("params", "macs", "predicted_memory", "latency"), max_time=0.02)
GOOD = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw")
# What goes by without anybody's doing.
_PASSING = ("started_at", "load_average", "other_load", "clocks", "throttle_reasons", "git_commit")


def faulty(fault: str, **other: Any) -> Case:
    return Case(f"{FILE}:Faulty", params=(("fault", fault),), tokens=16, dim=8, layout="bnc", **other)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerChannel]:
    channel = WorkerChannel(quiet=True)
    (case,) = on_device([GOOD.with_(device="auto")], channel, Options(threads=1))
    assert case.device in ("cpu", "cuda")
    yield channel
    channel.close()


@pytest.fixture(scope="module")
def unharmed(worker: WorkerChannel) -> Record:
    """The neighbour, before anybody did anything."""
    return measured(GOOD, worker, QUICK)


def circumstances(record: Record) -> Mapping[str, Any]:
    """Everything that should be the same of the same case, whoever came before it."""
    static = {each.name: each.value for each in record.readings if each.name.startswith("static.")}
    env = {name: value for name, value in record.env.items() if name not in _PASSING}
    return static | env | {"state": states(record)}


def assert_unharmed(worker: WorkerChannel, before: Record) -> None:
    after = measured(GOOD, worker, QUICK, timeout=60)
    assert after.ok, after.reason
    assert after.value("latency.median_ms") > 0
    assert circumstances(after) == circumstances(before)


def states(record: Record) -> list[str]:
    return [note.text for note in record.notes if note.kind == "state"]


MORE = r"can't allocate memory: it asked for [\d.]+ [GM]iB more"
FREE = r"; [\d.]+ GiB were free on the host when it began"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("raises", "error", r"RuntimeError: I do not feel like it \(faults\.py, line \d+, raises\)"),
        ("raises_unspeakable", "error", r"Unspeakable \(faults\.py, line \d+, raises_unspeakable\)"),
        ("raises_at_length", "error", r"RuntimeError: o{1000}… \(faults\.py, line \d+, raises_at_length\)"),
        ("raises_what_cannot_be_built", "error", r"TypeError: .*missing 2 required positional arguments.*"),
        ("raises_surrogates", "error", "ValueError: caf\udce9 .*"),
        ("raises_interrupt", "error", r"KeyboardInterrupt \(faults\.py, line \d+, raises_interrupt\)"),
        ("raises_generator_exit", "error", r"GeneratorExit \(faults\.py, line \d+, raises_generator_exit\)"),
        ("raises_stop_iteration", "error", r"StopIteration \(faults\.py, line \d+, raises_stop_iteration\)"),
        ("recursion", "error", r"RecursionError: maximum recursion depth .* \(faults\.py, line \d+, recursion\)"),
        ("sys_exit_4", "crashed", r"it asked the process to end with exit code 4 \(faults\.py, line \d+, sys_exit_4\)"),
        ("sys_exit_words", "crashed", r"it asked the process to end with exit code 1 \(.*\)"),
        ("at_once", "oom", rf"{MORE} \(user_modules\.py, line \d+, _at_once\){FREE}"),
        ("bit_by_bit", "oom", rf"{MORE} \(user_modules\.py, line \d+, _bit_by_bit\){FREE}"),
        ("arrays", "oom", rf".*Unable to allocate 256\. MiB.* \(user_modules\.py, line \d+, _arrays\){FREE}"),
        ("nan", "incorrect", "its output holds NaN or infinity.*"),
    ],
)
def test_what_a_module_raises_is_a_row_and_the_worker_goes_on(
    worker: WorkerChannel, unharmed: Record, fault: str, status: str, reason: str
) -> None:
    pid = worker._process.pid
    record = measured(faulty(fault), worker, QUICK)
    assert record.status == status, record.reason
    assert re.fullmatch(reason, record.reason), record.reason
    assert record.value("static.params") == 8 * 8 + 8
    assert record.value("static.macs") == 16 * 8 * 8
    assert_unharmed(worker, unharmed)
    assert worker._process.pid == pid


@pytest.mark.parametrize("fault", ["print_much", "read_input", "close_standard_streams", "fork_and_go_on"])
def test_what_disturbs_nobody_is_measured(worker: WorkerChannel, unharmed: Record, fault: str) -> None:
    record = measured(faulty(fault), worker, QUICK, timeout=60)
    assert record.ok, record.reason
    assert record.value("latency.median_ms") > 0
    assert_unharmed(worker, unharmed)


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("segfault", "crashed", r"it crashed the worker process \(SIGSEGV\) in faults\.py, line \d+, segfault"),
        ("exit_3", "crashed", "it ended the worker process with exit code 3"),
        ("sigkill", "crashed", r"the worker process was killed \(SIGKILL\).*"),
        ("close_everything", "crashed", "it closed the pipe that its worker answers through"),
        # 4 s, and twice the 0.02 s of sampling.
        ("hang", "timeout", r"nothing came from it for 4\.04 s \(--timeout\), in faults\.py, line \d+, hang"),
    ],
)
def test_what_ends_a_worker_is_a_row_and_costs_only_its_own_case(
    worker: WorkerChannel, unharmed: Record, fault: str, status: str, reason: str
) -> None:
    record = measured(faulty(fault), worker, QUICK, timeout=4 if fault == "hang" else 60)
    assert record.status == status, record.reason
    assert re.fullmatch(reason, record.reason), record.reason
    assert record.value("static.params") == 8 * 8 + 8
    assert record.value("static.macs") == 16 * 8 * 8
    assert_unharmed(worker, unharmed)  # its threads too, which the first worker was told


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("start_a_thread", "it left a running thread"),
        ("fork_a_child", "it left a running process"),
        ("keep", r"it left 1\.\d GiB of memory"),
    ],
)
def test_what_a_case_leaves_behind_the_next_one_does_not_meet(
    worker: WorkerChannel, unharmed: Record, fault: str, left: str
) -> None:
    pid = worker._process.pid
    record = measured(faulty(fault), worker, QUICK, timeout=60)
    assert record.ok, record.reason
    (text,) = states(record)
    assert re.fullmatch(f"{left} behind: where a worker process measures, the next case has a fresh one", text), text
    assert_unharmed(worker, unharmed)
    assert worker._process.pid != pid


def test_switches_of_the_whole_process_are_set_back_and_named(worker: WorkerChannel, unharmed: Record) -> None:
    record = measured(faulty("switch"), worker, QUICK)
    (text,) = states(record)
    for name in ("torch's default dtype (torch.float32 to torch.float64)", "torch's number of threads (1 to 3)",
                 "torch's deterministic algorithms", "torch.backends.cudnn", "torch's precision of fp32",
                 "torch's anomaly detection", "torch's flushing of denormal numbers"):  # fmt: skip
        assert name in text
    assert "random" not in text
    assert text.endswith("for the whole process, and was measured with that: for the next case it was set back")
    record = measured(faulty("change_the_process"), worker, QUICK)
    (text,) = states(record)
    for name in ("os.environ (ATTNBENCH_WAS_HERE, PATH)", "the working folder", "sys.path", "warning filters (error)",
                 "the root logger", "the recursion limit", "signal handlers (SIGUSR1)", "an alarm clock"):  # fmt: skip
        assert name in text, text
    pid = worker._process.pid
    assert_unharmed(worker, unharmed)
    assert worker._process.pid == pid


WISHES = """
import os, random, torch
torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)
torch.backends.cudnn.benchmark = True
os.environ["ATTNBENCH_WISH"] = "granted"

class Wishful(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = torch.nn.Linear(dim, dim)
        self.luck = random.random()
        self.note = os.environ.get("ATTNBENCH_WISH")

    def forward(self, x):
        if self.note is not None or self.proj.weight.dtype != torch.float32:
            raise RuntimeError("granted")
        if x.device.type != "meta" and type(x) is torch.Tensor:
            raise RuntimeError(f"so lucky: {self.luck}")
        return self.proj(x)
"""


def test_what_a_file_sets_while_it_is_imported_holds_for_no_case(
    worker: WorkerChannel, unharmed: Record, tmp_path: Path
) -> None:
    """It is imported once for many cases: the first and the later ones are asked the same question."""
    (tmp_path / "wishful.py").write_text(WISHES)
    case = Case(f"{tmp_path}/wishful.py:Wishful", tokens=16, dim=8, layout="bnc")
    first, second = (measured(case, worker, QUICK) for _ in range(2))
    worker.fresh()
    third = measured(case, worker, QUICK)
    for record in (first, second, third):
        assert re.match("RuntimeError: so lucky: 0.51127", record.reason)  # Python's own numbers begin at the seed
        assert record.value("static.predicted_weights_bytes") == 4 * (8 * 8 + 8)
        assert record.env["threads"] == 1
        assert record.env["flags"]["cudnn_benchmark"] is False
        (text,) = states(record)
        assert text == ("while it was imported it changed torch's default dtype (torch.float32 to torch.float64), "
                        "torch's number of threads (1 to 2), torch.backends.cudnn and os.environ (ATTNBENCH_WISH) for "
                        "the whole process: that was set back, and it was measured without")  # fmt: skip
    assert_unharmed(worker, unharmed)


BROKEN = """
import torch

class Broken(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = torch.nn.Linear(dim, dim)

    def forward(self, x):
        def fail():
            raise RuntimeError("CUDA error: device-side assert triggered")
        torch.cuda.is_initialized = lambda: True
        torch.cuda.memory_allocated = lambda *device: 0
        torch.cuda.synchronize = fail
        fail()
"""


def test_after_an_error_that_stays_the_next_case_has_another_worker(
    worker: WorkerChannel, unharmed: Record, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    pid = worker._process.pid
    case = Case(f"{tmp_path}/broken.py:Broken", tokens=16, dim=8, layout="bnc", device="cuda")
    record = measured(case, worker, Options(metrics=("params",)))
    assert not record.ok
    assert_unharmed(worker, unharmed)
    assert worker._process.pid != pid


def test_more_than_a_limit_is_not_started(worker: WorkerChannel) -> None:
    record = measured(GOOD.with_(height=64, width=64, tokens=4096), worker, Options(max_time=0.02, mem_limit=200_000))
    assert (record.status, record.reason) == ("oom", "not started: it needs 256.2 KiB and --mem-limit allows 195.3 KiB")
    assert record.value("static.macs") is not None


def test_what_takes_more_than_a_limit_unforeseen_is_stopped(worker: WorkerChannel, unharmed: Record) -> None:
    limited = Options(metrics=QUICK.metrics, max_time=0.02, mem_limit=64 * 2**20)
    record = measured(faulty("objects"), worker, limited, timeout=60)
    assert record.status == "oom"
    assert re.fullmatch(r"out of memory( \(.*\))?; --mem-limit allows 64\.0 MiB", record.reason), record.reason
    assert measured(GOOD, worker, limited).ok
    assert_unharmed(worker, unharmed)


@pytest.mark.parametrize("fault", ["raises_generator_exit", "sys_exit_4", "raises_stop_iteration", "bit_by_bit"])
def test_without_a_worker_the_same_are_rows(fault: str) -> None:
    import torch

    dtype, path = torch.get_default_dtype(), resolution(GOOD, InlineChannel())
    assert isinstance(path, Case)
    assert not measured(faulty(fault), InlineChannel(), QUICK).ok
    assert measured(GOOD, InlineChannel(), QUICK).ok
    assert torch.get_default_dtype() == dtype


def test_without_a_worker_ctrl_c_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(faulty("raises_interrupt"), InlineChannel(), QUICK)


def test_a_file_that_hangs_while_it_is_imported_is_refused(worker: WorkerChannel, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(UsageError, match=r"nothing came from it for 2 s \(--timeout\), in slow.py, line 2"):
        resolved([Case(f"{tmp_path}/slow.py:M", tokens=4, dim=4)], worker, timeout=2)
