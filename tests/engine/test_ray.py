"""The executor of a Ray cluster, over a stand-in for Ray: its lanes, where they go when lost, and what is refused."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_ray
import pytest
from canned_channels import Answer
from command_line import Cli
from fake_ray import FakeRay, OutOfMemoryError, RayActorError, node

from attnbench.api import benchmark
from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Reading, Record
from attnbench.core.store import load
from attnbench.engine.crew import Crew
from attnbench.engine.executors import cluster, ray
from attnbench.engine.executors.executor import Lane, LaneLost, LaneWarning, Wanted
from attnbench.engine.question import Question
from attnbench.engine.session import prepared
from attnbench.engine.workers.channels import WorkerDied
from attnbench.metrics.metric import Options

OPTIONS = Options(metrics=("static",))
PARAMS = Reading("static.params", 1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The lanes of a cluster that this library knows, without waiting for anybody."""
    monkeypatch.setattr(cluster, "_TO_START", 0.05)
    monkeypatch.setattr(cluster, "_WHERE_IN_USE", 0.05)
    monkeypatch.setattr(cluster, "_TO_FIND", 0.05)
    monkeypatch.setattr(cluster, "_LOOK", 0.01)

    @contextmanager
    def opened(library: FakeRay, wanted: Wanted = Wanted()) -> Iterator[Sequence[Lane]]:  # noqa: B008 - frozen
        monkeypatch.setattr(ray, "_library", lambda: library)
        with ray.lanes(wanted) as lanes:
            yield lanes
        assert library.running == []

    return opened


Opened = Callable[..., Any]


def asked(count: int) -> list[Question]:
    case = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw", device="auto")
    return [Question(case.with_(seed=seed), OPTIONS) for seed in range(count)]


def swept(lanes: Sequence[Lane], count: int = 6) -> dict[int, Record]:
    """By seed, each of which is there once."""
    crew = Crew(lanes)
    records = list(prepared(asked(count), crew).records(crew, None))
    assert len(records) == count
    return {record.case.seed: record for record in records}


def test_a_lane_for_each_gpu_that_takes_it_whole(opened: Opened) -> None:
    library = FakeRay([node(1, gpus=2, host="big"), node(2), node(3, gpus=1), node(4, gpus=1, alive=False)])
    with opened(library) as lanes:
        assert [lane.name for lane in lanes] == ["big, GPU 0", "big, GPU 1", "host3, GPU 0"]
        assert {lane.device for lane in lanes} == {"cuda"}
        assert [lane.host for lane in lanes] == ["big", "big", "host3"]
        assert {(lane.facts["executor"], lane.facts["gpu"]) for lane in lanes} == {("ray", "0"), ("ray", "1")}
        assert all(chosen["num_gpus"] == 1 for _, chosen in library.started)
        assert {record.case.device for record in swept(lanes).values()} == {"cuda"}
    assert library.log == ["shutdown"]


@pytest.mark.parametrize(("device", "lane_device"), [("auto", "cpu"), ("cpu", "cpu"), ("cuda", "")])
def test_a_lane_for_each_node_that_takes_all_its_cpus(opened: Opened, device: str, lane_device: str) -> None:
    library = FakeRay([node(1, cpus=0), node(2, cpus=8), node(3, cpus=4, gpus=2 * (device == "cpu"))])
    with opened(library, Wanted(device=device)) as lanes:
        assert [chosen["num_cpus"] for _, chosen in library.started] == [8, 4]
        assert [lane.name for lane in lanes] == ["host2 (node 000002)", "host3 (node 000003)"]
        assert {lane.device for lane in lanes} == {lane_device}
        assert "gpu" not in lanes[0].facts


def test_what_is_in_use_is_left_out_and_said(opened: Opened) -> None:
    nodes = [node(1, gpus=2), node(2, gpus=1), node(3, gpus=1)]
    library = FakeRay(nodes, full={nodes[0]["NodeID"], nodes[2]["NodeID"]})
    said = pytest.warns(LaneWarning, match=r"left out: host\d .* no GPU of it is free")
    with said as caught, opened(library) as lanes:
        assert [lane.name for lane in lanes] == ["host2, GPU 0"]
        assert len(library.running) == 1
    assert ["2 lanes are" in str(each.message) for each in caught] == [True, False]


def test_a_cluster_that_is_in_use_by_others_and_one_of_nothing(opened: Opened) -> None:
    library = FakeRay([node(1)], full={node(1)["NodeID"]})
    with pytest.raises(CannotJudgeError, match=r"no lane .* can be had: host1 .*no CPU of it is free"), opened(library):
        pass
    with pytest.raises(CannotJudgeError, match="it has no CPU"), opened(FakeRay([])):
        pass


@pytest.mark.parametrize(
    ("found", "complaint"),
    [((None, False), r"attnbench is not installed on host2 .*: pip install attnbench==\d"),
     (("0.0.1", True), r"host2 .* has attnbench 0.0.1 and this machine \d.*: install the same on both"),
     ((fake_ray.__version__, False), "torch is not installed on host2")],
)  # fmt: skip
def test_a_node_that_is_set_up_otherwise_is_named(opened: Opened, found: Any, complaint: str) -> None:
    library = FakeRay([node(1), node(2)], looks={node(2)["NodeID"]: found})
    with pytest.raises(UsageError, match=complaint), opened(library):
        pass
    assert library.started == []


