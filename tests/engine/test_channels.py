"""A worker under every fault that costs it: how it ended is told, what it said before is heard, and another answers."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbench.core.errors import UsageError
from attnbench.engine.workers import worker_process
from attnbench.engine.workers.channels import Event, WorkerChannel, WorkerDied
from attnbench.engine.workers.obituary import kernel_kills

HERE = Path(__file__).parent
ENV = {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "targets")])}


def light(**given: object) -> WorkerChannel:
    """A channel whose worker is there in a tenth of a second."""
    return WorkerChannel(env=ENV, **given)


@pytest.fixture(scope="module", autouse=True)
def light_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "_WORKER", (str(HERE / "light_worker.py"),))
        yield


@pytest.fixture(scope="module")
def channel(light_workers: None) -> Iterator[WorkerChannel]:
    channel = light(quiet=True)
    yield channel
    channel.close()


def answers(channel: WorkerChannel, word: str = "good") -> bool:
    """Whether it does what it should, in time."""
    heard = list(channel.ask({"do": "nothing", "word": word}, 10))
    return [each.get("word", each.get("status")) for each in heard] == [word, "ok"]


def died(channel: WorkerChannel, fault: str, timeout: float | None = 10) -> WorkerDied:
    """How the worker ended; what it had said by then was heard."""
    heard: list[Event] = []
    with pytest.raises(WorkerDied) as caught:
        for event in channel.ask({"do": fault, "word": "before"}, timeout):
            heard.append(event)  # noqa: PERF402 - it ends with an exception
    assert heard == [{"event": "word", "word": "before"}]
    return caught.value


HERE_IT_WAS = r" in faults\.py, line \d+, "


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("segfault", "crashed", rf"it crashed the worker process \(SIGSEGV\){HERE_IT_WAS}segfault"),
        ("fpe", "crashed", rf"it crashed the worker process \(SIGFPE\){HERE_IT_WAS}fpe"),
        ("bus", "crashed", rf"it crashed the worker process \(SIGBUS\){HERE_IT_WAS}bus"),
        ("ill", "crashed", rf"it crashed the worker process \(SIGILL\){HERE_IT_WAS}ill"),
        ("abort", "crashed", rf"it crashed the worker process \(SIGABRT\){HERE_IT_WAS}abort"),
        ("assertion", "crashed", rf"it crashed the worker process \(SIGABRT\){HERE_IT_WAS}assertion; its last words: "
                                 r"ld: my_kernel\.cc:12: launch: Assertion `blocks > 0' failed\."),
        ("thrown", "crashed", rf"it crashed the worker process \(SIGABRT\){HERE_IT_WAS}cpp; its last words: terminate "
                              r"called after throwing an instance of 'std::runtime_error' what\(\):  no such kernel"),
        ("thrown_bad_alloc", "oom", "it ended the worker process for want of memory: terminate called after throwing "
                                    r"an instance of 'std::bad_alloc' what\(\):  std::bad_alloc"),
        ("no_thread", "oom", "it ended the worker process for want of memory: libgomp: Thread creation failed: "
                             "Resource temporarily unavailable"),
        ("exit_3", "crashed", "it ended the worker process with exit code 3"),
        ("exit_0", "crashed", "it ended the worker process with exit code 0"),
        ("exit_with_words", "crashed", "it ended the worker process with exit code 1; its last words: my_library: "
                                       "licence expired"),
        ("sigterm", "crashed", rf"the worker process was told to end \(SIGTERM\){HERE_IT_WAS}sigterm"),
        ("real_time_signal", "crashed", r"it crashed the worker process \(signal \d+\)"),
        ("write_to_all_pipes", "crashed", r"it wrote into the pipe that its worker answers through: "
                                          r"'\\ufffd\\ufffd\{\]'"),
        ("forge_an_answer", "crashed", "it wrote into the pipe that its worker answers through: "
                                       r"""'\{"event": "done", "status": "ok", "reaso\\u2026'"""),
        ("close_everything", "crashed", "it closed the pipe that its worker answers through"),
        ("take_its_place", "crashed", "it closed the pipe that its worker answers through"),
    ],
)  # fmt: skip
def test_each_end_of_a_worker_is_told_in_a_sentence(
    channel: WorkerChannel, fault: str, status: str, reason: str
) -> None:
    death = died(channel, fault)
    assert death.status == status
    assert re.fullmatch(reason, str(death)), str(death)
    assert answers(channel)


def test_a_crash_in_a_thread_is_placed_where_that_thread_was(channel: WorkerChannel) -> None:
    reason = str(died(channel, "segfault_in_a_thread"))
    assert "(SIGSEGV)" in reason
    assert answers(channel)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python itself sees that the stack ends")
def test_a_stack_that_overflows_is_told_by_its_depth(channel: WorkerChannel) -> None:
    reason = str(died(channel, "overflow"))
    assert re.fullmatch(rf"it crashed the worker process \(SIGSEGV\), more than 100 calls deep,{HERE_IT_WAS}__call__",
                        reason), reason  # fmt: skip
    assert answers(channel)


@pytest.mark.parametrize(
    ("kills", "status", "reason"),
    [
        ([3, 3], "crashed", "the worker process was killed (SIGKILL), and not by the system's out-of-memory killer"),
        ([3, 4], "oom", "the system's out-of-memory killer ended the worker process"),
        ([None, None], "crashed", "the worker process was killed (SIGKILL)"),
    ],
)
def test_a_kill_is_the_out_of_memory_killers_if_that_has_struck(
    channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch, kills: list[int | None], status: str, reason: str
) -> None:
    counts = iter(kills)
    monkeypatch.setattr("attnbench.core.control_group.kills", lambda process: lambda: None)
    monkeypatch.setattr("attnbench.engine.workers.obituary._kills_of_the_system", lambda: next(counts))
    death = died(channel, "sigkill")
    assert (death.status, str(death)) == (status, reason)
    monkeypatch.undo()
    assert answers(channel)


VMSTAT = "pgfault 5\noom_kill 7\npswpin 0\n"
OWN, SYSTEM = "/sys/fs/cgroup/memory.events", "/proc/vmstat"


@pytest.mark.parametrize(
    ("before", "after", "struck"),
    [
        ({SYSTEM: VMSTAT}, {SYSTEM: VMSTAT.replace("7", "8")}, True),
        ({SYSTEM: VMSTAT}, {SYSTEM: VMSTAT}, False),
        # The group knows better: elsewhere on the machine somebody was killed.
        ({SYSTEM: VMSTAT, OWN: "oom_kill 1\n"}, {SYSTEM: VMSTAT.replace("7", "8"), OWN: "oom_kill 1\n"}, False),
        ({SYSTEM: VMSTAT, OWN: "oom_kill 1\n"}, {SYSTEM: VMSTAT, OWN: "oom_kill 2\n"}, True),
        ({SYSTEM: "pgfault 5\n"}, {SYSTEM: "pgfault 5\n"}, None),
        ({SYSTEM: "oom_kill many\n"}, {}, None),
        ({}, {}, None),
    ],
)
def test_kills_are_read_where_they_are_counted(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: dict[str, str], struck: bool | None
) -> None:
    files = before

    def read_text(path: Path, *_: object, **__: object) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    watch = kernel_kills(1)
    files = after
    assert watch() is struck


@pytest.mark.parametrize(
    ("fault", "where"),
    [("hang", "hang"), ("hang_with_the_lock", "hang_with_the_lock"), ("swallow", "swallow"), ("hang_deaf", "")],
)
def test_a_hang_is_given_up_and_placed(
    channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch, fault: str, where: str
) -> None:
    """Also one that holds Python's lock, or that does not listen any more."""
    monkeypatch.setattr(worker_process, "_TO_REPORT", 0.3)
    death = died(channel, fault, timeout=0.5)
    place = rf", in faults\.py, line \d+, {where}" if where else ""
    assert death.status == "timeout"
    assert re.fullmatch(rf"nothing came from it for 0\.5 s \(--timeout\){place}", str(death)), str(death)
    assert answers(channel)


