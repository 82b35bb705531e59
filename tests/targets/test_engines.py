"""The engines `eager` and `compile`: what runs the steps, what it took, and what is said where torch gives up."""

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from engine_subjects import MODES, Clock, Plain, found, subject_on
from torch import Tensor, nn

from attnbench.core.errors import IncorrectError, UnsupportedError
from attnbench.core.record import Note
from attnbench.targets import engines
from attnbench.targets.compiled import Compiled
from attnbench.targets.engines import Eager, engine_of

Graph = Callable[..., Any]


class Backend:
    """Runs graphs as they were traced; compiling one and running one take the seconds given."""

    def __init__(self, clock: Clock | None = None, compiling: float = 0, running: float = 0) -> None:
        self.clock, self.compiling, self.running = clock or Clock(), compiling, running
        self.graphs = self.runs = 0
        self.inputs: list[Any] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Graph:
        self.graphs += 1
        self.inputs += inputs
        self.clock.passes(self.compiling)

        def run(*values: Any) -> Any:
            self.runs += 1
            self.clock.passes(self.running)
            return self.changed(graph.forward(*values))

        return run

    def changed(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return outputs


@pytest.fixture
def compiled() -> Iterator[Callable[..., Compiled]]:
    """Engines that are closed when the test is over."""
    made: list[Compiled] = []

    def make(backend: Any = None, clock: Clock | None = None) -> Compiled:
        made.append(Compiled(backend or Backend(), clock or Clock()))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Compiled]


def test_as_written_nothing_is_done_and_nothing_was_compiled() -> None:
    subject = subject_on(Plain())
    readings, notes = found(Eager().prepared(subject))
    assert (subject.compiled, subject.replays, readings) == (None, {}, {})
    assert notes == {"not_measured": "latency.compile_ms: it runs as written (--engine eager)"}
    assert list(Eager().finished()) == []


def test_an_engine_is_closed_however_its_case_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(Eager):
        closed = 0

        def close(self) -> None:
            Watched.closed += 1

    monkeypatch.setattr(engines, "_ENGINES", {"eager": Watched})
    with engine_of("eager"):
        assert Watched.closed == 0
    with pytest.raises(ZeroDivisionError), engine_of("eager"):
        raise ZeroDivisionError
    assert Watched.closed == 2


@pytest.mark.parametrize("mode", MODES)
def test_the_steps_are_run_by_what_was_compiled(compiled: Make, mode: str) -> None:
    subject, backend = subject_on(Plain(), mode), Backend()
    _, notes = found(compiled(backend).prepared(subject))
    assert backend.graphs > 0
    before = backend.runs
    subject.step()
    subject.repeat(3)
    assert backend.runs == before + 4
    assert notes == {}
    if mode == "bwd":
        subject.repeat(2, "forward_kept")
        assert backend.runs == before + 6


@pytest.mark.parametrize(("mode", "ms"), [("fwd", 5000), ("fwd_bwd", 5000), ("train", 5000)])
def test_compile_ms_is_by_how_much_the_first_step_is_longer_than_a_later_one(
    compiled: Make, mode: str, ms: float
) -> None:
    clock = Clock()
    readings, _ = found(compiled(Backend(clock, 5, 0.25), clock).prepared(subject_on(Plain(), mode)))
    assert readings == {"latency.compile_ms": pytest.approx(ms)}


def test_it_is_compiled_for_the_shapes_of_the_case(compiled: Make) -> None:
    backend = Backend()
    found(compiled(backend).prepared(subject_on(Plain())))
    probe, *own = sorted((tuple(each.shape) for each in backend.inputs), key=lambda shape: shape != (8,))
    assert (probe, sorted(own)) == ((8,), [(2, 4, 8), (8, 8)])
    assert all(type(size) is int for each in backend.inputs for size in each.shape)


