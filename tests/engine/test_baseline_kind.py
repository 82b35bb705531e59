"""Environments of one kind, and what is said of two that are not."""

from typing import Any

import pytest

from attnbench.core.errors import UsageError
from attnbench.engine.gate.same_kind import ALLOWED, parsed_allow, same_kind

GPU = {"device_name": "NVIDIA H200", "cpu": "Xeon", "cores": 16, "system": "Linux", "threads": 1,
       "torch": "2.8.0+cu126", "python": "3.11.9", "cuda": "12.6", "driver": "550.54.15",
       "flags": {"allow_tf32_matmul": False}}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{}, {"torch": "2.8.1"}, {"python": "3.11.2"}, {"driver": "550.90"}, {"fingerprint": "another"}, {"driver": None},
     {"started_at": "later"}],
)  # fmt: skip
def test_repairs_and_what_is_not_known_make_no_other_kind(change: dict[str, Any]) -> None:
    assert same_kind(GPU, GPU | change) == ""


@pytest.mark.parametrize(
    "name, change",
    [("device", {"device_name": "NVIDIA A100"}), ("cpu", {"cpu": "EPYC"}), ("cores", {"cores": 8}),
     ("system", {"system": "Darwin"}), ("threads", {"threads": 2}), ("torch", {"torch": "2.10.0"}),
     ("python", {"python": "3.12.0"}), ("cuda", {"cuda": "12.8"}), ("driver", {"driver": "580.1"}),
     ("flags", {"flags": {"allow_tf32_matmul": True}})],
)  # fmt: skip
def test_each_difference_is_said_and_can_be_allowed_by_its_name(name: str, change: dict[str, Any]) -> None:
    found = same_kind(GPU, GPU | change)
    assert f"--allow {name}" in found
    assert same_kind(GPU, GPU | change, [name]) == ""
    assert same_kind(GPU, GPU | change, set(ALLOWED) - {name}) == found


def test_the_sentence_has_both_sides() -> None:
    now = GPU | {"torch": "2.9.0", "cores": 8}
    assert same_kind(GPU, now) == (
        "the baseline was measured with 16 cores, torch 2.8, and this is 8 cores, torch 2.9: write it anew here, or "
        "let them differ with --allow cores,torch"
    )


def test_a_processor_that_is_the_device_is_said_once() -> None:
    before, after = ({"device_name": name, "cpu": name} for name in ("Xeon", "EPYC"))
    assert same_kind(before, after).endswith("--allow device")


def test_names_that_are_allowed_come_in_lists() -> None:
    assert parsed_allow([]) == frozenset()
    assert parsed_allow(["torch, Driver", "cpu"]) == {"torch", "driver", "cpu"}
    with pytest.raises(UsageError, match="Did you mean 'torch'"):
        parsed_allow(["toch"])
