"""Adapts weights to other classes, channels or types, and checks whose they are.

Axes: H kernel height, W kernel width, I input channels, O output channels.
"""

import dataclasses
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import initialize
from flax_densenet.network.variants import VARIANTS
from flax_densenet.weights.published.classes import is_imagenet, wordnet_ids
from flax_densenet.weights.table import correspondence

StoredType = Literal["float16", "bfloat16", "float32", "float64"]

# Properties of a configuration, and the field that changes each.
_SHAPING_FIELDS = {
    "stem": "stem",
    "block_sizes": "blocks",
    "growth_rate": "growth_rate",
    "bottleneck": "bottleneck",
    "bottleneck_factor": "bottleneck_factor",
    "compression": "compression",
    "stem_channels": "stem_width",
    "num_classes": "num_classes",
    "in_channels": "in_channels",
    "activation": "activation",
    "order": "order",
    "kernel_size": "kernel_size",
    "groups": "groups",
    "attention": "attention",
    "attention_channels": "attention_reduction",
}
_NOT_IN_A_NAME = ("num_classes", "in_channels", "batch_norm_epsilon", "batch_norm_momentum")
OWN_NETWORK_HINT = "leave the network's name and flags out, or give those of this one"
_OTHER_FIELDS = {field: field for field in ("batch_norm_epsilon", "batch_norm_momentum")}


def check_agreement(
    found: DenseNetConfig,
    asked: DenseNetConfig,
    where: str,
    what_to_do: str,
    *,
    free: Collection[str] = (),
) -> None:
    """Checks that two configurations describe one network, whatever its dropout and type.

    Activations without parameters and the pooling are not compared: weights do not show them.

    Args:
      found: The network that is there.
      asked: The network that was asked for.
      where: The file or object that holds it.
      what_to_do: End of the message.
      free: Fields that may differ, too.

    Raises:
      InputError: They differ; every field is named.
    """
    asked = dataclasses.replace(asked, **{name: getattr(found, name) for name in free})
    shapes, wanted_shapes = ([row.shape for row in correspondence(c)] for c in (found, asked))
    # With equal shapes, compression may be written in two ways, such as 0.5 and 3 of 6.
    fields = _OTHER_FIELDS if shapes == wanted_shapes else _SHAPING_FIELDS | _OTHER_FIELDS
    differing = [
        f"{field} is {getattr(found, name)}, not {getattr(asked, name)}"
        for name, field in fields.items()
        if _differ(name, found, asked)
    ]
    if differing:
        raise InputError(
            f"{where} is {found.title}, where {asked.title} was asked for: "
            f"{', '.join(differing)}; {what_to_do}"
        )


def check_variant(found: DenseNetConfig, name: str, where: str, what_to_do: str) -> None:
    """Checks that a network is a named one, which decides neither classes nor channels.

    Args:
      found: The network that is there.
      name: Key of `VARIANTS`.
      where: The file that holds it.
      what_to_do: End of the message.

    Raises:
      InputError: It is another one; every field that differs is named.
    """
    asked = VARIANTS[name]
    check_agreement(found, asked, where, what_to_do, free=_NOT_IN_A_NAME)
    if found.options:
        options = ", ".join(f"{option} is {value}" for option, value in found.options.items())
        raise InputError(
            f"{where} is {found.title}, where {asked.title} was asked for: {options}; {what_to_do}"
        )


def _differ(name: str, found: DenseNetConfig, asked: DenseNetConfig) -> bool:
    values = getattr(found, name), getattr(asked, name)
    if name == "activation" and "prelu" not in values:
        return False
    if name == "attention_channels" and "none" in (found.attention, asked.attention):
        return False
    return values[0] != values[1]


def adapt(
    variables: dict[str, Any],
    config: DenseNetConfig,
    *,
    new_head: int | None = None,
    in_channels: int | None = None,
    dtype: StoredType | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], DenseNetConfig]:
    """Adapts weights to another head, other image channels or another type, in this order.

    Args:
      variables: {"params", "batch_stats"}.
      config: Their network.
      new_head: Classes of a new classifier; None keeps the one that is there.
      in_channels: Image channels; None keeps them.
      dtype: Type of the parameters, as for `cast`; None keeps it.
      seed: Decides the weights of a new classifier.

    Returns:
      The new variables, which share what stays as it is, and their network.

    Raises:
      InputError: There is no rule for the channels, or the type cannot hold the values.
    """
    if new_head is not None:
        variables, config = with_new_head(variables, config, new_head, seed=seed)
    if in_channels not in (None, config.in_channels):
        variables, config = with_in_channels(variables, config, in_channels)
    if dtype is not None:
        variables = {
            collection: cast_tree(tree, collection, dtype) for collection, tree in variables.items()
        }
    return variables, config


