"""The engine `cudagraph`: whole steps recorded as CUDA graphs, and a look at whether a replay does the work."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from attnbench.core.errors import CaseError, IncorrectError, UnsupportedError, named
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Replay, Step, Subject
from attnbench.targets.agreement import AsWritten, Outcome, as_written, changed, difference, finite, numbers, outcome

__all__ = ["CudaRecorder", "Recorded", "Recorder", "Recording"]

Clock = Callable[[], float]

_WARM_UP = 3  # as in torch's documentation
_ALL_ONES = 255  # in each byte it is NaN in every floating type


class Recorder(Protocol):
    """Records what a function asks of a device."""

    def warm_up(self, run: Callable[[], Any]) -> None:
        """What has to come before a recording."""
        ...

    def record(self, run: Callable[[], Any]) -> Replay:
        """Raises UnsupportedError where it cannot be recorded; the device can be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded step; `output` lies where each replay writes it."""

    output: Any
    replay: Callable[[], None]


class CudaRecorder:
    """Captures on a stream of its own, each step into a memory pool of its own.

    `cuda` is torch.cuda and `core` torch._C, or what stands for them.
    """

    def __init__(self, device: str, seed: int, cuda: Any = torch.cuda, core: Any = torch._C) -> None:
        self._device = torch.device(device)
        self._seed = seed
        self._cuda, self._core = cuda, core
        self._stream = cuda.Stream(self._device)

    def warm_up(self, run: Callable[[], Any]) -> None:
        """Steps on the side stream: libraries choose their kernels and take their workspaces outside of a capture."""
        self._stream.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                run()
        self._cuda.synchronize(self._device)

    def record(self, run: Callable[[], Any]) -> Recording:
        """Capture a step.

        Raises:
            UnsupportedError: it cannot be captured; one sentence holds torch's reason.
        """
        graph, pool = self._cuda.CUDAGraph(), self._cuda.graph_pool_handle()
        gc.collect()  # what is freed during a capture may end it
        first: list[Exception] = []  # ending a capture that failed fails as well, and says less
        try:
            output = self._captured(graph, pool, run, first)
        except Exception as error:
            cause = [*first, error][0]
            self._unwind(graph, pool)
            if isinstance(cause, CaseError | torch.OutOfMemoryError):
                raise cause from None
            raise UnsupportedError(f"a CUDA graph cannot record it: {named(cause)}") from error
        return Recording(output, graph.replay)

    def _captured(self, graph: Any, pool: Any, run: Callable[[], Any], failed: list[Exception]) -> Any:
        # Where a capture ends with an error torch stays on the stream that it captured on: this leads back from it.
        with self._cuda.stream(self._stream), self._cuda.graph(graph, pool=pool, stream=self._stream):
            try:
                return run()
            except Exception as error:
                failed.append(error)
                raise

    def _unwind(self, graph: Any, pool: Any) -> None:
        """Put right what a capture that failed leaves behind, as far as this torch lets it.

        Up to torch 2.11 the allocator goes on believing in the capture (pytorch #180395), and the generator of random
        numbers gives none outside of it. A later torch has ended it by itself and refuses to end it again.
        """
        index = self._device.index or 0
        with suppress(Exception):
            self._cuda.synchronize(self._device)
        with suppress(Exception):
            named_since_2_8 = getattr(self._core, "_cuda_endAllocateToPool", None)
            (named_since_2_8 or self._core._cuda_endAllocateCurrentStreamToPool)(index, pool)
            self._core._cuda_releasePool(index, pool)
        with suppress(Exception):
            graph.reset()
        with suppress(Exception):
            fresh = torch.Generator(self._device).manual_seed(self._seed)
            self._cuda.default_generators[index].graphsafe_set_state(fresh)


class Recorded:
    """The whole step recorded once and replayed, without the host's work between kernels."""

    def __init__(self, recorder: Recorder | None = None, clock: Clock = time.perf_counter) -> None:
        self._recorder = recorder
        self._clock = clock

    def prepared(self, subject: Subject) -> Iterator[Finding]:
        """Record what the mode needs, and look whether its replays do the work of the step as written."""
        case = subject.case
        if self._recorder is None and not case.device.startswith("cuda"):
            raise UnsupportedError("a CUDA graph needs a CUDA device; use --engine eager or compile")
        recorder = self._recorder or CudaRecorder(case.device, case.seed)
        written = as_written(subject)
        capture_ms = 0.0
        replays: dict[Step, Replay] = {}
        for what in subject.parts:
            replays[what], took_ms = self._recorded(subject, recorder, what)
            capture_ms += took_ms
        yield Reading("latency.compile_ms", capture_ms, "ms", "lower", "Compile")
        yield Note("method", "compile_ms is the time of the capture; what the step keeps and computes lives in the "
                             "graph's own memory pool from then on")  # fmt: skip
        for replay in replays.values():
            _works(subject, replay, written)
        if not written.repeatable:
            yield Note("method", "its output is not the same twice, so a replay is not compared with the step as "
                                 "written: only that it writes its output is known")  # fmt: skip
        subject.replays.update(replays)

    def _recorded(self, subject: Subject, recorder: Recorder, what: Step) -> tuple[Replay, float]:
        """The step to be replayed, and the milliseconds that recording it took."""
        run = _runs(subject)[what]
        recorder.warm_up(run)
        start = self._clock()
        replay = recorder.record(run)
        subject.synchronize()
        return replay, (self._clock() - start) * 1000

    def finished(self) -> Iterator[Finding]:
        yield from ()

    def close(self) -> None:
        return


def _runs(subject: Subject) -> Mapping[Step, Callable[[], Any]]:
    """The steps as functions that return the forward's output, and go on running them when there are replays."""
    unrecorded = replace(subject, replays={})
    return {
        "forward": unrecorded.step,
        "forward_backward": unrecorded.step,
        "train": unrecorded.step,
        "forward_kept": lambda: subject.module(*subject.inputs),
    }


def _works(subject: Subject, replay: Replay, written: AsWritten) -> None:
    """Whether a replay writes the output anew, and from the inputs as they are then.

    Raises:
        IncorrectError: it does not: something of the step runs outside of what was recorded.
    """
    found = numbers(replay.output)
    computed = [tensor for tensor, fresh in zip(found, written.computed, strict=False) if fresh]
    _spoil(computed)
    _replayed(subject, replay)
    if not finite(computed):
        raise IncorrectError("a replay of its recorded graph does not write its output: the kernels that do are not "
                             "in the graph")  # fmt: skip
    if not written.repeatable:
        return
    _same(found, written.outcome.outputs, subject, "on the same inputs")
    with changed(subject.tensors, lambda values: values.roll(1)):
        reference = outcome(subject, subject.module).outputs
        _replayed(subject, replay)
        _same(found, reference, subject, "when its inputs change")


def _replayed(subject: Subject, replay: Replay) -> None:
    replay.replay()
    subject.synchronize()


def _same(found: list[Tensor], reference: list[Tensor], subject: Subject, when: str) -> None:
    off = difference(subject, Outcome(found, []), Outcome(reference, []))
    if off is not None:
        raise IncorrectError(f"a replay of its recorded graph does not do what the step does {when}: {off}")


def _spoil(outputs: list[Tensor]) -> None:
    """Fill what they lie in with NaN; an expanded output is smaller than it looks, and cannot be filled itself."""
    for tensor in outputs:
        storage = tensor.untyped_storage()
        torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage).fill_(_ALL_ONES)
