"""Modules that are traps for counters, through the ordinary path: the count by hand, or a doubt said aloud."""

from pathlib import Path
from typing import Any

import open_modules
import pytest
import robust_modules

from attnbench.core.case import Case
from attnbench.core.errors import CaseError
from attnbench.core.record import Note, Reading
from attnbench.engine.measure import measure
from attnbench.metrics.metric import Options
from attnbench.targets.resolve import resolve

# torch warns of scripting, of flex_attention that nobody compiled, and of what numpy may write into.
pytestmark = pytest.mark.filterwarnings("ignore")

SIDE, CHANNELS, BATCH = 6, 32, 2
ROBUST = [name for name, made in vars(robust_modules).items() if name in robust_modules.MACS and isinstance(made, type)]
OPEN = [name for name, made in vars(open_modules).items() if name in robust_modules.MACS and name not in ROBUST]


def by_hand(name: str) -> int:
    return int(eval(robust_modules.MACS[name], {"B": BATCH, "N": SIDE**2, "C": CHANNELS}))


def measured(module: Any, name: str) -> tuple[dict[str, Any], list[Note]]:
    """The record's figures, as `attnbench run --metrics static --module FILE:NAME` finds them."""
    target = f"{Path(str(module.__file__))}:{name}"
    case = Case(target, layout="bnc", batch_size=BATCH, height=SIDE, width=SIDE, tokens=SIDE**2, dim=CHANNELS)
    found = list(measure(resolve(case), Options(metrics=("static",))))
    notes = [each for each in found if isinstance(each, Note)]
    return {each.name: each.value for each in found if isinstance(each, Reading)}, notes


@pytest.mark.parametrize("name", ROBUST)
def test_the_count_is_that_by_hand(name: str) -> None:
    readings, _ = measured(robust_modules, name)
    assert readings["static.macs"] == by_hand(name)
    assert readings["static.flops"] == 2 * by_hand(name)


@pytest.mark.parametrize("name", OPEN)
def test_the_count_is_that_by_hand_or_in_doubt(name: str) -> None:
    """What cannot be built or run at all is a row with that status and its reason: no figure is no wrong figure."""
    try:
        readings, notes = measured(open_modules, name)
    except CaseError as refused:
        assert name in str(refused)
        return
    if readings.get("static.macs") != by_hand(name):
        assert not readings.get("static.verified")
        assert {note.kind for note in notes} & {"uncounted", "unverified"}
