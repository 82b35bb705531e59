"""The engine `cudagraph` without a GPU: what is recorded, what is replayed, and what a replay that lies is found by."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_subjects import MODES, Clock, Plain, found, subject_on
from torch import Tensor, nn

from attnbench.core.errors import IncorrectError, UnsupportedError
from attnbench.metrics.subject import Step, Subject, tensors_in
from attnbench.targets.engines import engine_of
from attnbench.targets.recorded import CudaRecorder, Recorded

Run = Callable[[], Any]


class Tape:
    """A recorded step: what `again` gives is written to where the first output lies."""

    def __init__(self, output: Any, again: Callable[[], list[Tensor]]) -> None:
        self.output, self.again, self.replays = output, again, 0
        self._places = [tensor.detach() for tensor in tensors_in(output)]

    def replay(self) -> None:
        self.replays += 1
        for place, value in zip(self._places, self.again(), strict=True):
            if place.untyped_storage().nbytes() == place.numel() * place.element_size():
                place.copy_(value)
            else:
                place.as_strided((value.size(0), 1), (1, 1)).copy_(value[:, :1].clone())  # of what was expanded


class FakeRecorder:
    """A device that remembers functions; warming up and recording take the seconds given."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.warm: list[Run] = []
        self.tapes: list[Tape] = []

    def warm_up(self, run: Run) -> None:
        self.clock.passes(7)
        self.warm.append(run)

    def record(self, run: Run) -> Tape:
        assert run in self.warm
        self.clock.passes(2)
        output = run()
        self.tapes.append(Tape(output, self.again(run, output)))
        return self.tapes[-1]

    def again(self, run: Run, output: Any) -> Callable[[], list[Tensor]]:
        return lambda: [tensor.detach() for tensor in tensors_in(run())]


def prepared(subject: Subject, recorder: FakeRecorder) -> tuple[dict[str, Any], dict[str, str]]:
    return found(Recorded(recorder, recorder.clock).prepared(subject))


