"""Calls of the compiled library."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_densenet.implementations.combination import combine_each
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


@jax.custom_jvp
def combine(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    """Returns a x + b y (see `flax_densenet.implementations.combination.Combine`).

    XLA would compile a kernel for each array, of which a network has hundreds.
    """
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


@combine.defjvp
def _differentiate(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return combine(*primals), jax.jvp(combine_each, primals, tangents)[1]
