"""How exactly JAX computes."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import jax

from flax_densenet.parity.settings import Setting


@contextmanager
def computing(setting: Setting) -> Iterator[None]:
    """Sets JAX to a precision."""
    exact = jax.default_matmul_precision("highest") if setting.is_exact else nullcontext()
    with jax.enable_x64(setting.dtype == "float64"), exact:
        yield
