"""Two outcomes of a step are told apart where they differ, and not where rounding explains it."""

import math

import numpy as np
import pytest
import torch
from engine_subjects import Plain, subject_on
from torch import Tensor, nn

from attnbench.core.case import DTYPES
from attnbench.metrics.subject import Subject
from attnbench.targets.agreement import (
    TOLERANCES,
    Outcome,
    as_written,
    changed,
    difference,
    errors,
    finite,
    numbers,
    outcome,
    rounding,
)


def outputs(*tensors: Tensor) -> Outcome:
    return Outcome(list(tensors), [])


def test_an_outputs_error_is_its_largest_over_its_largest_value() -> None:
    reference = outputs(torch.tensor([1.0, -8.0, 2.0]), torch.tensor([4.0]))
    assert errors(outputs(torch.tensor([1.0, -8.0, 2.5]), torch.tensor([4.0])), reference).outputs == 0.5 / 8
    assert errors(outputs(torch.tensor([1.0, -8.0, 2.5]), torch.tensor([3.0])), reference).outputs == 1 / 4
    assert errors(reference, reference).outputs == 0


def test_the_error_against_zeros_is_an_absolute_one() -> None:
    assert errors(outputs(torch.tensor([0.25, 0.0])), outputs(torch.zeros(2))).outputs == 0.25


def test_other_shapes_and_more_outputs_are_infinitely_far() -> None:
    assert errors(outputs(torch.zeros(2)), outputs(torch.zeros(3))).outputs == math.inf
    assert errors(outputs(torch.zeros(2)), outputs(torch.zeros(2), torch.zeros(1))).outputs == math.inf
    assert difference(subject_on(Plain()), outputs(torch.zeros(2)), outputs(torch.zeros(3))) == (
        "its outputs are of other shapes"
    )


def test_complex_outputs_are_compared_by_their_modulus() -> None:
    assert errors(outputs(torch.tensor([3 + 4j])), outputs(torch.tensor([4j]))).outputs == 3 / 4


def test_the_error_of_gradients_is_that_of_all_of_them_as_one_vector() -> None:
    rng = np.random.default_rng(0)
    reference, off = [[rng.normal(size=n) for n in (5, 7)] for _ in range(2)]
    found, true = ([torch.tensor(each) for each in both] for both in (off, reference))
    expected = np.linalg.norm(np.concatenate(off) - np.concatenate(reference)) / np.linalg.norm(
        np.concatenate(reference)
    )
    assert errors(Outcome([], list(found)), Outcome([], list(true))).gradients == pytest.approx(expected, rel=1e-6)


def test_a_gradient_that_is_not_there_is_zero() -> None:
    three = torch.tensor([3.0])
    assert errors(Outcome([], [three, None]), Outcome([], [three, torch.zeros(1)])).gradients == 0
    assert errors(Outcome([], [None, three]), Outcome([], [torch.tensor([4.0]), three])).gradients == 4 / 5


def test_every_dtype_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(DTYPES)


@pytest.mark.parametrize(("dtype", "within", "beyond"), [("fp32", 9e-5, 2e-4), ("bf16", 1.8e-2, 6e-2)])
def test_what_is_within_the_tolerance_is_no_difference(dtype: str, within: float, beyond: float) -> None:
    subject = subject_on(Plain(), dtype=dtype)
    reference = as_written(subject).outcome

    def off(by: float) -> Outcome:
        wrong = reference.outputs[0].float().clone()
        wrong.view(-1)[0] += by * wrong.abs().max()
        return outputs(wrong)

    assert difference(subject, off(within), reference) is None
    said = difference(subject, off(beyond), reference)
    assert said is not None and said.startswith("its output is off by ")


def test_no_number_is_a_difference() -> None:
    subject = subject_on(Plain())
    reference = as_written(subject).outcome
    assert difference(subject, outputs(torch.full((2, 4, 8), math.nan)), reference) is not None
    assert not finite([torch.tensor([1.0, math.inf])])
    assert finite([torch.tensor([1.0]), torch.tensor([2j])])


