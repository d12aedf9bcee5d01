"""Calls of the compiled library."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_densenet.implementations.native.build import register


def call(
    name: str,
    results: Any,
    *arrays: jax.Array,
    attributes: Mapping[str, bool | int | float],
    aliases: dict[int, int] | None = None,
) -> Any:
    """Calls a function of the library for the type of the first array.

    Args:
      name: Of the function, without its type.
      results: Shapes and types of what it returns.
      arrays: What it is given.
      attributes: What is fixed when it is compiled.
      aliases: Numbers of arrays that it may write its results to, and those of the results.
    """
    dtype = arrays[0].dtype
    floats = (x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in arrays)
    function = jax.ffi.ffi_call(
        register(name, dtype.name),
        results,
        input_output_aliases=aliases,
        vmap_method="sequential",
    )
    return function(
        *floats,
        **{name: _as_attribute(value) for name, value in attributes.items()},
    )


def _as_attribute(value: bool | int | float) -> Any:
    """Returns a value of the type that the library's functions declare."""
    if isinstance(value, bool):
        return value
    return np.int64(value) if isinstance(value, int) else np.float64(value)


def average_prefixes(
    kept: float, running: list[jax.Array], weight: float, batch: list[jax.Array]
) -> list[jax.Array]:
    """Returns kept * x + weight * y, as `statistics.average_prefixes`, for all vectors at once."""
    averages: list[jax.Array] = _sums(kept, running, weight, batch)
    return averages


def weighted_sums(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    """Returns a x + b y for each array x of a tree and y of another, by one call for all.

    Args:
      a: Factor, a number.
      x: Tree of arrays of one type, which is that of the sums.
      b: Factor, a number.
      y: Tree with the same structure and shapes.

    Raises:
      ValueError: The trees differ.
    """
    shapes = jax.tree.map(jnp.shape, x), jax.tree.map(jnp.shape, y)
    if shapes[0] != shapes[1]:
        raise ValueError(f"trees of arrays cannot be added: {shapes[0]} and {shapes[1]}")
    return _sums(a, x, b, y)


@jax.custom_jvp
def _sums(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    """Returns a x + b y, of a longer y for its first numbers."""
    leaves, structure = jax.tree.flatten(x)
    others = jax.tree.leaves(y)
    if not leaves:
        return x
    factors = jnp.stack([jnp.asarray(factor, leaves[0].dtype) for factor in (a, b)])
    sums = call(
        "combine",
        tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves),
        factors,
        *leaves,
        *others,
        attributes={},
        aliases={number + 1: number for number in range(len(leaves))},
    )
    return jax.tree.unflatten(structure, sums)


@_sums.defjvp
def _differentiate(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    def add(a: Any, x: Any, b: Any, y: Any) -> Any:
        return jax.tree.map(lambda x, y: a * x + b * y[: len(x)], x, y)

    return _sums(*primals), jax.jvp(add, primals, tangents)[1]
