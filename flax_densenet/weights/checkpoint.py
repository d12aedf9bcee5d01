"""Reads a checkpoint of any known software: its network, and its weights as Flax variables."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.images.imagenet import STATISTICS
from flax_densenet.data.preparation import Preparation, usual_preparation
from flax_densenet.errors import InputError, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.adapt import at_least_float32
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.files.read import read_weights
from flax_densenet.weights.infer import infer_config, inferred_from
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.optimizer import MOMENTUM, OptimizerState, find_optimizer
from flax_densenet.weights.recognize import WeightSet, find_weight_sets
from flax_densenet.weights.statement import Stated, read_statement
from flax_densenet.weights.table import Row, correspondence, from_rows

# First words of the paths of what training checkpoints hold besides the weights.
_UNNEEDED = (
    MOMENTUM,
    "training",
    "optimizer",
    "optim",
    "optimizer_state_dict",
    "optimizer_state",
    "optimizer_states",
    "scheduler",
    "scheduler_state_dict",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "amp",
    "amp_scaler",
    "rng_state",
    "loops",
    "callbacks",
)

# Last words of the names that PyTorch gives the arrays of layers; losses and metrics have none.
_OF_LAYERS = ("bias", "running_mean", "running_var")
_WEIGHT = "weight"  # of a layer if it has two axes; a loss's has one, the classes


class Checkpoint(NamedTuple):
    """A DenseNet's weights, wherever they came from.

    Attributes:
      config: The network, with the epsilon of the software that trained it.
      variables: {"params", "batch_stats"}, NumPy arrays of the file's dtypes, but of float32 where
        they are narrower: batch normalization needs it.
      layout: Key of `LAYOUTS`.
      where: Place of the weights in the file; "" is the whole file.
      format: The file's format, for people.
      source_arrays: The arrays under the layout's names, as they are in the file.
      unneeded: Paths of arrays that are not taken, such as the optimizer's state or a loss's.
      warnings: Oddities, in sentences.
      metadata: Text by name, from the file.
      preparation: How images are prepared, as far as the file or its layout says.
      class_names: One name per class, if the file says.
      optimizer: The state of SGD with momentum, if the file holds it and it was asked for.
    """

    config: DenseNetConfig
    variables: dict[str, Any]
    layout: str
    where: str
    format: str
    source_arrays: dict[str, np.ndarray]
    unneeded: list[str]
    warnings: list[str]
    metadata: dict[str, str]
    preparation: Preparation = Preparation()
    class_names: tuple[str, ...] | None = None
    optimizer: OptimizerState | None = None

    @property
    def statistics(self) -> ChannelStatistics | None:
        """What images are normalized with, if the file or its layout says."""
        return self.preparation.statistics


def load_checkpoint(
    path: str | Path, *, weight_set: str | None = None, optimizer: bool = False
) -> Checkpoint:
    """Reads a DenseNet checkpoint of any known software; what is not understood is an error.

    Args:
      path: A file of PyTorch, safetensors or Keras, whatever its ending, an Orbax directory, or a
        work directory of `train`.
      weight_set: Which set of weights to take, by its place in the file, where there are several.
      optimizer: Whether to read the state of SGD, too, if there is one.

    Returns:
      The network and its weights.

    Raises:
      InputError: The file cannot be read, holds no DenseNet or several, or anything in it is not
        understood; all of it is named.

    Example::

        checkpoint = flax_densenet.weights.load_checkpoint("densenet121-a639ec97.pth")
        model = flax_densenet.DenseNet(checkpoint.config)
        logits = model.apply(checkpoint.variables, image, train=False)
    """
    path = Path(path)
    contents = read_weights(path)
    candidates = {k: a for k, a in contents.arrays.items() if _first(k) not in _UNNEEDED}
    chosen = _choose(path, find_weight_sets(candidates), contents, weight_set)
    chosen, unneeded = _without_rest(path, contents, chosen, asked=weight_set is not None)
    stated = read_statement(path, contents)
    config = _config(path, chosen, stated.config)
    layout = chosen.parsed.layout
    statistics = STATISTICS if layout.imagenet_statistics and config.stem == "imagenet" else None
    rows = correspondence(config, layout)
    variables = _variables(path, chosen, config, rows)
    return Checkpoint(
        config=config,
        variables=variables,
        layout=chosen.layout,
        where=chosen.where,
        format=contents.format,
        source_arrays=chosen.arrays,
        unneeded=unneeded,
        warnings=_warnings(path, contents, chosen, rows),
        metadata=contents.metadata,
        preparation=stated.preparation or usual_preparation(config, statistics),
        class_names=stated.class_names,
        optimizer=_optimizer(contents, chosen, config, stated) if optimizer else None,
    )


def _choose(path: Path, sets: list[WeightSet], contents: Contents, asked: str | None) -> WeightSet:
    if not contents.arrays:
        raise InputError(f"{path} ({contents.format}) holds no arrays; wanted a DenseNet's weights")
    if not sets:
        names = ["/".join(keys) for keys in contents.arrays]
        raise InputError(
            f"{path} ({contents.format}) holds no DenseNet that can be converted: "
            f"{_some(names, 'array')} of it; the first, {names[0]} of shape "
            f"{next(iter(contents.arrays.values())).shape}, is in none of the known layouts: "
            f"{', '.join(layout.title for layout in LAYOUTS.values())}"
        )
    if asked is not None:
        named = [one for one in sets if one.where == asked]
        if not named:
            places = ", ".join(repr(one.where) for one in sets)
            raise InputError(f"{path} has no weights at {asked!r}; choose one of {places}")
        return named[0]
    if len(sets) > 1:
        places = ", ".join(f"{one.where!r} ({len(one.arrays)} arrays)" for one in sets)
        raise InputError(
            f"{path} holds {len(sets)} sets of weights: {places}; choose one with --weight_set"
        )
    return sets[0]


def _without_rest(
    path: Path, contents: Contents, chosen: WeightSet, *, asked: bool
) -> tuple[WeightSet, list[str]]:
    """Takes away what is beside the network; refuses what may be a part of it.

    Returns:
      The set without arrays that are not the network's, and the paths of all that is not taken.
    """
    layout = chosen.parsed.layout
    is_strict = layout.separator != "."  # only PyTorch's files hold losses and metrics
    own = {re.sub(r"\d", "", name.partition(".")[0]) for name in layout.names.values()}
    beside, unknown = set(), []
    for key in chosen.unknown:
        is_inside = re.sub(r"\d", "", key.partition(".")[0]) in own
        if is_strict or is_inside or _may_be_a_layer(key, chosen.arrays[key]):
            unknown.append(f"{chosen.where} {key}".strip())
        else:
            beside.add(key)
    taken = {keys for key, keys in chosen.paths.items() if key not in beside}
    rest: list[ArrayPath] = [keys for keys in contents.arrays if keys not in taken]
    layers = [
        "/".join(keys)
        for keys in rest
        if not asked
        and keys not in chosen.paths.values()
        and _first(keys) not in _UNNEEDED
        and (is_strict or _may_be_a_layer(keys[-1], contents.arrays[keys]))
    ]
    if unknown or layers:
        hint = ""
        if any(key.endswith("features.conv1.weight") for key in unknown):
            hint = "; a stem of three convolutions (timm's ...d nets) is not supported"
        elif layers and not unknown and chosen.where:
            hint = (
                f"; if they are not part of it, leave them out with --weight_set {chosen.where!r}"
            )
        raise InputError(
            f"{path} looks like {layout.title}, but "
            f"{_some(unknown + layers, 'array')} in it belong to no layer of a DenseNet: "
            f"{listed(unknown + layers)}{hint}; nothing was converted"
        )
    return chosen.without(beside), ["/".join(keys) for keys in rest]


def _may_be_a_layer(name: str, array: np.ndarray) -> bool:
    """Returns whether an array could belong to a layer: other modules have losses and counts."""
    leaf = re.split(r"[./]", name)[-1]
    return leaf in _OF_LAYERS or (leaf == _WEIGHT and array.ndim > 1)


def _first(keys: ArrayPath) -> str:
    return keys[0].partition("/")[0]


def _config(path: Path, chosen: WeightSet, stated: DenseNetConfig | None) -> DenseNetConfig:
    try:
        inferred = infer_config(chosen.parsed)
    except InputError as error:
        title = chosen.parsed.layout.title
        raise InputError(f"{path} looks like {title}, but {error}") from error
    if stated is None:
        return inferred
    ours, theirs = ({row.key: row.shape for row in correspondence(c)} for c in (stated, inferred))
    if ours != theirs:
        raise InputError(
            f"{path} says that it holds {stated.title}, and its arrays belong to {inferred.title}; "
            "the file was changed; make it again"
        )
    return stated


def _optimizer(
    contents: Contents, chosen: WeightSet, config: DenseNetConfig, stated: Stated
) -> OptimizerState | None:
    if _is_average(contents):
        raise InputError(
            "the weights of this run are the moving average of its parameters (--ema_decay), and "
            "the momentum belongs to the parameters; convert the weights alone, without --optimizer"
        )
    if stated.has_parts:
        raise InputError(
            "this run has frozen parts of the network or trained them at other rates (--freeze, "
            "--learning_rate_factors), and its momentum does not say which; convert the weights "
            "alone, without --optimizer"
        )
    found = find_optimizer(contents, chosen, config)
    return found and found._replace(settings={**stated.sgd, **found.settings})


def _is_average(contents: Contents) -> bool:
    """Returns whether a run's weights are an average, and the parameters are kept besides."""
    return any(keys[:2] == ("training", "params") for keys in contents.arrays)


