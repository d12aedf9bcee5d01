"""Fixtures of the tests here and in parity_tests/."""

from collections.abc import Iterator

import jax
import pytest

from flax_densenet.implementations.blocked import body as blocked_body
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.native import body as native_body

SMALL_CHUNKS = Chunking(pixels=100)


@pytest.fixture
def float64() -> Iterator[None]:
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has cache-blocked networks cut even tiny batches into several chunks."""
    jax.clear_caches()  # programs with chunks of the usual size, and later those with small ones
    for body in (blocked_body, native_body):
        monkeypatch.setattr(body, "_CHUNKING", SMALL_CHUNKS)
    yield
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Frees the programs of each file of tests.

    XLA maps memory for every compiled loop. With all of them a process runs into the limit of the
    system (Linux: 65,530 maps), and the compiler crashes.
    """
    yield
    jax.clear_caches()
