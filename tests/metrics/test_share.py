"""The time of a network's attentions alone: which are timed, with what, how often each counts, and when none is."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading
from attnbench.core.stats import Estimate
from attnbench.metrics import share
from attnbench.metrics.metric import Options
from attnbench.metrics.share import measure_share
from attnbench.metrics.subject import Subject
from attnbench.metrics.timing.sampling import Samples


class Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        y = self.proj(x) * scale
        x.zero_()  # what it was handed must have been kept before
        return y


class Network(nn.Module):
    """Three attentions of one kind at two lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Attention(8), Attention(8), Attention(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x.clone(), scale=2.0).clone(), scale=2.0)
        return self.third(x[:, ::2].clone(), scale=2.0)


def subject(mode: str = "fwd", engine: str = "eager", kind: str = "network", found: bool = True) -> Subject:
    network = Network()
    case = Case("net", kind=kind, height=4, width=4, mode=mode, engine=engine)
    attentions = [network.first, network.second, network.third] if found else []
    x = torch.ones(1, 16, 8)
    return Subject(case, network, (x,), "cpu", attentions=lambda: attentions, readings={"latency.median_ms": 40.0})


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Subject, Options]]:
    """What is timed; each takes as many milliseconds as it has tokens."""
    seen: list[tuple[Subject, Options]] = []

    def time_of(subject: Subject, options: Options) -> Samples:
        seen.append((subject, options))
        tokens = float(subject.inputs[0].shape[1])
        return Samples([tokens], 1, Estimate(tokens, tokens * 0.9, tokens * 1.2))

    monkeypatch.setattr(share, "time_of", time_of)
    return seen


def readings(found: Sequence[Any]) -> dict[str, Any]:
    return {each.name: each.value for each in found if isinstance(each, Reading)}


def test_each_kind_is_timed_once_and_counts_as_often_as_it_stands_there(timed: list[tuple[Subject, Options]]) -> None:
    found = readings(list(measure_share(subject(), Options(max_time=2.0))))
    assert len(timed) == 2  # two places share weights' shapes and inputs' shapes
    assert {options.max_time for _, options in timed} == {1.0}
    assert found["attention.places"] == 3
    assert found["attention.alone_ms"] == 16 + 16 + 8
    assert found["attention.alone_low_ms"] == pytest.approx(0.9 * 40)
    assert found["attention.alone_high_ms"] == pytest.approx(1.2 * 40)
    assert found["attention.share"] == pytest.approx(100.0)


def test_it_is_given_what_the_network_hands_it(timed: list[tuple[Subject, Options]]) -> None:
    whole = subject()
    list(measure_share(whole, Options()))
    alone = timed[0][0]
    assert torch.equal(alone.inputs[0], torch.ones(1, 16, 8))
    expected = whole.module.first.proj(torch.ones(1, 16, 8)) * 2  # the keyword argument is in place
    torch.testing.assert_close(alone.forward(), expected)


def test_with_a_backward_it_hands_gradients_on(timed: list[tuple[Subject, Options]]) -> None:
    list(measure_share(subject("fwd_bwd"), Options()))
    alone = timed[0][0]
    assert alone.inputs[0].requires_grad
    assert len(alone.differentiated) == 3  # weight, bias and the input
    assert alone.module.training


def test_the_attentions_alone_may_take_longer_than_the_network_and_it_says_so(timed: list[Any]) -> None:
    slow = subject()
    slow.readings = {"latency.median_ms": 39.0}
    notes = [each.kind for each in measure_share(slow, Options()) if isinstance(each, Note)]
    assert "share" in notes


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": "module"}, "a module is alone"),
        ({"mode": "train"}, "mode train has no step that an attention alone could run"),
        ({"mode": "bwd"}, "mode bwd has no step that an attention alone could run"),
        ({"engine": "compile"}, "with --engine compile the parts of a network are not run one by one"),
        ({"found": False}, "no attention of the network's was found"),
    ],
)
def test_where_there_is_nothing_to_time_a_note_says_why(fields: dict[str, Any], why: str) -> None:
    (note,) = measure_share(subject(**fields), Options())
    assert isinstance(note, Note)
    assert note.kind == "not_measured"
    assert note.text.endswith(f": {why}")


def test_what_does_not_run_alone_costs_only_its_own_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_of(subject: Subject, options: Options) -> Samples:
        raise RuntimeError("needs its network")

    monkeypatch.setattr(share, "time_of", time_of)
    (note,) = measure_share(subject(), Options())
    assert isinstance(note, Note)
    assert note.text.endswith("an attention does not run alone (RuntimeError: needs its network)")
