"""Fixtures of the tests here and in parity_tests/."""

from collections.abc import Iterator

import jax
import pytest

from flax_densenet.implementations.blocked import features as blocked
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.native import features as native

SMALL_CHUNKS = Chunking(pixels=100)


@pytest.fixture
def float64() -> Iterator[None]:
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has even tiny batches cut into several chunks."""
    for features in (blocked, native):
        monkeypatch.setattr(features, "CHUNKING", SMALL_CHUNKS)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Frees the programs of each file of tests.

    XLA maps memory for every compiled loop. With all of them a process runs into the limit of the
    system (Linux: 65,530 maps), and the compiler crashes.
    """
    yield
    jax.clear_caches()
