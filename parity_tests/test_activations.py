"""Rung 2: every module's output, by name, in evaluation and in training."""

from parity_tests.compare import TOLERANCES, assert_close
from parity_tests.observation import Observation, comparable


def test_every_module_output_agrees(
    observed: tuple[Observation, Observation], precision: str
) -> None:
    ours, theirs = observed
    assert_close(ours.activations, comparable(theirs.activations), TOLERANCES[precision].forward)


def test_running_statistics_agree(
    observed: tuple[Observation, Observation], precision: str
) -> None:
    ours, theirs = observed
    assert_close(ours.statistics, theirs.statistics, TOLERANCES[precision].forward)