PARTS: dict[str, tuple[Step, ...]] = {
    "fwd": ("forward",), "fwd_bwd": ("forward_backward",), "bwd": ("forward_backward", "forward_kept"),
    "train": ("train",),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_steps_are_replayed_once_they_are_recorded(mode: str) -> None:
    subject, recorder = subject_on(Plain(), mode), FakeRecorder()
    prepared(subject, recorder)
    assert tuple(subject.replays) == PARTS[mode]
    assert [subject.replays[part] for part in PARTS[mode]] == recorder.tapes
    (whole, *_), before = recorder.tapes, [tape.replays for tape in recorder.tapes]
    assert subject.step() is whole.output
    subject.repeat(3)
    assert whole.replays == before[0] + 4
    if mode == "bwd":
        subject.repeat(2, "forward_kept")
        assert recorder.tapes[1].replays == before[1] + 2
        assert whole.replays == before[0] + 4


@pytest.mark.parametrize(("mode", "captures"), [("fwd", 1), ("train", 1), ("bwd", 2)])
def test_compile_ms_is_the_time_of_the_captures(mode: str, captures: int) -> None:
    readings, notes = prepared(subject_on(Plain(), mode), FakeRecorder())
    assert readings == {"latency.compile_ms": pytest.approx(2000 * captures)}
    assert set(notes) == {"method"}
    assert "the graph's own memory pool" in notes["method"]


@pytest.mark.parametrize("mode", MODES)
def test_inputs_and_weights_are_as_they_were(mode: str) -> None:
    subject = subject_on(Plain(), mode)
    before = [tensor.detach().clone() for tensor in [*subject.tensors, *subject.weights]]
    expected = subject.step().detach().clone()
    prepared(subject, FakeRecorder())
    assert all(map(torch.equal, before, [*subject.tensors, *subject.weights]))
    subject.repeat(1)
    assert torch.allclose(subject.step(), expected)


class ReplaysNothing(FakeRecorder):
    def again(self, run: Run, output: Any) -> Callable[[], list[Tensor]]:
        return lambda: [place.detach() for place in tensors_in(output)]


class ReplaysThePast(FakeRecorder):
    """What was computed on the host while it was recorded, and is written to the output ever after."""

    def again(self, run: Run, output: Any) -> Callable[[], list[Tensor]]:
        past = [tensor.detach().clone() for tensor in tensors_in(output)]
        return lambda: past


class ReplaysHalf(FakeRecorder):
    def again(self, run: Run, output: Any) -> Callable[[], list[Tensor]]:
        return lambda: [tensor.detach() / 2 for tensor in tensors_in(run())]


@pytest.mark.parametrize("mode", ["fwd", "bwd"])
@pytest.mark.parametrize(
    ("recorder", "said"),
    [
        (ReplaysNothing, "a replay of its recorded graph does not write its output"),
        (ReplaysThePast, "a replay of its recorded graph does not do what the step does when its inputs change: "),
        (ReplaysHalf, "a replay of its recorded graph does not do what the step does on the same inputs: "),
    ],
)
def test_a_graph_that_does_not_do_the_work_is_found_out(recorder: type[FakeRecorder], said: str, mode: str) -> None:
    subject = subject_on(Plain(), mode)
    before = subject.inputs[0].detach().clone()
    with pytest.raises(IncorrectError) as raised:
        prepared(subject, recorder())
    assert str(raised.value).startswith(said)
    assert torch.equal(subject.inputs[0], before)
    assert subject.replays == {}


class Drops(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


def test_what_is_random_is_not_compared_and_that_is_said() -> None:
    subject = subject_on(Drops(), "fwd_bwd")
    findings = [*Recorded(FakeRecorder(), Clock()).prepared(subject)]
    assert any("not the same twice" in getattr(each, "text", "") for each in findings)
    assert set(subject.replays) == {"forward_backward"}
    with pytest.raises(IncorrectError, match="does not write its output"):
        prepared(subject_on(Drops(), "fwd_bwd"), ReplaysNothing())


class HandsOn(Plain):
    def forward(self, x: Tensor) -> Any:
        return x, super().forward(x), self.weight


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
def test_an_output_that_is_handed_on_is_left_alone(mode: str) -> None:
    subject = subject_on(HandsOn(), mode)
    before = [subject.inputs[0].detach().clone(), subject.module.weight.detach().clone()]
    prepared(subject, FakeRecorder())
    assert torch.equal(subject.inputs[0], before[0]) and torch.equal(subject.module.weight, before[1])
    with pytest.raises(IncorrectError, match="does not write its output"):
        prepared(subject_on(HandsOn(), mode), ReplaysNothing())


class Expands(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((1, 2)).unsqueeze(-1).expand(-1, 5)


def test_an_output_that_is_smaller_than_it_looks_is_looked_at_too() -> None:
    prepared(subject_on(Expands()), FakeRecorder())
    with pytest.raises(IncorrectError):
        prepared(subject_on(Expands()), ReplaysNothing())


def test_a_cpu_has_no_graphs() -> None:
    with pytest.raises(UnsupportedError, match=r"^a CUDA graph needs a CUDA device; use --engine eager or compile$"):
        found(Recorded().prepared(subject_on(Plain())))


def test_a_sweep_over_engines_goes_on_where_one_of_them_cannot_run(cli: Any, tmp_path: Path) -> None:
    code, _, err = cli("run", "-m", "se", "--res", "8", "--dim", "8", "--engine", "cudagraph,eager", "--device", "cpu",
                       "--metrics", "macs,memory", "--no-isolate", "-o", "found.jsonl", "-q")  # fmt: skip
    assert code == 0, err
    graph, eager = (json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines())
    assert (graph["status"], eager["status"]) == ("unsupported", "ok")
    assert graph["reason"] == "a CUDA graph needs a CUDA device; use --engine eager or compile"
    assert graph["static"]["macs"] == eager["static"]["macs"] > 0
    assert graph["latency"]["compile_ms"] is None
    assert graph["repro"].endswith("--engine cudagraph --layout bchw --metrics macs,memory")


class FakeGraph:
    def __init__(self) -> None:
        self.was_reset = False

    def replay(self) -> None:
        return

    def reset(self) -> None:
        self.was_reset = True


class FakeGenerator:
    def __init__(self) -> None:
        self.state: Any = None

    def graphsafe_set_state(self, state: Any) -> None:
        self.state = state


class FakeStream:
    def wait_stream(self, other: Any) -> None:
        return


class FakeCuda:
    """torch.cuda, as far as a capture goes; `ending` is raised when one ends that something was raised in."""

    CUDAGraph, Stream = FakeGraph, lambda self, device: FakeStream()

    def __init__(self, ending: Exception | None = None) -> None:
        self.now: Any = "default"
        self.capturing = False
        self.synchronized = 0
        self.graphs: list[Any] = []
        self.default_generators = [FakeGenerator()]
        self._ending = ending

    def graph_pool_handle(self) -> tuple[int, int]:
        return 0, 42

    def current_stream(self, device: Any) -> Any:
        return self.now

    def synchronize(self, device: Any) -> None:
        assert not self.capturing
        self.synchronized += 1

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any) -> Iterator[None]:
        assert self.now is stream and pool == (0, 42)
        self.graphs.append(graph)
        self.capturing = True
        self.now = "left behind"  # torch does not go back where a capture fails
        try:
            yield
        except Exception:
            self.capturing = False
            if self._ending is not None:
                raise self._ending from None
            raise
        self.capturing, self.now = False, stream


class FakeCore:
    """torch._C: ends what the allocator believes to be a capture, and gives back its memory."""

    def __init__(self, refuses: bool = False, name: str = "_cuda_endAllocateToPool") -> None:
        self.ended: list[Any] = []
        self.released: list[Any] = []

        def end(*place: Any) -> None:
            if refuses:
                raise RuntimeError("not currently recording to mempool_id")
            self.ended.append(place)

        setattr(self, name, end)

    def _cuda_releasePool(self, *place: Any) -> None:  # noqa: N802 - torch's name
        self.released.append(place)


def recorder(cuda: FakeCuda, core: FakeCore) -> CudaRecorder:
    return CudaRecorder("cpu", seed=3, cuda=cuda, core=core)


def test_a_step_is_warmed_up_on_the_stream_that_it_is_captured_on() -> None:
    cuda, streams = FakeCuda(), []
    engine = recorder(cuda, FakeCore())
    engine.warm_up(lambda: streams.append((cuda.now, cuda.capturing)))
    assert len(streams) == 3 and len(set(streams)) == 1
    assert streams[0][0] != "default" and not streams[0][1]
    recording = engine.record(lambda: "the output" if cuda.capturing else "as written")
    assert (recording.output, recording.replay, cuda.now) == ("the output", cuda.graphs[0].replay, "default")


ENDING = RuntimeError("CUDA error: operation failed due to a previous error during capture")


def failing(error: Exception) -> Run:
    def run() -> Any:
        raise error

    return run


@pytest.mark.parametrize("name", ["_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"])
def test_a_capture_that_fails_says_what_failed_first_and_is_put_right(name: str) -> None:
    cuda, core = FakeCuda(ENDING), FakeCore(name=name)
    with pytest.raises(UnsupportedError) as raised:
        recorder(cuda, core).record(failing(RuntimeError("CUDA error: operation not permitted\nSee the docs")))
    assert str(raised.value) == "a CUDA graph cannot record it: RuntimeError: CUDA error: operation not permitted"
    assert (core.ended, core.released) == ([(0, (0, 42))], [(0, (0, 42))])
    assert (cuda.now, cuda.synchronized, cuda.graphs[0].was_reset) == ("default", 1, True)
    assert cuda.default_generators[0].state.initial_seed() == 3


def test_a_torch_that_ends_a_failed_capture_itself_gives_its_memory_back_itself() -> None:
    cuda, core = FakeCuda(ENDING), FakeCore(refuses=True)
    with pytest.raises(UnsupportedError):
        recorder(cuda, core).record(failing(RuntimeError("no")))
    assert core.released == [] and cuda.graphs[0].was_reset


def test_a_lack_of_memory_while_capturing_stays_one() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        recorder(FakeCuda(ENDING), FakeCore()).record(failing(torch.OutOfMemoryError("full")))


def test_what_fails_without_spoiling_the_capture_is_said_as_well() -> None:
    with pytest.raises(UnsupportedError, match="a CUDA graph cannot record it: ValueError: odd"):
        recorder(FakeCuda(), FakeCore()).record(failing(ValueError("odd")))


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("mode", MODES)
def test_on_a_gpu_a_replay_does_the_work_of_the_step(mode: str) -> None:
    subject = subject_on(Plain(), mode, device="cuda")
    expected = subject.step().detach().clone()
    with engine_of("cudagraph") as engine:
        readings, _ = found(engine.prepared(subject))
        assert readings["latency.compile_ms"] > 0
        subject.repeat(3)
        assert torch.allclose(subject.step(), expected)
        with torch.no_grad():
            subject.inputs[0].mul_(2)
        assert not torch.allclose(subject.step(), expected)


class Waits(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + float(x.sum())


class Elsewhere(Plain):
    """Most of the work is done before the capture: a graph does not hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not torch.cuda.is_current_stream_capturing():
            self.kept.append(super().forward(x).detach())
        return self.kept[-1] * 1


@pytest.mark.gpu
@gpu
def test_on_a_gpu_what_is_not_in_the_graph_is_found_out() -> None:
    with pytest.raises(IncorrectError, match="when its inputs change"):
        found(Recorded().prepared(subject_on(Elsewhere(), device="cuda")))


@pytest.mark.gpu
@gpu
def test_on_a_gpu_a_capture_that_fails_leaves_a_device_that_works() -> None:
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=r"^a CUDA graph cannot record it: "):
            found(Recorded().prepared(subject_on(Waits(), device="cuda")))
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        assert torch.rand(4, device="cuda").isfinite().all()
        torch.cuda.empty_cache()
        found(Recorded().prepared(subject_on(Plain(), "fwd_bwd", device="cuda")))
