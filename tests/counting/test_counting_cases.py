"""The promise of the printed figures: integers equal to those derived by hand, on meta, fake and real tensors."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from all_cases import CASES
from hand_case import SIZES, HandCase

from attnbench.core.record import Note
from attnbench.metrics.counters.dispatch import dispatch_count
from attnbench.metrics.counting import count_backward, count_macs, count_parameters
from attnbench.metrics.metric import Finding, Options
from attnbench.targets.fake import fake_tensors

# torch warns of nested tensors, of scripting and of flex_attention that nobody compiled.
pytestmark = pytest.mark.filterwarnings("ignore")

WITH_BACKWARD = [case for case in CASES if case.backward is not None]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def read(findings: Iterator[Finding]) -> tuple[dict[str, Any], list[Note]]:
    found = list(findings)
    notes = [each for each in found if isinstance(each, Note)]
    return {each.name: each.value for each in found if not isinstance(each, Note)}, notes


def test_there_are_cases_of_many_kinds_and_each_is_derived() -> None:
    assert len(CASES) >= 48
    assert len({case.kind for case in CASES}) >= 24
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(WITH_BACKWARD) >= 10
    assert [case.name for case in CASES if len(case.make.__doc__ or "") < 40] == []


@pytest.mark.parametrize(("name", "macs"), [("VGG16: at 224", 15_470_264_320), ("ViT-B/16: at 224", 17_563_828_224)])
def test_networks_whose_figures_are_known(name: str, macs: int) -> None:
    (case,) = (case for case in CASES if case.name == name)
    assert case.value("macs") == macs


@pytest.mark.parametrize("where", ["meta", "cpu"])
@each_case
def test_the_printed_macs_are_those_derived_by_hand(case: HandCase, where: str) -> None:
    readings, notes = read(count_macs(case.subject(where), Options()))
    if case.flagged and readings["static.counters"]["dispatch"] != case.value("macs"):
        assert not readings.get("static.verified"), case.flagged
        assert any(note.kind == "uncounted" for note in notes), case.flagged
        return
    assert readings["static.macs"] == case.value("macs")
    assert readings["static.flops"] == 2 * case.value("macs")
    assert readings["static.uncounted_ops"] == {}
    assert readings["static.useful_macs"] == case.value("useful")
    assert readings["static.fft_flops"] == case.value("fft")
    assert readings["static.macs_by_module"].get("", 0) == case.value("macs")
    assert sum(readings["static.macs_by_op"].values()) == case.value("macs")


@each_case
def test_fake_tensors_count_the_same(case: HandCase) -> None:
    try:
        with fake_tensors():
            count = dispatch_count(case.subject("fake"))
    except NotImplementedError as error:
        if case.flagged and "no rule registered" in str(error):
            pytest.skip("this torch cannot watch a higher-order operator on fake tensors")
        raise
    assert count.macs == case.value("macs") or (case.flagged and count.uncounted)


@pytest.mark.parametrize("side", [8, 20])
@each_case
def test_other_sizes(case: HandCase, side: int) -> None:
    """One sample, and maps that are smaller and larger: the formula holds, not only its value."""
    if case.flagged:
        pytest.skip(case.flagged)
    assert dispatch_count(case.subject("meta", sizes=SIZES.at(side))).macs == case.value("macs", SIZES.at(side))


@each_case
def test_parameters(case: HandCase) -> None:
    readings, _ = read(count_parameters(case.subject("meta"), Options()))
    assert readings["static.params"] == case.value("params")


@pytest.mark.parametrize("where", ["meta", "fake", "cpu"])
@pytest.mark.parametrize("case", WITH_BACKWARD, ids=lambda case: case.name)
def test_backward(case: HandCase, where: str) -> None:
    with fake_tensors() if where == "fake" else nullcontext():
        readings, _ = read(count_backward(case.subject(where, mode="fwd_bwd"), Options()))
    assert readings["static.backward_macs"] == case.value("backward")
    if where != "meta":  # where fused attention is taken apart, and nothing is computed anew
        assert readings["static.recomputed_macs"] == case.value("recomputed")