def test_an_error_that_rounding_makes_in_this_module_is_none() -> None:
    """x is near 1 and x - 1 near 2^-10: one unit in the last place of x is 1e-4 of what is left."""

    class Near(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - 1.0

    subject = subject_on(Near())
    subject.inputs[0].copy_(1 + 2.0**-10 * torch.rand(2, 4, 8, generator=torch.Generator().manual_seed(1)))
    reference = as_written(subject).outcome
    noise = rounding(subject, reference).outputs
    largest = float(reference.outputs[0].max())
    assert noise == pytest.approx(2.0**-23 / largest, rel=0.51)  # x (1 ± 2^-23) is one unit of x >= 1, or half of one
    assert noise > TOLERANCES["fp32"]
    for by, explained in ((1.9 * noise, True), (2.1 * noise, False)):
        off = reference.outputs[0].clone()
        off.view(-1)[0] += by * largest
        assert (difference(subject, outputs(off), reference) is None) == explained


def test_looking_at_rounding_leaves_the_weights_and_inputs_as_they_were() -> None:
    subject = subject_on(Plain(), "fwd_bwd", "bf16")
    before = [tensor.detach().clone() for tensor in subject.differentiated]
    noise = rounding(subject, as_written(subject).outcome)
    assert 0 < noise.outputs < 0.1
    assert 0 < noise.gradients < 0.1
    assert all(torch.equal(one, other) for one, other in zip(before, subject.differentiated, strict=True))
    assert all(tensor.grad is None for tensor in subject.differentiated)


def test_what_was_changed_is_put_back_when_something_is_raised() -> None:
    x, index = torch.arange(3.0, requires_grad=True), torch.arange(3)
    with pytest.raises(ZeroDivisionError), changed([x, x, index], lambda values: values + 1):
        assert x.tolist() == [1, 2, 3]  # once, although it is there twice
        assert index.tolist() == [0, 1, 2]
        raise ZeroDivisionError
    assert x.tolist() == [0, 1, 2]


def test_gradients_are_those_along_a_direction_that_softmax_feels() -> None:
    """Along ones, the direction of a step, all of them would be rounding errors."""

    class Soft(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1)

    subject = subject_on(Soft(), "fwd_bwd")
    (gradient,) = outcome(subject, subject.module).gradients
    assert gradient is not None and float(gradient.abs().max()) > 0.01
    again = outcome(subject, subject.module).gradients[0]
    assert again is not None and torch.equal(gradient, again)


def test_a_forward_alone_has_no_gradients() -> None:
    subject = subject_on(Plain())
    assert outcome(subject, subject.module).gradients == []


def written_by(module: nn.Module, mode: str = "fwd") -> tuple[Subject, bool, list[bool]]:
    subject = subject_on(module, mode)
    written = as_written(subject)
    return subject, written.repeatable, written.computed


def test_a_module_is_repeatable_unless_it_draws_random_numbers() -> None:
    class Drops(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.5, self.training)

    assert written_by(Plain())[1]
    assert written_by(Drops())[1]
    assert not written_by(Drops(), "train")[1]


def test_what_is_handed_on_is_not_computed() -> None:
    class Several(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.kept = torch.ones(3)

        def forward(self, x: Tensor) -> object:
            return {"in": x, "out": super().forward(x), "part": (x[0], self.weight), "kept": self.kept}

    assert written_by(Several())[2] == [False, True, False, False, False]


def test_numbers_leave_out_what_cannot_be_compared() -> None:
    half, complex_one = torch.ones(2, dtype=torch.float16), torch.ones(1) * 1j
    left = numbers((torch.arange(3), half, torch.ones(2, 2).to_sparse(), torch.ones(0), complex_one))
    assert [tensor.dtype for tensor in left] == [torch.float16, torch.complex64]
