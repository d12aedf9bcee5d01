"""Sums of two trees of arrays, each times a factor: optimizers and running averages."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Combine(Protocol):
    """A way to add two trees up."""

    def __call__(self, a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
        """Returns a x + b y for each array x of a tree and y of another with its structure.

        Args:
          a: Factor, a number.
          x: Tree of arrays of one type, which the sums have, too.
          b: Factor, a number.
          y: Tree of arrays with the same shapes; of a longer vector the first numbers count.
        """


def combine_each(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    """Returns a x + b y, computed by XLA (see `Combine`)."""

    def add(x: jax.Array, y: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        y = jnp.asarray(y if y.shape == x.shape else y[: len(x)], x.dtype)
        return jnp.asarray(a, x.dtype) * x + jnp.asarray(b, x.dtype) * y

    return jax.tree.map(add, x, y)
