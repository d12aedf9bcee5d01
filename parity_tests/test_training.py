"""Rung 4: ten steps of training, with learning-rate drops inside, leave both in the same state."""

from parity_tests.networks import Case, random_variables
from parity_tests.training import compare_training


def test_ten_steps_agree(case: Case, precision: str) -> None:
    compare_training(case, random_variables(case.config), precision, num_steps=10)
