"""Rung 3: the loss, and its gradient for the image and every parameter."""

from parity_tests.compare import TOLERANCES, assert_close
from parity_tests.observation import Observation


def test_loss_agrees(observed: tuple[Observation, Observation], precision: str) -> None:
    ours, theirs = observed
    assert_close(ours.loss, theirs.loss, TOLERANCES[precision].forward)


def test_every_gradient_agrees(observed: tuple[Observation, Observation], precision: str) -> None:
    ours, theirs = observed
    tolerance = TOLERANCES[precision]
    assert_close(ours.gradients, theirs.gradients, tolerance.gradient, tolerance.gradient_floor)