def test_what_prints_for_ever_is_a_timeout_and_neither_floods_nor_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    channel = light()
    death = died(channel, "print_for_ever", timeout=1)
    printed = capsys.readouterr().err
    assert death.status == "timeout"
    assert re.fullmatch(r"nothing came from it for 1 s \(--timeout\) but what it prints, [\d.]+ [MG]iB so far, in "
                        r"faults\.py, line \d+, print_for_ever", str(death)), str(death)  # fmt: skip
    assert 64 * 1024 < len(printed) < 66 * 1024
    assert printed.endswith("\nattnbench: it prints more than 64 KiB; the rest is not shown.\n")
    assert answers(channel)
    channel.close()


def test_what_is_printed_is_shown_up_to_a_limit_for_each_request(capsys: pytest.CaptureFixture[str]) -> None:
    channel = light()
    for _ in range(2):
        assert [event["event"] for event in channel.ask({"do": "print_much"}, 10)] == ["word", "done"]
    list(channel.ask({"do": "print_bytes"}, 10))
    channel.close()
    printed = capsys.readouterr().err
    assert printed.count("the rest is not shown") == 2
    # Half a letter that another descriptor's follows is one; what is none is shown as such.
    assert printed.endswith("\ufffd\ufffd\x00 half a letter é and a bell \x07\n")


def test_a_quiet_channel_shows_nothing(channel: WorkerChannel, capfd: pytest.CaptureFixture[str]) -> None:
    list(channel.ask({"do": "print_much"}, 10))
    assert answers(channel)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = light()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        list(channel.ask({"do": "print_much"}, 10))
        assert answers(channel)
        channel.close()


