"""Precision of the tests."""

from collections.abc import Iterator

import jax
import pytest

from flax_densenet.cache_blocked import chunks
from flax_densenet.config import ComputeType
from parity_tests.networks import CASES, Case, with_precision


@pytest.fixture(params=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[ComputeType]:
    """Runs a test in float64, which separates faults from rounding, and in float32."""
    with jax.enable_x64(request.param == "float64"), jax.default_matmul_precision("highest"):
        yield request.param


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has cache-blocked networks cut even tiny batches into several chunks."""
    monkeypatch.setattr(chunks, "_PIXELS", 100)


@pytest.fixture
def float64() -> Iterator[None]:
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, precision: ComputeType) -> Case:
    """Each tiny network, in the test's precision."""
    return with_precision(CASES[request.param], precision)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Frees the programs of each file of tests.

    XLA maps memory for every compiled loop. With all of them a process runs into the limit of the
    system (Linux: 65,530 maps), and the compiler crashes.
    """
    yield
    jax.clear_caches()
