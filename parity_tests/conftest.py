"""Precision of the tests, and observations shared between the rungs."""

import functools
from collections.abc import Iterator

import jax
import pytest

from flax_densenet.config import ComputeType
from parity_tests.networks import CASES, Case, random_batch, random_variables, with_precision
from parity_tests.observation import Observation, observe_flax, observe_torch


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[ComputeType]:
    """Runs a test in float64, which separates faults from rounding, and in float32."""
    with jax.enable_x64(request.param == "float64"), jax.default_matmul_precision("highest"):
        yield request.param


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, precision: ComputeType) -> Case:
    """Each tiny network, in the test's precision."""
    return with_precision(CASES[request.param], precision)


@pytest.fixture(params=[False, True], ids=["evaluation", "training"])
def train(request: pytest.FixtureRequest) -> bool:
    """Both modes of the network."""
    return request.param


@pytest.fixture
def observed(case: Case, train: bool) -> tuple[Observation, Observation]:
    """The same pass in Flax and in PyTorch."""
    return _observe(case, train)


@functools.cache
def _observe(case: Case, train: bool) -> tuple[Observation, Observation]:
    variables, (image, label) = random_variables(case.config), random_batch(case)
    return (
        observe_flax(variables, case.config, image, label, train=train),
        observe_torch(variables, case.config, image, label, train=train),
    )