@pytest.mark.parametrize(
    "fault",
    ["read_input", "print_bytes", "close_standard_streams", "close_stdout", "fork_and_go_on", "start_a_thread",
     "fork_a_child", "start_a_process"],
)  # fmt: skip
def test_what_does_not_end_the_worker_does_not_disturb_its_answers(channel: WorkerChannel, fault: str) -> None:
    assert [event["event"] for event in channel.ask({"do": fault}, 10)] == ["word", "done"]
    pid = channel._process.pid
    assert answers(channel, "ä\u2028\n")
    assert [event["event"] for event in channel.ask({"do": "print_bytes"}, 10)] == ["word", "done"]
    assert channel._process.pid == pid


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether no such process runs any more, or at least soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def children(pid: int) -> list[int]:
    return [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system has no /proc")


@needs_proc
@pytest.mark.parametrize("fault", ["fork_a_child", "start_a_process"])
def test_with_a_worker_goes_whatever_it_started(fault: str) -> None:
    channel = light(quiet=True)
    list(channel.ask({"do": fault}, 10))
    (child,) = children(channel._process.pid)
    channel.close()
    assert gone(child)


def test_nobody_waits_for_a_daemon_that_holds_the_pipes(channel: WorkerChannel) -> None:
    start = time.monotonic()
    assert str(died(channel, "exit_beside_a_daemon", 30)) == "it ended the worker process with exit code 5"
    assert answers(channel)
    assert time.monotonic() - start < 20  # and not the minute for which the daemon lives


PARENT = """
import sys
from attnbench.engine.workers import worker_process
from attnbench.engine.workers.channels import WorkerChannel
worker_process._WORKER = (sys.argv[1],)
channel = WorkerChannel(quiet=True)
for event in channel.ask({"do": sys.argv[2]}):
    print(channel._process.pid, flush=True)
"""


@needs_proc
@pytest.mark.parametrize("fault", ["hang", "hang_with_the_lock", "fork_a_child", "nothing"])
def test_the_parents_death_is_the_workers(fault: str) -> None:
    """Also in the middle of a case, while the case holds Python's lock, and of what the case started."""
    command = [sys.executable, "-c", PARENT, str(HERE / "light_worker.py"), fault]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | ENV)
    assert parent.stdout is not None
    with parent.stdout as said:
        worker = int(said.readline())
        if fault in ("fork_a_child", "nothing"):
            said.readline()  # the answer is over, and the worker waits for a request
        family = [worker, *children(worker)]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert len(family) == 1 + (fault == "fork_a_child")
    assert all(map(gone, family))


def test_a_worker_that_was_not_heard_out_answers_no_more(channel: WorkerChannel) -> None:
    """What it would say is no answer to the next request."""
    for _ in channel.ask({"do": "hang"}, 10):
        break
    assert answers(channel)


@needs_proc
def test_a_worker_that_is_spent_is_gone_at_once(channel: WorkerChannel) -> None:
    """What it left behind must not disturb anybody until the next request comes."""
    pid = channel._process.pid
    assert [event["event"] for event in channel.ask({"do": "nothing", "spent": True}, 10)] == ["word", "done"]
    assert gone(pid)
    assert answers(channel)
    assert channel._process.pid != pid


def test_a_channel_can_be_closed_while_it_is_asked(channel: WorkerChannel) -> None:
    channel = light(quiet=True)
    events = channel.ask({"do": "hang"}, 30)
    next(events)
    threading.Timer(0.1, channel.close).start()
    with pytest.raises(WorkerDied):
        next(events)


def test_a_worker_is_given_an_environment_of_its_own() -> None:
    channel = WorkerChannel(env={**ENV, "ATTNBENCH_TEST": "here"})
    words = Path(f"/proc/{channel._process.pid}/environ")
    assert answers(channel)
    assert b"ATTNBENCH_TEST=here" in words.read_bytes().split(b"\0")
    channel.close()


def test_a_worker_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = light(quiet=True)
    assert answers(channel)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    channel.fresh()
    with pytest.raises(WorkerDied, match="a worker process cannot be started: No such file or directory"):
        list(channel.ask({"do": "nothing"}, 10))
    monkeypatch.undo()
    assert answers(channel)
    channel.close()


def test_a_worker_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_WORKER", ("-c", "import no_such_library"))
    channel = light(quiet=True)
    with pytest.raises(WorkerDied, match="exit code 1; its last words: ModuleNotFoundError: No module named 'no_such_"):
        list(channel.ask({"do": "nothing"}, 10))
    channel.close()


def test_a_debuggers_channel_has_no_fresh_process() -> None:
    from attnbench.engine.workers.channels import InlineChannel

    with pytest.raises(UsageError, match="leave --no-isolate away"):
        InlineChannel().fresh()