def test_what_a_worker_dies_of_is_a_row_with_what_was_read_before(opened: Opened) -> None:
    def deadly(case: Case) -> Answer:
        return WorkerDied("crashed", "it died") if case.seed % 2 else [PARAMS]

    with opened(FakeRay([node(1), node(2)], measure=deadly)) as lanes:
        records = swept(lanes)
    assert [records[seed].status for seed in range(4)] == ["ok", "crashed", "ok", "crashed"]
    assert (records[1].reason, records[1].env["fingerprint"]) == ("it died", "f")
    assert records[0].value("static.params") == 1


def test_a_node_that_ran_out_of_memory_is_the_fault_of_its_case_alone(opened: Opened) -> None:
    """Ray ends the actor then, before the system ends the worker."""

    def large(case: Case) -> Answer:
        if case.seed == 1:
            raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.\nAnd so on")
        return []

    library = FakeRay(measure=large)
    with opened(library) as lanes:
        records = swept(lanes, 3)
        greeted = [request["do"] for request in library.running[0].machine.asked]
    assert [records[seed].status for seed in range(3)] == ["ok", "oom", "ok"]
    assert records[1].reason == "host1 (node 000001) ran out of memory, and Ray ended what was running there"
    assert len(library.started) == 2
    assert greeted[0] == "hello", "the other one has to know its device and threads too"


class Dying:
    """Loses the node under the Cases with these seeds, once each, unless it is always."""

    def __init__(self, *seeds: int, always: bool = False, text: str = "is unavailable: Socket closed") -> None:
        self.seeds, self.always, self.text = set(seeds), always, text

    def __call__(self, case: Case) -> Answer:
        if case.seed in self.seeds:
            if not self.always:
                self.seeds.discard(case.seed)
            raise RayActorError(self.text)
        return []


@pytest.mark.parametrize("count", [1, 3])
def test_an_actor_that_is_lost_is_started_again_on_its_node(opened: Opened, count: int) -> None:
    library = FakeRay([node(number) for number in range(count)], measure=Dying(2))
    with opened(library) as lanes:
        records = swept(lanes)
    assert {record.status for record in records.values()} == {"ok"}
    assert [seed for seed, record in records.items() if record.env.get("machines_lost")] == [2]
    assert len(library.started) == count + 1


def test_a_lane_whose_node_died_goes_to_one_that_came_later_and_says_so(opened: Opened) -> None:
    library = FakeRay([node(1, host="old")])

    def dying(case: Case) -> Answer:
        if case.seed == 3:
            library.found = [node(1, host="old"), node(2, host="new")]  # Ray takes its time to see that a node is dead
            library.dead.add(node(1)["NodeID"])
        if library.dead and library.running[-1].node == node(1)["NodeID"]:
            raise RayActorError("its node has died")
        return []

    library.measure = dying
    with opened(library) as lanes:
        records = swept(lanes)
        assert (lanes[0].name, lanes[0].host) == ("new (node 000002)", "new")
    where = [(records[seed].env["host"], records[seed].env["node"][:6]) for seed in range(6)]
    assert where == [("old", "000001")] * 3 + [("new", "000002")] * 3


def test_a_lane_is_given_up_where_no_node_is_left(opened: Opened) -> None:
    library = FakeRay([node(1, gpus=1), node(2)])

    def dying(case: Case) -> Answer:
        library.dead.update({node(1)["NodeID"]} if case.seed == 2 else ())
        return []

    library.measure = dying
    left = pytest.raises(CannotJudgeError, match=r"3 cases are left.*: host1 .* was lost, and no other GPU .* is free")
    with opened(library) as lanes, left:
        swept(lanes)


def test_a_case_that_loses_two_nodes_is_a_crash(opened: Opened) -> None:
    text = "The actor died unexpectedly.\n\tpid: 7\nThe actor is dead because its worker process has died. And so on"
    with opened(FakeRay([node(1), node(2), node(3)], measure=Dying(1, always=True, text=text))) as lanes:
        records = swept(lanes)
    assert {seed: record.status for seed, record in records.items() if not record.ok} == {1: "crashed"}
    assert records[1].reason.startswith("2 machines were lost while they measured it: host")
    assert records[1].reason.endswith("Ray's process on it died")


def test_what_a_node_cannot_start_is_said_in_its_own_words(opened: Opened) -> None:
    library = FakeRay([node(1), node(2)])
    first = library.start

    def start(where: str, chosen: dict[str, Any]) -> Any:
        actor = first(where, chosen)
        if where == node(2)["NodeID"]:
            actor.ready.call = _failing
        return actor

    library.start = start  # type: ignore[method-assign]
    with pytest.warns(LaneWarning, match="host2 .*: OSError: No space left on device"), opened(library) as lanes:
        assert len(lanes) == 1


