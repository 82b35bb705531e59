"""Which kernel scaled_dot_product_attention may take while a case is measured: the one asked for, or none at all."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench.core.errors import UnsupportedError, first_line
from attnbench.metrics.attention import kernel_names, operators_of
from attnbench.metrics.subject import Subject

__all__ = ["attention_backend", "first_step"]

_BACKENDS: Mapping[str, SDPBackend] = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
# What torch raises when no kernel is left: its words differ between devices.
_REFUSALS = ("No available kernel", "No viable backend")


@contextmanager
def attention_backend(name: str | None) -> Iterator[None]:
    """Inside, this kernel alone is allowed; with None the choice is torch's own."""
    if name is None:
        yield
        return
    with sdpa_kernel(_BACKENDS[name]):
        yield


def first_step(subject: Subject) -> Any:
    """The output of one step, and with a backend asked for the certainty that its kernel ran.

    Raises:
        UnsupportedError: torch refuses that kernel, with its reasons; or the step calls no attention that it serves.
    """
    wanted = subject.case.backend
    if wanted is None:
        return subject.step()
    outputs: list[Any] = []
    with warnings.catch_warnings(record=True) as reasons:
        warnings.simplefilter("always")  # torch says there why each kernel will not do
        try:
            operators = operators_of(lambda: outputs.append(subject.step()))
        except RuntimeError as error:
            if any(words in str(error) for words in _REFUSALS):
                raise UnsupportedError(_refusal(subject, reasons, error)) from error
            raise
    found = kernel_names(operators)
    if not found:
        raise UnsupportedError(f"{subject.case.name} calls no scaled_dot_product_attention: --backend would change "
                               "nothing")  # fmt: skip
    if found != [wanted]:
        raise UnsupportedError(f"{subject.case.name} chooses for itself: asked for {wanted}, and {', '.join(found)} "
                               "ran")  # fmt: skip
    return outputs[0]


def _refusal(subject: Subject, reasons: list[warnings.WarningMessage], error: RuntimeError) -> str:
    said = [first_line(reason.message) for reason in reasons if isinstance(reason.message, Warning)]
    # "Memory Efficient attention has been runtime disabled." is our own doing.
    own = [text.split(" (Triggered")[0] for text in said if "disabled" not in text]
    why = "; ".join(dict.fromkeys(own)) or first_line(error).partition(". ")[0]
    here = " (of these kernels a CPU has math and flash)" if subject.case.device == "cpu" else ""
    return f"--backend {subject.case.backend} is refused by torch{here}: {why}"
