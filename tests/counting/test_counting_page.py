"""The committed page is of these cases, these hand counts and these counters, and shows no wrong figure of ours."""

from pathlib import Path

import pytest
from all_cases import CASES
from counting_table import cell, ratio
from hand_case import HandCase
from outside_counters import COUNTERS, Answer

PAGE = Path(__file__).parents[2] / "results" / "counting.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="results/ is not part of the source distribution")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The case table by the name of the case."""
    _, _, page = PAGE.read_text(encoding="utf-8").partition("## Case by case")
    page, _, _ = page.partition("## Who calls")
    found = [[part.strip() for part in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in found}


def test_the_page_has_every_case_and_every_counter(rows: dict[str, list[str]]) -> None:
    assert set(rows) - {"case", "---"} == {case.name for case in CASES}
    assert set(rows["case"][2:]) <= set(COUNTERS)
    assert len(rows["case"]) >= 2 + 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_page_shows_the_hand_count_and_ours_equal(case: HandCase, rows: dict[str, list[str]]) -> None:
    derivation, macs, ours, *_ = rows[case.name]
    assert derivation == f"`{case.macs}`"
    assert macs == f"{case.value('macs'):,}"
    assert ours == "✓" or (case.flagged and ours == "open")


def test_a_cell_never_calls_a_wrong_figure_right() -> None:
    assert cell(Answer(100), 100) == "✓"
    assert cell(Answer(57), 100) == "0.57x"
    assert cell(Answer(100_001), 100_000) == "1.00001x"
    assert cell(Answer(0), 100) == "0"
    assert cell(Answer(50, open=True), 100) == "open"
    assert cell("TypeError: no", 100) == "–"
    assert ratio(2399.7) == "2400x"