def _failing() -> str:
    raise RayActorError("The actor died because of an error raised in its creation task\n  File x\nOSError: No space "
                        "left on device")  # fmt: skip


def test_a_fault_of_our_own_is_not_taken_for_a_lost_machine(opened: Opened) -> None:
    def broken(case: Case) -> Answer:
        raise fake_ray.RayTaskError("ZeroDivisionError")

    with opened(FakeRay(measure=broken)) as lanes, pytest.raises(fake_ray.RayTaskError):
        swept(lanes)


def test_nothing_is_started_any_more_once_the_run_is_over(opened: Opened) -> None:
    library = FakeRay([node(1), node(2)])
    with opened(library) as lanes:
        channels = [lane.open() for lane in lanes]
    started = len(library.started)
    for lane, channel in zip(lanes, channels, strict=True):
        channel.close()
        with pytest.raises(LaneLost, match="the run is over"):
            lane.open()
    assert len(library.started) == started


def test_each_case_can_have_a_fresh_process_there(opened: Opened) -> None:
    library = FakeRay()
    with opened(library) as lanes:
        crew = Crew(lanes, each_fresh=True)
        assert len(list(prepared(asked(3), crew).records(crew, None))) == 3
        assert library.running[0].machine.fresh_calls == 3


def test_ray_leaves_signals_working_directory_and_output_as_they_were(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')\n")
    monkeypatch.chdir(tmp_path)
    worker = SimpleNamespace(_worker_logs_enabled=True)
    stood: list[Path] = []

    def on_init() -> None:
        stood.append(Path.cwd())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGTERM)
    library = FakeRay(on_init=on_init, _private=SimpleNamespace(worker=worker))
    with opened(library, Wanted(quiet=True)):
        assert signal.getsignal(signal.SIGTERM) == before
        assert Path.cwd() == tmp_path
        assert worker._worker_logs_enabled is False
    assert worker._worker_logs_enabled is True
    assert stood == [Path("/")]
    assert library.given == {"address": None, "include_dashboard": False, "log_to_driver": False,
                             "logging_level": "ERROR"}  # fmt: skip


def test_a_connection_that_was_there_before_stays(opened: Opened) -> None:
    library = FakeRay(initialized=True)
    with opened(library) as lanes:
        assert len(lanes) == 1
    assert library.initialized
    assert library.given == {}


@pytest.mark.parametrize("error", [RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0"),
                                   SystemExit(15)])  # fmt: skip
def test_a_cluster_that_cannot_be_used_is_one_sentence(opened: Opened, error: BaseException) -> None:
    def fails() -> None:
        raise error

    library = FakeRay(on_init=fails)
    complaint = pytest.raises(UsageError, match=r"the Ray cluster cannot be used: (Version mismatch: .* Ray: 2|15)")
    with complaint as said, opened(library):
        pass
    assert "\n" not in str(said.value)


def test_nobody_at_the_address(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pytest.raises(UsageError, match=r"no Ray cluster answers at 127.0.0.1:1 \(Connection refused\)")
    with refused, opened(FakeRay(), Wanted(address="127.0.0.1:1")):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"ray://127.0.0.1:1 is for Ray Client"), opened(FakeRay()):
        pass


@pytest.mark.parametrize("address", ["auto", "nonsense", "http://x", "1.2.3.4:99999999"])
def test_an_address_of_another_form_is_for_ray_to_judge(opened: Opened, address: str) -> None:
    library = FakeRay()
    with opened(library, Wanted(address=address)):
        assert library.given["address"] == address


def test_cases_for_several_devices_are_refused(opened: Opened) -> None:
    (case,) = (each.case for each in asked(1))
    with pytest.raises(UsageError, match=r"one kind of device.*: not on cpu and cuda"):
        list(benchmark([case.with_(device=device) for device in ("cuda", "cpu")], OPTIONS, executor="ray"))


@pytest.mark.parametrize("said", ["cpu", "cuda"])
def test_the_device_that_a_suite_says_is_the_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    library = FakeRay([node(1, gpus=1), node(2)])
    monkeypatch.setattr(ray, "_library", lambda: library)
    text = f'[defaults]\ndevice = "{said}"\n[grid.one]\nmodule = ["se"]\nres = 4\ndim = 8\n'
    (tmp_path / "s.toml").write_text(text)
    outcome = cli("run", "--suite", "s.toml", "--executor", "ray", "--out", "r.jsonl", "--metrics", "params")
    assert (outcome.code, outcome.err) == (0, "1 record in r.jsonl\n")
    (record,) = load(tmp_path / "r.jsonl").records
    assert record.case.device == said
    assert ("gpu" in record.env) is (said == "cuda")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--devices", "cuda:0"], "--devices are of this machine"), (["--device", "cuda:1"], "not on cuda:1"),
     (["--no-isolate"], "leave --no-isolate away"), ([], "--executor ray needs Ray: pip install 'attnbench[ray]'")],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = cli("run", "-m", "se", "--executor", "ray", *words)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