def _variables(
    path: Path, chosen: WeightSet, config: DenseNetConfig, rows: Sequence[Row]
) -> dict[str, Any]:
    try:
        variables = from_rows(chosen.arrays, rows, chosen.parsed.layout)
        return jax.tree.map(at_least_float32, variables)
    except InputError as error:
        keys = ", ".join(inferred_from(chosen.parsed))
        raise InputError(
            f"{path}: {error}\n{config.title} was inferred from {keys}; if one of these is wrong, "
            "those that do not fit it are named above"
        ) from error


def _warnings(path: Path, contents: Contents, chosen: WeightSet, rows: Sequence[Row]) -> list[str]:
    warnings = _check_values(path, chosen, rows)
    narrow = {str(a.dtype) for a in (chosen.arrays[row.key] for row in rows) if a.itemsize < 4}
    if narrow:
        warnings.append(
            f"the weights are {' and '.join(sorted(narrow))} in the file; they are taken as "
            "float32, which changes no value, since batch normalization would lose digits"
        )
    if _is_average(contents):
        warnings.append(
            "these weights are the moving average of the run's parameters (--ema_decay), as in its "
            "evaluation; the parameters themselves are not taken"
        )
    return warnings


def _check_values(path: Path, chosen: WeightSet, rows: Sequence[Row]) -> list[str]:
    negative, odd = [], []
    for row in rows:
        array = chosen.arrays[row.key]
        if array.dtype.kind in "biuc":  # ml_dtypes' kinds are "f" and "V"
            raise InputError(
                f"{path}: {row.key} is of {array.dtype}; wanted floating-point numbers: weights "
                "that are quantized are converted to float32 where they were made"
            )
        if not np.all(np.isfinite(array.astype(np.float32))):
            odd.append(row.key)
        elif row.leaf.flax_name == "var" and np.any(array < 0):
            negative.append(row.key)
    if negative:
        raise InputError(
            f"{path}: {_some(negative, 'running variance')} below 0 in {listed(negative)}; "
            "variances cannot be; the file is damaged"
        )
    return [f"NaN or infinity in {_some(odd, 'array')}: {listed(odd)}"] if odd else []


def flat(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns variables by their paths, such as "params/conv0/kernel"."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def _some(names: Sequence[str], what: str) -> str:
    return f"{len(names):,} {what}{'s' if len(names) != 1 else ''}"
