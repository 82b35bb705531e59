"""Where a fault lies: the innermost frame of the user's own code, from an exception or from a dead process's report."""

import sysconfig
import textwrap
from pathlib import Path

import pytest

import attnbench
from attnbench.core.places import Place, is_own, place_in_report, place_of

STDLIB = sysconfig.get_path("stdlib")
PACKAGES = f"{STDLIB}/site-packages"
OURS = Path(attnbench.__file__).parent


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/home/ada/my_attn.py", True),
        ("my_attn.py", True),
        (f"{STDLIB}/threading.py", False),
        (f"{PACKAGES}/timm/layers/attention.py", False),
        (f"{OURS}/modules/softmax.py", False),
        (f"{OURS}/engine/answer.py", False),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
        ("", False),
    ],
)
def test_the_users_code_is_told_from_everything_else(file: str, own: bool) -> None:
    assert is_own(file) is own


def test_an_exception_was_raised_where_the_users_code_called_for_it() -> None:
    def forward() -> None:
        textwrap.dedent(3)  # type: ignore[arg-type]

    with pytest.raises(Exception) as caught:
        forward()
    place = place_of(caught.value)
    assert place is not None
    assert str(place) == f"{Path(__file__).name}, line {forward.__code__.co_firstlineno + 1}, forward"


def test_an_exception_without_a_stack_has_no_place() -> None:
    assert place_of(ValueError()) is None


def report(*stacks: tuple[str, list[str]]) -> str:
    threads = [f"{title} (most recent call first):\n" + "\n".join(frames) for title, frames in stacks]
    return "\n\n".join(["Fatal Python error: Segmentation fault", *threads, "Extension modules: numpy (total: 1)"])


def frame(file: str, line: int, function: str) -> str:
    return f'  File "{file}", line {line} in {function}'


TORCH = frame(f"{PACKAGES}/torch/nn/modules/module.py", 1751, "_call_impl")
TIMM = frame(f"{PACKAGES}/timm/layers/attention.py", 80, "forward")
ENGINE = frame(f"{OURS}/engine/measure.py", 9, "measure")
MINE = frame("/home/ada/my attn.py", 12, "forward")
OTHER = frame("/home/ada/threads.py", 5, "spin")
WAITING = frame(f"{STDLIB}/threading.py", 1, "wait")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", None),
        ("Segmentation fault", None),
        (report(("Current thread 0x1", [TORCH, ENGINE])), None),
        (report(("Current thread 0x1", [TORCH, MINE, TORCH, OTHER, ENGINE])), "my attn.py, line 12, forward"),
        (report(("Current thread 0x1", [TORCH, TIMM, MINE])), "my attn.py, line 12, forward"),
        (report(("Current thread 0x1", [TORCH, TIMM, ENGINE])), "attention.py, line 80, forward"),
        # The current thread before others, then the main one, which is the last.
        (report(("Thread 0x2", [OTHER]), ("Current thread 0x1", [MINE])), "my attn.py, line 12, forward"),
        (report(("Current thread 0x2", [OTHER]), ("Thread 0x1", [MINE])), "threads.py, line 5, spin"),
        (report(("Current thread 0x2", [WAITING]), ("Thread 0x3", [OTHER]), ("Thread 0x1", [MINE])),
         "my attn.py, line 12, forward"),
        (report(("Thread 0x2", [OTHER]), ("Thread 0x1", [WAITING])), "threads.py, line 5, spin"),
    ],
)  # fmt: skip
def test_the_report_of_a_dead_process_names_the_place(text: str, place: str | None) -> None:
    found = place_in_report(text)
    assert (None if found is None else str(found)) == place


def test_code_outside_of_functions_has_a_line_alone() -> None:
    assert str(Place("/home/ada/my_attn.py", 3, "<module>")) == "my_attn.py, line 3"
