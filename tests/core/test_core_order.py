"""Claims as people write them, and what is no claim."""

from fractions import Fraction

import pytest

from attnbench.core.errors import UsageError
from attnbench.core.order import Order, parse_order

N, N2, N15 = Order(Fraction(1)), Order(Fraction(2)), Order(Fraction(3, 2))
N_LOG = Order(Fraction(1), 1)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("O(N)", N), ("N", N), (" o( n ) ", N), ("O(N^1)", N),
        ("O(N^2)", N2), ("N²", N2), ("O(N**2)", N2), ("n^{2}", N2), ("N*N", N2), ("N N", N2), ("O(N·N)", N2),
        ("O(N^1.5)", N15), ("O(N*sqrt(N))", N15), ("N √N", N15), ("N^(3/2)", N15), ("N sqrt(N)", N15),
        ("O(N log N)", N_LOG), ("N log N", N_LOG), ("N*log(N)", N_LOG), ("O(N log2 N)", N_LOG), ("N log₂ N", N_LOG),
        ("NlogN", N_LOG), ("O(1)", Order(Fraction(0))), ("1", Order(Fraction(0))), ("log N", Order(Fraction(0), 1)),
        ("O(N log N log N)", Order(Fraction(1), 2)), ("O(N³)", Order(Fraction(3))),
    ],
)  # fmt: skip
def test_a_claim_is_read(text: str, order: Order) -> None:
    assert parse_order(text) == order


@pytest.mark.parametrize("text", ["", "O()", "linear", "O(M)", "O(N*d)", "N^", "N^x", "N *", "O(N", "2N", "N + 1",
                                  "N^1/0", "N^-1", "N***2", "N^2.", "O(N))", "\x00", "*N"])  # fmt: skip
def test_what_is_no_claim_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="is no claim in the number of tokens N: write it like"):
        parse_order(text)


def test_orders_are_compared_by_how_fast_they_grow() -> None:
    assert Order(Fraction(0)) < N < N_LOG < N15 < N2
    assert max(N2, N_LOG, N) == N2


@pytest.mark.parametrize(
    ("order", "text", "plain"),
    [
        (N, "N", "N"), (N2, "N²", "N^2"), (N15, "N¹·⁵", "N^1.5"), (N_LOG, "N log N", "N log N"),
        (Order(Fraction(0)), "1", "1"), (Order(Fraction(0), 1), "log N", "log N"), (Order(Fraction(2), 1), "N² log N",
                                                                                    "N^2 log N"),
    ],
)  # fmt: skip
def test_how_an_order_is_printed(order: Order, text: str, plain: str) -> None:
    assert str(order) == text
    assert order.big_o == f"O({text})"
    assert order.plain == plain
    assert parse_order(plain) == order
