"""Crews and sessions over canned lanes: one Record for each Question, whoever is lost; what is stored is left out."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from canned_channels import Answer
from canned_lanes import Machine, lane

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Reading, Record
from attnbench.core.store import Store, load
from attnbench.engine.crew import Crew
from attnbench.engine.executors.executor import Lane, LaneLost, Wanted
from attnbench.engine.executors.local import lanes, spelled_out
from attnbench.engine.question import Question
from attnbench.engine.session import prepared
from attnbench.engine.workers.channels import Event, WorkerDied
from attnbench.metrics.metric import Options

OPTIONS = Options(metrics=("static",))


def questions(count: int, **changes: object) -> list[Question]:
    case = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw", device="cpu")
    return [Question(case.with_(seed=seed, **changes), OPTIONS) for seed in range(count)]


def seeds(records: list[Record]) -> list[int]:
    return [record.case.seed for record in records]


def run(crew: Crew, asked: list[Question], path: Path | None = None, *, resume: bool = False) -> list[Record]:
    session = prepared(asked, crew, path if resume else None)
    return [*session.kept, *session.records(crew, None if path is None else Store(path))]


def test_one_lane_answers_in_order_and_nothing_is_added_to_its_records() -> None:
    records = run(Crew([lane(Machine())]), questions(3))
    assert seeds(records) == [0, 1, 2]
    assert "neighbours" not in records[0].env


def test_several_lanes_share_the_questions_and_each_is_answered_once() -> None:
    both = threading.Barrier(2, timeout=20)

    def together(case: Case) -> Answer:
        both.wait()  # two of them are at it at the same time, or this breaks
        return []

    machines = [Machine(together), Machine(together)]
    crew = Crew([lane(machine, f"cuda:{n}", "here", "cuda", device_index=n) for n, machine in enumerate(machines)])
    records = run(crew, questions(20, device="cuda"))
    assert sorted(seeds(records)) == list(range(20))
    assert [len(machine.measured) for machine in machines] == [10, 10]
    assert {record.env["device_index"] for record in records} == {0, 1}
    assert {record.env["neighbours"] for record in records} == {1}
    assert {record.env["host"] for record in records} == {"here"}
    crew.close()
    assert all(machine.closed for machine in machines)


@pytest.mark.parametrize(
    ("device", "launch_bound", "doubted"), [("cpu", None, True), ("cuda", False, False), ("cuda", True, True)]
)
def test_neighbours_are_a_doubt_where_they_share_what_is_measured(
    device: str, launch_bound: bool | None, doubted: bool
) -> None:
    both = threading.Barrier(2, timeout=20)

    def timed(case: Case) -> Answer:
        both.wait()
        return [Reading("latency.median_ms", 1.0, "ms"), Reading("latency.launch_bound", launch_bound)]

    crew = Crew([lane(Machine(timed), name, "here", device) for name in "ab"])
    notes = [note.kind for record in run(crew, questions(2, device=device)) for note in record.notes]
    assert ("neighbours" in notes) is doubted


def test_lanes_of_two_hosts_are_no_neighbours() -> None:
    both = threading.Barrier(2, timeout=20)

    def timed(case: Case) -> Answer:
        both.wait()
        return [Reading("latency.median_ms", 1.0, "ms")]

    crew = Crew([lane(Machine(timed), host, host, "cpu") for host in ("one", "two")])
    records = run(crew, questions(2))
    assert {record.env["neighbours"] for record in records} == {0}
    assert not any(note.kind == "neighbours" for record in records for note in record.notes)


class Dying:
    """A lane whose machine is lost in the middle of the Cases with these seeds, and that can be opened so often."""

    def __init__(self, fatal: set[int], openings: int = 1000) -> None:
        self.fatal, self.openings, self.opened = fatal, openings, 0

    def open(self) -> Machine:
        self.opened += 1
        if self.opened > self.openings:
            raise LaneLost("no machine is left")
        return Machine(self.measure)

    def measure(self, case: Case) -> Answer:
        if case.seed in self.fatal:
            self.fatal.discard(case.seed)
            raise LaneLost(f"the machine went away under {case.seed}")
        return []


@pytest.mark.parametrize("count", [1, 3])
def test_a_case_whose_machine_is_lost_is_measured_on_another(count: int) -> None:
    dying = Dying({2, 5})
    crew = Crew([Lane("a", dying.open), *(lane(Machine()) for _ in range(count - 1))])
    records = run(crew, questions(8))
    assert sorted(seeds(records)) == list(range(8))
    assert {record.status for record in records} == {"ok"}
    lost = {record.case.seed for record in records if record.env.get("machines_lost")}
    assert lost == {2, 5} - dying.fatal  # the other lanes may have been quicker than that one


@pytest.mark.parametrize("count", [1, 3])
def test_a_case_that_loses_two_machines_is_a_crash_and_no_third_one_is_risked(tmp_path: Path, count: int) -> None:
    def poisonous(case: Case) -> Answer:
        if case.seed == 1:
            raise LaneLost("the machine burns")
        return []

    machines, path = [Machine(poisonous) for _ in range(count)], tmp_path / "r.jsonl"
    crew = Crew([lane(machine) for machine in machines])
    by_seed = {record.case.seed: record for record in run(crew, questions(4), path)}
    assert sorted(by_seed) == [0, 1, 2, 3]
    assert by_seed[1].status == "crashed"
    assert by_seed[1].reason == "2 machines were lost while they measured it: the machine burns"
    assert sum(case.seed == 1 for machine in machines for case in machine.measured) == 2
    assert len(run(Crew([lane(machine) for machine in machines]), questions(4), path, resume=True)) == 4
    assert sum(len(machine.measured) for machine in machines) == 5, "to go on risks nobody again"


def test_when_all_lanes_are_lost_what_is_left_is_said_and_what_is_there_is_kept(tmp_path: Path) -> None:
    gone = [Dying({2}, openings=1), Dying({3}, openings=1)]
    path = tmp_path / "r.jsonl"
    crew = Crew([Lane(f"{n}", each.open) for n, each in enumerate(gone)])
    with pytest.raises(CannotJudgeError, match=r"cases are left, and nobody to measure them: no machine is left"):
        run(crew, questions(9), path)
    kept = load(path).records
    assert len(kept) == len(set(seeds(list(kept)))) < 9
    records = run(Crew([lane(Machine())]), questions(9), path, resume=True)
    assert sorted(seeds(records)) == list(range(9))
    assert len(load(path).records) == 9


def test_the_only_lane_is_lost_for_good_and_no_case_is_blamed_for_it(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(CannotJudgeError, match="7 cases are left, and nobody to measure them: no machine is left"):
        run(Crew([Lane("a", Dying({2}, openings=1).open)]), questions(9), path)
    assert [(record.case.seed, record.status) for record in load(path).records] == [(0, "ok"), (1, "ok")]


def test_a_lane_that_is_lost_before_it_has_measured_anything_is_left_out() -> None:
    class Gone(Machine):
        def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
            raise LaneLost("it went away")
            yield

    records = run(Crew([lane(Gone(), "a"), lane(Machine(), "b")]), questions(3))
    assert seeds(records) == [0, 1, 2]
    with pytest.raises(CannotJudgeError, match="nothing can be measured: it went away"):
        run(Crew([lane(Gone())]), questions(3))


@pytest.mark.parametrize("losses", [1, 2])
def test_a_machine_that_is_lost_over_what_a_case_leaves_open_is_replaced(losses: int) -> None:
    left = ["it went away"] * losses

    def resolve(case: Case) -> Case:
        if left:
            raise LaneLost(left.pop())
        return case

    crew = Crew([lane(Machine(resolve=resolve))])
    if losses == 1:
        assert seeds(run(crew, questions(2))) == [0, 1]
        return
    by_seed = {record.case.seed: record.status for record in run(crew, [*questions(1, dim=16), *questions(2)[1:]])}
    assert by_seed == {0: "crashed", 1: "ok"}


def test_no_lane_at_all_is_said() -> None:
    with pytest.raises(CannotJudgeError, match="nothing can be measured: no machine is left"):
        run(Crew([Lane("a", Dying(set(), openings=0).open)]), questions(1))


def test_a_fault_of_attnbench_itself_in_a_lane_is_not_swallowed() -> None:
    def broken(case: Case) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Crew([lane(Machine(broken)), lane(Machine(broken))]), questions(5))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Interrupts are heard here as they are in a terminal; a session of several workers ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_between_lanes_keeps_what_is_finished(tmp_path: Path) -> None:
    """The interrupt reaches the thread that waits for records, as Python delivers it."""
    path, asked, seen = tmp_path / "r.jsonl", questions(6), threading.Event()

    def slow(case: Case) -> Answer:
        if case.seed > 3:
            seen.set()
            threading.Event().wait(60)
        return []

    crew = Crew([lane(Machine(slow)), lane(Machine(slow))])
    session = prepared(asked, crew, None)
    records = session.records(crew, Store(path))
    got: list[Record] = []

    def interrupted() -> Iterator[Record]:
        for _ in range(4):
            yield next(records)
        main = threading.main_thread().ident
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        yield from records

    with pytest.raises(KeyboardInterrupt):
        got.extend(interrupted())
    assert sorted(record.case.seed for record in load(path).records) == [0, 1, 2, 3]


def test_a_record_says_what_was_asked_and_is_not_measured_again(tmp_path: Path) -> None:
    path, first, second = tmp_path / "r.jsonl", Machine(), Machine()
    run(Crew([lane(first)]), questions(3), path)
    records = run(Crew([lane(second)]), questions(5), path, resume=True)
    assert seeds(records) == [0, 1, 2, 3, 4]
    assert [case.seed for case in second.measured] == [3, 4]
    assert len(load(path).records) == 5
    third = Machine()
    assert seeds(run(Crew([lane(third)]), questions(5), path, resume=True)) == [0, 1, 2, 3, 4]
    assert third.measured == []
    assert not any(request["do"] == "resolve" for request in third.asked)


def test_what_failed_is_tried_again_on_request(tmp_path: Path) -> None:
    path, endings = tmp_path / "r.jsonl", {0: ("oom", "others held it"), 1: ("timeout", "it hung"), 2: []}
    run(Crew([lane(Machine(lambda case: endings[case.seed]))]), questions(3), path)
    machine = Machine()
    session = prepared(questions(3), Crew([lane(machine)]), path, ("oom",))
    assert [record.status for record in session.kept] == ["timeout", "ok"]
    crew = Crew([lane(machine)])
    assert [record.case.seed for record in session.records(crew, Store(path))] == [0]
    # The new answer is the one that counts from now on.
    (latest, *_) = prepared(questions(3), Crew([lane(Machine())]), path).kept
    assert (latest.case.seed, latest.status) == (0, "ok")


def test_without_resume_everything_is_measured_again(tmp_path: Path) -> None:
    path, machine = tmp_path / "r.jsonl", Machine()
    for _ in range(2):
        run(Crew([lane(machine)]), questions(2), path)
    assert len(machine.measured) == 4


def test_what_was_found_by_trying_does_not_hide_that_it_is_the_same_question(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    machine = Machine(resolve=lambda case: case.with_(layout="bnc", heads=2))
    asked = questions(2, layout="auto", device="auto")
    run(Crew([lane(machine)]), asked, path)
    assert {record.case.layout for record in load(path).records} == {"bnc"}
    again = Machine()
    run(Crew([lane(again)]), asked, path, resume=True)
    assert again.measured == []


@pytest.mark.parametrize(
    "other", [Options(metrics=("all",)), Options(("static",), max_time=5), Options(("static",), processes=2),
              Options(("static",), keep_samples=True), Options(("static",), best_batch=True)]
)  # fmt: skip
def test_how_it_was_measured_is_part_of_the_question(tmp_path: Path, other: Options) -> None:
    path, machine = tmp_path / "r.jsonl", Machine()
    run(Crew([lane(Machine())]), questions(1), path)
    run(Crew([lane(machine)]), [Question(each.case, other) for each in questions(1)], path, resume=True)
    assert machine.measured


def test_a_limit_of_memory_is_no_other_question(tmp_path: Path) -> None:
    path, machine = tmp_path / "r.jsonl", Machine()
    run(Crew([lane(Machine())]), questions(1), path)
    limited = [Question(each.case, Options(("static",), mem_limit=2**40)) for each in questions(1)]
    run(Crew([lane(machine)]), limited, path, resume=True)
    assert not machine.measured


def test_another_machine_measures_for_itself(tmp_path: Path) -> None:
    path, machine = tmp_path / "r.jsonl", Machine(fingerprint="other")
    run(Crew([lane(Machine())]), questions(2), path)
    run(Crew([lane(machine)]), questions(2), path, resume=True)
    assert len(machine.measured) == 2
    assert len(load(path).records) == 4
    # A crew of both has everything.
    last = [Machine(fingerprint="other"), Machine()]
    run(Crew([lane(each) for each in last]), questions(2), path, resume=True)
    assert not any(each.measured for each in last)


def test_an_edited_file_is_another_question(tmp_path: Path) -> None:
    from attnbench.engine import session

    path, source = tmp_path / "r.jsonl", tmp_path / "my.py"
    source.write_text("A = 1\n")
    asked = questions(1, target=f"{source}:A")
    run(Crew([lane(Machine())]), asked, path)
    for text, measured in (("A = 1\n", 0), ("A = 2\n", 1)):
        source.write_text(text)
        session._digest.cache_clear()
        machine = Machine()
        run(Crew([lane(machine)]), asked, path, resume=True)
        assert len(machine.measured) == measured


def test_a_target_that_cannot_be_built_at_all_is_a_wrong_question_before_anything_is_measured() -> None:
    machine = Machine(resolve=lambda case: ("unsupported", f"{case.name} refuses") if case.dim == 7 else case)
    with pytest.raises(UsageError, match="se refuses"):
        run(Crew([lane(machine)]), questions(3, dim=7))
    assert not machine.measured
    records = run(Crew([lane(machine)]), [*questions(1, dim=7), *questions(1)])
    assert [record.status for record in records] == ["unsupported", "ok"]


def test_what_a_resumed_sweep_has_left_may_be_just_what_cannot_be_built(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run(Crew([lane(Machine())]), questions(1), path)
    refusing = Machine(resolve=lambda case: ("unsupported", "refused"))
    records = run(Crew([lane(refusing)]), questions(2), path, resume=True)
    assert [record.status for record in records] == ["ok", "unsupported"]


def test_a_wrong_question_in_the_middle_is_a_row_and_not_the_end_of_a_long_sweep() -> None:
    def resolve(case: Case) -> Case:
        if case.seed == 1:
            raise UsageError("se takes no such argument.")
        return case

    records = run(Crew([lane(Machine(resolve=resolve))]), questions(3))
    assert [record.status for record in records] == ["ok", "error", "ok"]
    assert records[1].reason == "se takes no such argument"


def test_a_worker_that_dies_is_a_row_in_every_lane() -> None:
    def deadly(case: Case) -> Answer:
        return WorkerDied("crashed", "it died") if case.seed % 2 else []

    records = run(Crew([lane(Machine(deadly)), lane(Machine(deadly))]), questions(6))
    assert {record.case.seed: record.status for record in records} == {
        seed: "crashed" if seed % 2 else "ok" for seed in range(6)
    }


def test_each_case_can_have_a_fresh_process() -> None:
    machine = Machine()
    run(Crew([lane(machine)], each_fresh=True), questions(3))
    assert machine.fresh_calls == 3


def test_threads_are_set_for_each_question_that_wants_others() -> None:
    machine = Machine()
    wanted = zip(questions(4), (1, 1, 2, None), strict=True)
    asked = [Question(each.case, Options(("static",), threads=threads)) for each, threads in wanted]
    run(Crew([lane(machine)]), asked)
    order = [request.get("threads", "measured") for request in machine.asked if request["do"] in ("hello", "measure")]
    first = order.index("measured")
    assert order[first - 1 :] == [1, "measured", "measured", 2, "measured", None, "measured"]


@pytest.mark.parametrize(
    ("typed", "devices"),
    [(["cpu"], ("cpu",)), (["cpu", "cpu"], ("cpu", "cpu")), (["cuda"], ("cuda:0",)),
     (["cuda:0-2", "cuda:5"], ("cuda:0", "cuda:1", "cuda:2", "cuda:5"))],
)  # fmt: skip
def test_devices_as_typed(typed: list[str], devices: tuple[str, ...]) -> None:
    assert spelled_out(typed) == devices


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [(["gpu"], "unknown"), (["cuda:"], "unknown"), (["cuda:2-1"], "before the first"), (["cuda:1", "cuda"], None),
     (["cuda:0-1", "cuda:1"], "cuda:1 twice"), (["cpu", "cuda"], "both cpu and cuda")],
)  # fmt: skip
def test_wrong_devices(typed: list[str], complaint: str | None) -> None:
    if complaint is None:
        assert len(spelled_out(typed)) == 2
        return
    with pytest.raises(UsageError, match=complaint):
        spelled_out(typed)


@pytest.mark.parametrize(("visible", "seen"), [(None, "1"), ("4,7", "7"), ("GPU-a, GPU-b", "GPU-b")])
def test_a_worker_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: str) -> None:
    import attnbench.engine.executors.local as local

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    started: list[dict[str, str]] = []
    monkeypatch.setattr(local, "WorkerChannel", lambda *, quiet, env: started.append(dict(env)))
    with lanes(Wanted(("cuda:1",))) as (only,):
        only.open()
    assert started == [{"CUDA_VISIBLE_DEVICES": seen}]
    assert (only.device, only.facts) == ("cuda", {"device_index": 1})


def test_a_gpu_that_cannot_be_seen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UsageError, match="leaves 1 to be seen"), lanes(Wanted(("cuda:1",))):
        pass
