"""A batch norm in train mode that sees one value for each channel: torch refuses it, and here it is said what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError

__all__ = ["one_value_explained", "sees_one_value"]


def sees_one_value(error: BaseException) -> bool:
    """Whether it is this that torch says; in eval mode the same module runs, and so it does with more samples."""
    return isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error)


@contextmanager
def one_value_explained(case: Case) -> Iterator[None]:
    """Inside, that refusal becomes one of this case.

    Raises:
        UnsupportedError: a batch norm sees one value.
    """
    try:
        yield
    except ValueError as error:
        if not sees_one_value(error):
            raise
        where = f"{case.name} at {case.size} with batch size {case.batch_size}"
        raise UnsupportedError(f"{where} has a batch norm that sees one value per channel, which train mode refuses: "
                               "give it a larger --batch-size") from error  # fmt: skip
