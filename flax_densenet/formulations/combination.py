"""Sums of two trees of arrays, each times a factor: the arithmetic of optimizers and averages."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from flax_densenet.formulation import ChosenFormulation
from flax_densenet.formulations import native


class Combine(Protocol):
    """A way to add two trees up."""

    def __call__(self, a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
        """Returns a x + b y for each array x of a tree and y of another with its structure.

        Args:
          a: Factor, a number.
          x: Tree of arrays of one type, which the sums have, too.
          b: Factor, a number.
          y: Tree of arrays with the same shapes.
        """


def combine_each(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    """Returns a x + b y, computed by XLA (see `Combine`)."""

    def add(x: jax.Array, y: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        return jnp.asarray(a, x.dtype) * x + jnp.asarray(b, x.dtype) * y

    return jax.tree.map(add, x, y)


def choose_combine(formulation: ChosenFormulation) -> Combine:
    """Returns the way that goes with how the network is computed."""
    return native.combine if formulation == "native" else combine_each
