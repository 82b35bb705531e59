"""Numbers as people type and read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.core.errors import UsageError
from attnbench.core.units import GIB, KIB, MIB, UNITS, human_bytes, parse_bytes, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1.2288, "1.229"), (224.64, "224.6"), (0.56312, "0.5631"), (1.0, "1.000"), (0.99999, "1.000"),
        (9999, "9999"), (12345, "12,345"), (1234567.8, "1,234,568"), (1e7, "1.000e+07"), (0.0001, "0.0001000"),
        (0.00001234, "1.234e-05"), (-3.14159, "-3.142"), (1000, "1000"), (math.inf, "inf"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_four_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@given(st.floats(1e-4, 1e7))
def test_what_is_printed_is_the_value_to_four_digits(value: float) -> None:
    assert float(significant(value).replace(",", "")) == pytest.approx(value, rel=5.1e-4)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KIB, "1.0 KiB"), (64 * MIB, "64.0 MiB"), (int(9.4 * GIB), "9.4 GiB"),
     (2048 * GIB, "2048.0 GiB")],
)  # fmt: skip
def test_bytes_in_the_unit_that_suits(value: int, text: str) -> None:
    assert human_bytes(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("80GiB", 80 * GIB), ("512M", 512 * MIB), ("1.5 GB", 1_500_000_000), ("4096", 4096), (" 2 kib ", 2048),
     ("0.5k", 512), ("1TB", 10**12), ("1t", 1024 * GIB), ("7b", 7), ("9007199254740993", 9007199254740993),
     ("0.1GiB", 107374182)],
)  # fmt: skip
def test_a_typed_size(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "1e3", "1,5GB", "nan", "inf", "1 GiB 2", "1.GB", ".5GB", "5 apples", "٣GB", "9" * 400]
)
def test_what_is_no_size_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size in memory"):
        parse_bytes(text)


@given(st.integers(0, 2**60))
def test_plain_bytes_are_exact(value: int) -> None:
    assert parse_bytes(str(value)) == value


@pytest.mark.parametrize(
    ("unit", "value", "heading", "cell"),
    [
        ("ms", 1.2288, "Title (ms)", "1.229"),
        ("bytes", 3 * MIB, "Title (MiB)", "3.000"),
        ("count", 25_557_032, "Title", "25,557,032"),
        ("MAC", 4_089_184_256, "Title (GMAC)", "4.089"),
        ("FLOP", 8_178_368_512, "Title (GFLOP)", "8.178"),
        ("1/s", 1234.5, "Title (1/s)", "1234"),
        ("x", 3.14159, "Title (×)", "3.14"),
        ("", 2, "Title", "2.000"),
    ],
)
def test_the_unit_stands_in_the_heading_and_the_cell_is_bare(unit: str, value: float, heading: str, cell: str) -> None:
    assert UNITS[unit].heading("Title") == heading
    assert UNITS[unit].cell(value) == cell
