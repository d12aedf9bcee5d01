"""Writes a checkpoint as PyTorch, Keras, safetensors or Orbax, by the ending of the target."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

from flax_densenet.data.outputs import Outputs
from flax_densenet.errors import InputError
from flax_densenet.weights.checkpoint import Checkpoint, flat
from flax_densenet.weights.files.write import (
    write_keras,
    write_orbax,
    write_safetensors,
    write_torch,
)
from flax_densenet.weights.keras.file import arrange
from flax_densenet.weights.layouts import FLAX, KERAS_3_LEAVES, KERAS_LEAVES, LAYOUTS, TORCHVISION
from flax_densenet.weights.networks import check_layout
from flax_densenet.weights.optimizer import (
    MOMENTUM,
    STEP,
    to_torch_order,
    torch_training_checkpoint,
)
from flax_densenet.weights.statement import (
    CLASS_NAMES_KEY,
    CONFIG_KEY,
    COUNTERS_KEY,
    OUTPUTS_KEY,
    PREPARATION_KEY,
)
from flax_densenet.weights.table import to_arrays

TORCH_ENDINGS = (".pth", ".pt")
_SAFETENSORS = ".safetensors"
_KERAS = ".h5"
_KERAS_3 = ".weights.h5"  # by which Keras 3 tells its own form from the older one


def default_layout(source_layout: str, target: Path) -> str:
    """Returns the layout of a target if none is asked for.

    Args:
      source_layout: Layout of the source, key of `LAYOUTS`.
      target: A PyTorch file gets torchvision's layout, a directory Flax's, and a Keras file that
        of Keras 3. A safetensors file gets the other one of the first two than the source has.
    """
    if target.suffix == _KERAS:
        return "keras-3" if target.name.endswith(_KERAS_3) else "keras"
    is_torch = target.suffix in TORCH_ENDINGS
    if is_torch or (target.suffix == _SAFETENSORS and source_layout == "flax"):
        return "torchvision"
    return "flax"


def write_target(
    target: Path, checkpoint: Checkpoint, layout_name: str, *, source_name: str, overwrite: bool
) -> None:
    """Writes a checkpoint in the format of the target's ending.

    Args:
      target: A directory's name (Orbax), or a file that ends in .pth, .pt, .safetensors,
        .weights.h5 or .h5.
      checkpoint: What to write.
      layout_name: Key of `LAYOUTS`.
      source_name: Name of the source, for the metadata.
      overwrite: Whether to replace the target if it exists.

    Raises:
      InputError: The layout cannot be written to such a target, its software cannot build the
        network, or the target exists.
      SavingFailed: Writing failed.
    """
    layout, optimizer = LAYOUTS[layout_name], checkpoint.optimizer
    _check_target(target, layout_name, has_optimizer=optimizer is not None)
    check_layout(checkpoint.config, layout_name)
    counters = checkpoint.counters
    arrays = to_arrays(checkpoint.variables, checkpoint.config, layout, counters)
    variables: dict[str, Any] = dict(checkpoint.variables)
    metadata = {
        CONFIG_KEY: json.dumps(dataclasses.asdict(checkpoint.config)),
        "format": "flax" if layout is FLAX else "pt",
        "layout": layout_name,
        "source": f"{source_name} ({LAYOUTS[checkpoint.layout].title})",
    }
    metadata[PREPARATION_KEY] = json.dumps(checkpoint.preparation.to_record())
    if checkpoint.class_names is not None:
        metadata[CLASS_NAMES_KEY] = json.dumps(checkpoint.class_names)
    if checkpoint.outputs != Outputs():
        metadata[OUTPUTS_KEY] = json.dumps(checkpoint.outputs.to_record())
        if target.suffix in TORCH_ENDINGS:
            print(f"note: {target.name} holds arrays alone, and does not say how outputs are read")
    if layout.counter and counters is None:
        print(
            f"note: {layout.counter} is 0 in {target.name}, since {source_name} does not say how "
            "many batches its normalizations have seen"
        )
    elif counters is not None and not layout.counter:
        metadata[COUNTERS_KEY] = json.dumps(counters)
    around = None
    if optimizer is not None:
        momentum = to_torch_order(optimizer, checkpoint.variables, checkpoint.config, TORCHVISION)
        around = partial(torch_training_checkpoint, momentum=momentum, optimizer=optimizer)
        if target.suffix in TORCH_ENDINGS and "momentum" not in optimizer.settings:
            told = optimizer.settings or {"lr": 0.1, "weight_decay": 1e-4, "of": "the paper"}
            listed = ", ".join(f"{name} {value}" for name, value in told.items())
            print(
                f"note: written for PyTorch's SGD: {listed}; lr is that of the start, before drops"
            )
        arrays |= {f"{MOMENTUM}/{path}": a for path, a in flat(optimizer.momentum).items()}
        variables[MOMENTUM] = optimizer.momentum
        if optimizer.step is not None:
            metadata[STEP] = str(optimizer.step)
    if target.suffix in TORCH_ENDINGS:
        arrays = {k: a for k, a in arrays.items() if not k.startswith(f"{MOMENTUM}/")}
        write_torch(target, arrays, overwrite=overwrite, around=around)
    elif target.suffix == _SAFETENSORS:
        write_safetensors(target, arrays, metadata, overwrite=overwrite)
    elif target.suffix == _KERAS:
        placed, attributes = arrange(arrays, checkpoint.config, layout)
        write_keras(target, placed, attributes, metadata, overwrite=overwrite)
        _note_epsilon(target, checkpoint.config.batch_norm_epsilon, layout.batch_norm_epsilon)
    else:
        write_orbax(target, variables, metadata, overwrite=overwrite)


def _check_target(target: Path, layout_name: str, *, has_optimizer: bool) -> None:
    layout = LAYOUTS[layout_name]
    if target.suffix in TORCH_ENDINGS and layout.leaves is not TORCHVISION.leaves:
        raise InputError(
            f"layout (={layout_name!r}) is not one of PyTorch, as {target.name} must be; "
            "choose another one, or write a .safetensors file"
        )
    wanted = KERAS_3_LEAVES if target.name.endswith(_KERAS_3) else KERAS_LEAVES
    if target.suffix == _KERAS and layout.leaves is not wanted:
        form = "keras-3" if wanted is KERAS_3_LEAVES else "keras or keras-2"
        raise InputError(
            f"layout (={layout_name!r}) cannot be in {target.name}, which Keras reads by its "
            f"ending: .weights.h5 as keras-3, another .h5 as keras or keras-2; choose {form}, or "
            "another ending"
        )
    if target.suffix and target.suffix not in (*TORCH_ENDINGS, _SAFETENSORS, _KERAS):
        raise InputError(
            f"target {target.name} ends in {target.suffix}; wanted .pth or .pt (PyTorch), "
            ".safetensors, .weights.h5 or .h5 (Keras), or a directory's name without an ending "
            "(Orbax)"
        )
    if not target.suffix and layout is not FLAX:
        raise InputError(
            f"layout (={layout_name!r}) cannot be an Orbax directory, which holds Flax variables; "
            "write a .pth or .safetensors file"
        )
    if (
        has_optimizer
        and layout is not FLAX
        and (target.suffix == _SAFETENSORS or layout is not TORCHVISION)
    ):
        raise InputError(
            f"--optimizer cannot go into {target.name} as {layout.title} names it; write a .pth "
            "file as torchvision names it, or Flax variables"
        )


def _note_epsilon(target: Path, trained: float, usual: float) -> None:
    """Prints that the network in Keras has another epsilon than these weights were trained with."""
    if trained != usual:
        print(
            f"note: {target.name} cannot hold the {trained:g} that the training of these weights "
            f"added to variances, and keras.applications adds {usual:g}; set the epsilon of every "
            f"BatchNormalization to {trained:g}, or the logits differ a little"
        )
