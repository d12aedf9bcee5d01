"""Precision of the tests."""

from collections.abc import Iterator

import jax
import pytest
import torch

from flax_densenet.config import ComputeType
from flax_densenet.tests.fixtures import float64, forget_compiled_programs, small_chunks
from parity_tests.networks import CASES, Case, with_precision

collect_ignore = ["make_pixels.py"]  # needs torchvision

__all__ = ["float64", "forget_compiled_programs", "small_chunks"]


@pytest.fixture(autouse=True)
def torch_seed() -> None:
    """Makes PyTorch's weights and inputs the same in every run, whichever tests came before."""
    torch.manual_seed(0)


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[ComputeType]:
    """Runs a test in float64, which separates faults from rounding, and in float32."""
    with jax.enable_x64(request.param == "float64"), jax.default_matmul_precision("highest"):
        yield request.param


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, precision: ComputeType) -> Case:
    """Each tiny network, in the test's precision."""
    return with_precision(CASES[request.param], precision)
