"""Fixtures of the tests here and in parity_tests/."""

import os
import signal
from collections.abc import Iterator

import jax
import pytest

from flax_densenet.implementations.blocked import features as blocked
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.native import features as native

SMALL_CHUNKS = Chunking(pixels=100)

# A shell starts jobs in the background with SIGINT ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Compiling takes most of the tests' time, and their networks are tiny. XLA reads this when it first
# computes, here and in the processes that tests start. Its fusion emitters go through MLIR, which
# takes two thirds of the time; without them it writes the same fusions with LLVM alone. Flags of
# the environment come last and win: .github/workflows/slow.yml has the emitters.
_XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{_XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
# A test must not find what an earlier one compiled.
jax.config.update("jax_enable_compilation_cache", False)


@pytest.fixture(scope="session", autouse=True)
def compiled_for_children(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives the processes that tests start one directory for the programs that they compile."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # all workers share one
        directory = directory.parent
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


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
