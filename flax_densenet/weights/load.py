"""Reads a checkpoint of any known software: its network, and its weights as Flax variables."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flax_densenet.data.images.imagenet import STATISTICS
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation, usual_preparation
from flax_densenet.errors import InputError, counted, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.adapt import at_least_float32
from flax_densenet.weights.checkpoint import Checkpoint, check_head
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.files.read import read_weights
from flax_densenet.weights.heads import CLASSIFIER, describe_missing_head, warn_of_head
from flax_densenet.weights.infer import infer_config, inferred_from
from flax_densenet.weights.keras import check as keras
from flax_densenet.weights.keras.names import lay_flat
from flax_densenet.weights.optimizer import STEP, OptimizerState, find_optimizer
from flax_densenet.weights.published.find import Found, find_weights
from flax_densenet.weights.recognize import WeightSet
from flax_densenet.weights.select import select
from flax_densenet.weights.statement import COUNTERS_KEY, Stated, read_statement
from flax_densenet.weights.table import Row, correspondence, from_rows, read_counters
from flax_densenet.weights.whole_module import check_whole_module
from flax_densenet.weights.xray import OPERATING_POINTS, Told, read_told


def load_checkpoint(
    source: str | Path,
    *,
    weight_set: str | None = None,
    optimizer: bool = False,
    needs_head: bool = True,
    offline: bool = False,
) -> Checkpoint:
    """Reads a DenseNet checkpoint of any known software; what is not understood is an error.

    Args:
      source: A file of PyTorch, safetensors or Keras, whatever its ending, an Orbax directory, or a
        work directory of `train`; the name of published weights, such as "torchvision/densenet121";
        an address; or "hf-hub:OWNER/REPOSITORY".
      weight_set: Which set of weights to take, by its place in the file, where there are several.
      optimizer: Whether to read the state of SGD, too, if there is one.
      needs_head: Whether a file without a classifier, or with one that cannot be read, is an error.
        Its features can be used without it, or get another one.
      offline: Whether to download nothing.

    Returns:
      The network and its weights.

    Raises:
      InputError: The file cannot be had or read, holds no DenseNet or several, or anything in it is
        not understood; all of it is named.

    Example::

        checkpoint = flax_densenet.weights.load_checkpoint("torchvision/densenet121")
        model = flax_densenet.DenseNet(checkpoint.config)
        logits = model.apply(checkpoint.variables, image, train=False)
    """
    found = find_weights(source, offline=offline)
    path = found.path
    contents = read_weights(path)
    is_keras = keras.is_keras(contents)
    if is_keras:
        keras.refuse_keras_hub(path, contents)
        contents = lay_flat(contents)
    chosen, head, unneeded = select(path, contents, weight_set)
    stated = read_statement(path, contents)
    config = _config(path, chosen, stated.config)
    group, prefix = _place(chosen)
    module = check_whole_module(path, contents.modules, (group, prefix), config, chosen.layout)
    config = config if module is None else module.config
    points = (*group, prefix + OPERATING_POINTS)
    told = read_told(path, config, contents.arrays.get(points), module)
    rows = correspondence(config, chosen.parsed.layout)
    no_head = ""
    if not chosen.has_head:
        no_head = describe_missing_head(rows, head)
        rows = [row for row in rows if row.layer.path != CLASSIFIER]
    variables = _variables(path, chosen, config, rows)
    warnings = [*found.notes, *contents.notes, *_warnings(path, contents, chosen, rows)]
    if module is None or not chosen.has_head:  # the modules around a whole one's are checked
        warnings += warn_of_head(chosen, head)
    warnings += told.notes
    if is_keras and found.published is None:  # which needs that the arrays fit
        config, more = keras.check(path, contents, chosen, config)
        warnings += more
    if told.outputs.operating_points:
        unneeded = [name for name in unneeded if name != "/".join(points)]
    usage = _usage(found, stated, told, chosen, config)
    checkpoint = Checkpoint(
        config=config,
        variables=variables,
        layout=chosen.layout,
        where=chosen.where,
        format=contents.format,
        source_arrays=chosen.arrays,
        unneeded=unneeded,
        warnings=warnings,
        metadata=contents.metadata,
        preparation=usage.preparation,
        class_names=usage.class_names,
        optimizer=_optimizer(contents, chosen, config, stated) if optimizer else None,
        path=contents.read_instead or path,
        published=found.name,
        outputs=usage.outputs,
        counters=_counters(path, contents, chosen, rows, stated),
        no_head=no_head,
    )
    if needs_head:
        check_head(checkpoint)
    return checkpoint


class _Usage(NamedTuple):
    preparation: Preparation
    class_names: tuple[str, ...] | None
    outputs: Outputs


def _usage(
    found: Found, stated: Stated, told: Told, chosen: WeightSet, config: DenseNetConfig
) -> _Usage:
    """Returns how the network is used: what is published of it, else what the file says."""
    if (published := found.published) is not None:
        return _Usage(published.preparation, published.names, published.outputs)
    is_imagenet = chosen.parsed.layout.imagenet_statistics and config.stem == "imagenet"
    usual = usual_preparation(config, STATISTICS if is_imagenet else None)
    return _Usage(
        stated.preparation or told.preparation or usual,
        stated.class_names or told.class_names,
        stated.outputs or told.outputs,
    )


def _place(chosen: WeightSet) -> tuple[ArrayPath, str]:
    """Returns the path of the dictionary that the weights are in, and the prefix of their names."""
    if chosen.parsed.layout.separator != ".":  # only PyTorch's names can have more beside them
        return (), ""
    key, path = next((k, p) for k, p in chosen.paths.items() if chosen.is_inside(k))
    if chosen.is_part:  # its names lack the module that the layout has around them
        key = key.partition(".")[2]
    return path[:-1], path[-1].removesuffix(key)


def _counters(
    path: Path, contents: Contents, chosen: WeightSet, rows: Sequence[Row], stated: Stated
) -> tuple[int, ...] | None:
    norms = len([row for row in rows if row.leaf.flax_name == "var"])
    step = contents.arrays.get(("training", STEP))
    if stated.counts_batches and step is not None:
        return (int(step),) * norms
    if stated.counters is not None and len(stated.counters) != norms:
        raise InputError(
            f"{path}: its metadata have {len(stated.counters)} {COUNTERS_KEY} for {norms} "
            "normalizations; the file was changed; make it again"
        )
    return read_counters(chosen.arrays, rows) or stated.counters


def _config(path: Path, chosen: WeightSet, stated: DenseNetConfig | None) -> DenseNetConfig:
    try:
        inferred = infer_config(chosen.parsed)
    except InputError as error:
        title = chosen.parsed.layout.title
        raise InputError(f"{path} looks like {title}, but {error}") from error
    if stated is None:
        return inferred
    if not chosen.has_head:
        inferred = dataclasses.replace(inferred, num_classes=stated.num_classes)
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
    if not chosen.has_head:
        return None
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
            f"{path}: {counted(negative, 'running variance')} below 0 in {listed(negative)}; "
            "variances cannot be; the file is damaged"
        )
    return [f"NaN or infinity in {counted(odd, 'array')}: {listed(odd)}"] if odd else []
