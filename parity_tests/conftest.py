"""Precision of the tests."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import pytest
import torch

from flax_densenet.network.fields import ComputeType
from flax_densenet.tests.fixtures import (
    compiled_for_children,
    float64,
    forget_compiled_programs,
    small_chunks,
)
from parity_tests.networks import CASES, Case, with_precision

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers take the cores

collect_ignore = ["make_golden.py", "make_pixels.py", "make_xray.py"]  # need other software

__all__ = ["compiled_for_children", "float64", "forget_compiled_programs", "small_chunks"]


@pytest.fixture(autouse=True)
def torch_seed() -> None:
    """Makes PyTorch's weights and inputs the same in every run, whichever tests came before."""
    torch.manual_seed(0)


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[ComputeType]:
    """Runs a test in float64, which separates faults from rounding, and in float32."""
    with _computing_in(request.param):
        yield request.param


# Rounding, which is all that float32 adds to float64, is much the same in the others.
_BY_DAY_IN_FLOAT32 = ("BC, Keras epsilon",)
# What these two have, "plain, gray, odd size" and "ImageNet, gray, odd size" have, too; and the
# native implementation computes "ImageNet" by day.
_BY_NIGHT = ("plain", "ImageNet")


def _cases() -> Iterator[Any]:
    for name in CASES:
        for precision in ("float64", "float32"):
            by_day = name in _BY_DAY_IN_FLOAT32 if precision == "float32" else name not in _BY_NIGHT
            marks = [] if by_day else [pytest.mark.slow]
            yield pytest.param((name, precision), id=f"{name}-{precision}", marks=marks)


@pytest.fixture(params=_cases())
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each tiny network, in both precisions."""
    name, precision = request.param
    with _computing_in(precision):
        yield with_precision(CASES[name], precision)


@contextlib.contextmanager
def _computing_in(precision: ComputeType) -> Iterator[None]:
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision("highest"):
        yield