def cast_tree(tree: Mapping[str, Any], collection: str, dtype: StoredType) -> Any:
    """Returns nested dicts of arrays in another type; the arguments are those of `cast`."""
    return jax.tree.map(partial(cast, collection=collection, dtype=dtype), tree)


def with_new_head(
    variables: dict[str, Any], config: DenseNetConfig, num_classes: int, *, seed: int = 0
) -> tuple[dict[str, Any], DenseNetConfig]:
    """Replaces the classifier by one with initial weights.

    Args:
      variables: {"params", "batch_stats"}.
      config: Their network.
      num_classes: Classes of the new classifier.
      seed: Decides its weights.

    Returns:
      The new variables, which share all other arrays, and their network.
    """
    config = dataclasses.replace(config, num_classes=num_classes)
    fresh = initialize(config, jax.random.key(seed))["params"]["classifier"]
    dtype = variables["params"]["conv0"]["kernel"].dtype  # there may be no classifier yet
    head = {name: np.asarray(array).astype(dtype) for name, array in fresh.items()}
    return {**variables, "params": {**variables["params"], "classifier": head}}, config


def in_class_order(
    params: dict[str, Any], found: Sequence[str], wanted: Sequence[str], where: str, what_to_do: str
) -> dict[str, Any]:
    """Returns parameters whose classifier has its classes in another order.

    Names that differ only in their Unicode form, as those of other file systems, are the same.

    Args:
      params: Parameters of a network.
      found: Names of its classes.
      wanted: Names of the classes of images, in the order of their numbers.
      where: What holds the parameters.
      what_to_do: End of the message.

    Returns:
      The parameters, which share what stays as it is.

    Raises:
      InputError: The names are others; those that only one side has are named.
    """
    found, wanted = (
        tuple(unicodedata.normalize("NFC", name) for name in names) for names in (found, wanted)
    )
    if found == wanted or (is_imagenet(found) and wanted == wordnet_ids()):
        return params
    if sorted(found) != sorted(wanted):
        only = [
            f"only {side} {'has' if side == where else 'have'} {listed(sorted(set(a) - set(b)))}"
            for side, a, b in ((where, found, wanted), ("the images", wanted, found))
            if set(a) - set(b)
        ]
        differ = ", and ".join(only) or "some names stand there more often than here"
        raise InputError(
            f"the classes of {where} are not those of the images: {differ}; {what_to_do}"
        )
    if len(set(found)) < len(found):
        raise InputError(f"{where} has two classes of one name, in another order than the images")
    order = [found.index(name) for name in wanted]
    head = {name: array[..., order] for name, array in params["classifier"].items()}
    return {**params, "classifier": head}


def with_in_channels(
    variables: dict[str, Any], config: DenseNetConfig, in_channels: int
) -> tuple[dict[str, Any], DenseNetConfig]:
    """Adapts the first convolution to another number of image channels.

    To 1 channel, the kernels of all channels are added: a gray image then gives the same result as
    its equal channels did. From 1 to more, each channel gets the kernel divided by their number:
    equal channels then give the same result as the gray image did.

    Args:
      variables: {"params", "batch_stats"}.
      config: Their network.
      in_channels: Image channels of the new network.

    Returns:
      The new variables, which share all other arrays, and their network.

    Raises:
      InputError: There is no such rule for these numbers.
    """
    kernel = variables["params"]["conv0"]["kernel"]  # [H, W, I, O]
    if in_channels == 1:
        new = kernel.sum(axis=2, keepdims=True, dtype=np.float64)
    elif config.in_channels == 1:
        new = np.repeat(kernel.astype(np.float64) / in_channels, in_channels, axis=2)
    else:
        raise InputError(
            f"in_channels (={in_channels}) cannot be had from weights for {config.in_channels} "
            "channels; wanted 1, whose kernel is the sum, or weights for 1; or train the first "
            "convolution anew"
        )
    conv0 = {"kernel": new.astype(kernel.dtype)}
    config = dataclasses.replace(config, in_channels=in_channels)
    return {**variables, "params": {**variables["params"], "conv0": conv0}}, config


def cast(array: np.ndarray, collection: str, dtype: StoredType) -> np.ndarray:
    """Returns an array in another type.

    Args:
      array: The array.
      collection: "params" or "batch_stats"; the latter stay at least float32.
      dtype: The other type.

    Raises:
      InputError: The type cannot hold its values.
    """
    wanted = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if collection == "batch_stats" and wanted.itemsize < 4:
        wanted = np.dtype(np.float32)
    with np.errstate(over="ignore"):
        result = np.asarray(array).astype(wanted, copy=False)
    if np.isfinite(array).all() and not np.isfinite(result).all():
        raise InputError(
            f"dtype (={dtype!r}) cannot hold values up to {np.abs(array).max():.3g}; use float32"
        )
    return result


def at_least_float32(array: np.ndarray) -> np.ndarray:
    """Returns an array as float32 if its type is narrower, which changes no value."""
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array