def test_nothing_of_an_earlier_case_is_left(compiled: Make) -> None:
    subject = subject_on(Plain())
    for _ in range(2):
        clock = Clock()
        engine = compiled(Backend(clock, 5), clock)
        assert found(engine.prepared(subject)) == ({"latency.compile_ms": pytest.approx(5000)}, {})
        engine.close()
        subject.compiled = None


class Branches(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if y.sum() > 1e9:
            y = y + 1
        return y * 2


class Breaks(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        torch._dynamo.graph_break()
        z = y + 1
        torch._dynamo.graph_break()
        return z * 2


@pytest.mark.parametrize("mode", MODES)
def test_a_branch_on_a_value_is_a_break_and_its_line_is_told(compiled: Make, mode: str) -> None:
    line = Branches.forward.__code__.co_firstlineno + 2
    _, notes = found(compiled().prepared(subject_on(Branches(), mode)))
    assert notes == {
        "graph_break": "torch.compile breaks it once, and what lies between its compiled parts runs as written "
                       f"(first: a branch on the value of a tensor, test_engines.py, line {line})"
    }  # fmt: skip


def test_breaks_are_counted(compiled: Make) -> None:
    _, notes = found(compiled().prepared(subject_on(Breaks())))
    assert notes["graph_break"].startswith("torch.compile breaks it 2 times, ")
    assert "graph_break" in notes["graph_break"].partition("first:")[2]


class Anew(Plain):
    """What is compiled holds for one number of calls before it, which is counted up to `last`."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.call, self.last = 0, last

    def forward(self, x: Tensor) -> Tensor:
        self.call = min(self.call + 1, self.last)
        return super().forward(x) + self.call * 1e-12


def test_what_is_compiled_anew_for_the_same_input_is_said(compiled: Make) -> None:
    """Two calls as written come first: the compiled ones find 2, 3, 4, and from then on 5 calls behind them."""
    _, notes = found(compiled().prepared(subject_on(Anew(5))))
    assert notes == {"recompiled": "torch.compile compiled it 3 times more for the same input"}


def test_what_is_compiled_anew_at_each_call_ends_as_written(compiled: Make) -> None:
    subject, backend = subject_on(Anew(1000)), Backend()
    _, notes = found(compiled(backend).prepared(subject))
    more = torch._dynamo.config.recompile_limit - 1
    assert notes == {
        "recompiled": f"torch.compile compiled it {more} times more for the same input, and then gave up: it, or a "
                      "part of it, runs as written"
    }  # fmt: skip
    before = backend.runs
    subject.repeat(3)
    assert backend.runs == before  # as the note says


def test_what_is_compiled_while_it_is_measured_is_said_at_the_end(compiled: Make) -> None:
    engine = compiled()
    module = Anew(1)
    subject = subject_on(module)
    assert found(engine.prepared(subject))[1] == {}
    subject.repeat(5)
    assert list(engine.finished()) == []
    module.call, module.last = 2, 2
    subject.repeat(5)
    (note,) = engine.finished()
    assert isinstance(note, Note)
    assert (note.kind, note.text.partition(":")[0]) == (
        "recompiled", "torch.compile compiled it once more while it was measured",
    )  # fmt: skip


class Off(Plain):
    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_module_of_which_nothing_is_compiled_is_no_compiled_one(compiled: Make) -> None:
    with pytest.raises(UnsupportedError, match=r"^torch\.compile compiles nothing of it \(.*\); use --engine eager$"):
        found(compiled().prepared(subject_on(Off())))


class Fails(Backend):
    def __init__(self, error: Exception, on: str = "tanh") -> None:
        super().__init__()
        self.error, self.on = error, on

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Graph:
        if self.on in graph.code:
            raise self.error
        return super().__call__(graph, inputs)


def test_a_backend_that_fails_is_one_sentence(compiled: Make) -> None:
    with pytest.raises(UnsupportedError) as raised:
        found(compiled(Fails(ValueError("no such tile\nand much more"))).prepared(subject_on(Plain())))
    assert str(raised.value) == "torch.compile fails on it: ValueError: no such tile"


def test_a_compiler_that_is_missing_is_not_the_modules_fault(compiled: Make) -> None:
    with pytest.raises(UnsupportedError) as raised:
        found(compiled(Fails(RuntimeError("No working C++ compiler"), on="")).prepared(subject_on(Plain())))
    assert str(raised.value) == "torch.compile cannot be used here: RuntimeError: No working C++ compiler"


def test_a_failure_is_not_hidden_by_who_lets_torch_suppress_errors(compiled: Make) -> None:
    with torch._dynamo.config.patch(suppress_errors=True):
        engine = compiled(Fails(ValueError("no such tile")))
        with pytest.raises(UnsupportedError, match="no such tile"):
            found(engine.prepared(subject_on(Plain())))
        engine.close()
        assert torch._dynamo.config.suppress_errors


def test_a_lack_of_memory_stays_one(compiled: Make) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        found(compiled(Fails(torch.OutOfMemoryError("full"))).prepared(subject_on(Plain())))


class Wrong(Backend):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def changed(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.change(output) for output in outputs)


@pytest.mark.parametrize(
    ("change", "mode", "said"),
    [
        (lambda y: y * 1.001, "fwd", "its output is off by 0.001 "),
        (lambda y: y * 1.001, "train", "its output is off by 0.001 "),
        (lambda y: y * torch.nan, "fwd", "its output holds NaN or infinity"),
        (lambda y: y.detach() + 0 * y, "fwd_bwd", "its gradients are off by 1 "),
        (lambda y: y.detach() + (y - y.detach()).sqrt(), "fwd_bwd", "its gradients hold NaN or infinity"),
    ],
)
def test_what_is_compiled_wrongly_is_found_out(compiled: Make, change: Any, mode: str, said: str) -> None:
    with pytest.raises(IncorrectError) as raised:
        found(compiled(Wrong(change)).prepared(subject_on(Plain(), mode)))
    assert str(raised.value).startswith(f"compiled, {said}")


class Drops(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


def test_what_is_random_is_not_compared_and_that_is_said(compiled: Make) -> None:
    assert found(compiled().prepared(subject_on(Drops())))[1] == {}
    _, notes = found(compiled().prepared(subject_on(Drops(), "train")))
    assert set(notes) == {"method"} and "not the same twice" in notes["method"]
    with pytest.raises(IncorrectError, match="NaN"):
        found(compiled(Wrong(lambda y: y * torch.nan)).prepared(subject_on(Drops(), "train")))


def test_what_torch_warns_of_is_kept_from_the_terminal_only_while_it_compiles(compiled: Make) -> None:
    class Warns(Backend):
        def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Graph:
            warnings.warn("think of TF32", stacklevel=1)
            return super().__call__(graph, inputs)

    logger = logging.getLogger("torch._dynamo")
    before = logger.level
    engine = compiled(Warns())
    found(engine.prepared(subject_on(Plain())))  # warnings are errors here
    assert logger.level == logging.ERROR
    engine.close()
    assert logger.level == before
    with pytest.warns(UserWarning, match="aloud"):
        warnings.warn("aloud", stacklevel=1)


@pytest.mark.skipif(not (shutil.which("g++") or os.environ.get("CXX")), reason="needs a C++ compiler")
@pytest.mark.parametrize("mode", ["fwd", "train"])
def test_inductor_compiles_with_caches_of_its_own_that_are_gone_afterwards(mode: str) -> None:
    subject, cache = subject_on(Plain(), mode), os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with engine_of("compile") as engine:
        readings, notes = found(engine.prepared(subject))
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        assert folder != cache and os.listdir(folder)  # noqa: PTH208 - a look
        subject.repeat(2)
        assert list(engine.finished()) == []
    assert readings["latency.compile_ms"] > 0
    assert notes == {}
    assert not os.path.exists(folder)  # noqa: PTH110
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == cache
