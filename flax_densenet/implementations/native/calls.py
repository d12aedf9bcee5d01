"""Calls of the compiled kernels."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_densenet.implementations.native.build import register

# Arrays and results of each kernel in the order of its C++ binding, without its packs.
_SIGNATURES = {
    "dense_block_forward": ("x", "features mean var inner_mean inner_var bottlenecks"),
    "dense_block_backward": (
        "features mean var inner_mean inner_var bottlenecks "
        "grad_features grad_mean grad_var grad_inner_mean grad_inner_var",
        "grad_x grad_maps recomputed grad_bottleneck",
    ),
    "block_evaluate": ("x", "y"),
    "transition_forward": ("x mean var scale bias kernel", "y"),
    "transition_backward": (
        "x mean var scale bias kernel grad_y",
        "grad_x grad_mean grad_var grad_scale grad_bias grad_kernel",
    ),
    "stem_forward": ("image scale bias kernel", "convolved mean var pooled winners"),
    "stem_backward": (
        "image scale bias kernel convolved mean var pooled winners grad_pooled grad_mean grad_var",
        "grad_scale grad_bias grad_kernel",
    ),
    "stem_evaluate": ("image scale bias kernel running_mean running_var", "pooled"),
    "weighted_sum": ("factors", ""),
}


def call(
    name: str,
    arrays: Mapping[str, jax.Array],
    pack: Sequence[jax.Array] = (),
    *,
    results: Mapping[str, jax.ShapeDtypeStruct],
    result_pack: Sequence[jax.ShapeDtypeStruct] = (),
    attributes: Mapping[str, bool | int | float],
    aliases: Mapping[str, str] | None = None,
    pack_aliases: Mapping[int, int] | None = None,
) -> tuple[dict[str, jax.Array], list[jax.Array]]:
    """Calls a kernel of the type of the first array.

    Args:
      name: Name of the kernel, without its type.
      arrays: Its arrays under their names in the C++ sources.
      pack: The arrays without a name, such as the parameters of all layers.
      results: Shapes and types of its results.
      result_pack: Shapes and types of the results without a name.
      attributes: Constants of the compiled program.
      aliases: Results that may be written to the memory of an array: {result: array}.
      pack_aliases: The same for the packs: {number of the result: number of the array}.

    Returns:
      The results under their names, and those without a name.
    """
    array_names, result_names = (names.split() for names in _SIGNATURES[name])
    assert arrays.keys() == set(array_names) and results.keys() == set(result_names)
    given = [*(arrays[array] for array in array_names), *pack]
    dtype = given[0].dtype
    floats = [x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in given]
    places = {
        array_names.index(array): result_names.index(result)
        for result, array in (aliases or {}).items()
    }
    for result, array in (pack_aliases or {}).items():
        places[len(array_names) + array] = len(result_names) + result
    function = jax.ffi.ffi_call(
        register(name, dtype.name),
        (*(results[result] for result in result_names), *result_pack),
        input_output_aliases=places,
        vmap_method="sequential",
    )
    computed: Sequence[jax.Array] = function(
        *floats, **{key: _as_attribute(value) for key, value in attributes.items()}
    )
    count = len(result_names)
    return dict(zip(result_names, computed[:count], strict=True)), list(computed[count:])


def _as_attribute(value: bool | int | float) -> Any:
    """Returns a value of the type that the kernels declare."""
    if isinstance(value, bool):
        return value
    return np.int64(value) if isinstance(value, int) else np.float64(value)


def weighted_sums(
    a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any, *, prefixes: bool = False
) -> Any:
    """Returns a x + b y for each array x of a tree and y of another, all in one call.

    XLA would compile a kernel for each array, and a network has hundreds of them.

    Args:
      a: Factor, a number.
      x: Tree of arrays of one type, which the sums have, too.
      b: Factor, a number.
      y: Tree of the same structure with arrays of the same shapes.
      prefixes: In place of a vector of n numbers, y may have a longer one. The first n count.

    Raises:
      ValueError: The trees differ in their structure, or an array of y in its shape.
    """
    jax.tree.map_with_path(partial(_check, prefixes), x, y)
    return _weighted_sums(prefixes, a, x, b, y)


def average_prefixes(
    kept: float, running: list[jax.Array], weight: float, batch: list[jax.Array]
) -> list[jax.Array]:
    """Returns kept * x + weight * y, as `statistics.average_prefixes`, for all vectors at once."""
    averages: list[jax.Array] = weighted_sums(kept, running, weight, batch, prefixes=True)
    return averages


def _check(prefixes: bool, path: Any, x: jax.typing.ArrayLike, y: jax.typing.ArrayLike) -> None:
    wanted, got = jnp.shape(x), jnp.shape(y)
    is_prefix = prefixes and len(wanted) == len(got) == 1 and got[0] >= wanted[0]
    if got != wanted and not is_prefix:
        longer = " or a longer vector" if prefixes and len(wanted) == 1 else ""
        raise ValueError(
            f"y{jax.tree_util.keystr(path)} has shape {list(got)}, wanted {list(wanted)}{longer}"
        )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _weighted_sums(
    prefixes: bool, a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any
) -> Any:
    leaves, structure = jax.tree.flatten(x)
    if not leaves:
        return x
    summands = [jnp.asarray(leaf) for leaf in leaves]
    factors = jnp.stack([jnp.asarray(factor, summands[0].dtype) for factor in (a, b)])
    _, sums = call(
        "weighted_sum",
        {"factors": factors},
        [*summands, *jax.tree.leaves(y)],
        results={},
        result_pack=[jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in summands],
        attributes={"prefixes": prefixes},
        pack_aliases={number: number for number in range(len(summands))},
    )
    return jax.tree.unflatten(structure, sums)


@_weighted_sums.defjvp
def _differentiate(prefixes: bool, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return _weighted_sums(prefixes, *primals), jax.jvp(_sums_by_xla, primals, tangents)[1]


def _sums_by_xla(a: jax.typing.ArrayLike, x: Any, b: jax.typing.ArrayLike, y: Any) -> Any:
    def add(x: jax.Array, y: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        y = jnp.asarray(y if jnp.shape(y) == x.shape else y[: len(x)], x.dtype)
        return jnp.asarray(a, x.dtype) * x + jnp.asarray(b, x.dtype) * y

    return jax.tree.map(add, x, y)
