"""What several test files need."""

import contextlib
import functools
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.cli.main import main
from flax_densenet.tests.fixtures import (
    compiled_for_children,
    float64,
    forget_compiled_programs,
    small_chunks,
)

__all__ = ["compiled_for_children", "float64", "forget_compiled_programs", "small_chunks"]


@pytest.fixture(scope="session")
def model_shapes() -> Callable[[DenseNetConfig], dict[str, Any]]:
    """A function from a configuration to the variables' shapes as the Flax modules build them."""

    @functools.cache
    def shapes(config: DenseNetConfig) -> dict[str, Any]:
        size = config.min_image_size
        image = jnp.zeros((1, size, size, config.in_channels))
        init = functools.partial(DenseNet(config).init, train=False)
        return jax.eval_shape(init, jax.random.key(0), image)

    return shapes


@pytest.fixture
def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """A function to what was printed since the last call, without frames and line breaks."""
    monkeypatch.setenv("COLUMNS", "100")

    def text() -> str:
        captured = capsys.readouterr()
        return " ".join((captured.out + captured.err).translate(_NO_FRAMES).split())

    return text


_NO_FRAMES = str.maketrans("│╭╮╰╯─", "      ")


@pytest.fixture
def status() -> Callable[..., Any]:
    """A function from the words of a command line to its exit status."""

    def run(*args: str) -> Any:
        try:
            return main(args)
        except SystemExit as exit_request:  # wrong flags and --help leave this way
            return exit_request.code

    return run


@pytest.fixture
def full_disk() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which no file may grow beyond two kilobytes, as if the disk were full."""

    @contextlib.contextmanager
    def limit() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    return limit
