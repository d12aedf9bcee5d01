"""`flax-densenet convert`: a DenseNet checkpoint of one software into that of another."""

import csv
import dataclasses
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import ml_dtypes
import numpy as np
import tyro

from flax_densenet.conversion.adaptation import with_in_channels, with_new_head
from flax_densenet.conversion.checkpoint import (
    CONFIG_KEY,
    Checkpoint,
    describe,
    load_checkpoint,
)
from flax_densenet.conversion.verification import torch_arrays, verify
from flax_densenet.errors import InputError, SavingFailed, require
from flax_densenet.layouts import FLAX, LAYOUTS, TORCHVISION, Layout
from flax_densenet.training.workdir import writing
from flax_densenet.variants import VARIANTS
from flax_densenet.weight_files.write import write_orbax, write_safetensors, write_torch
from flax_densenet.weights import correspondence, to_arrays

StoredType = Literal["float16", "bfloat16", "float32", "float64"]
_TORCH_ENDINGS = (".pth", ".pt")
_SAFETENSORS = ".safetensors"
_REPORT_COLUMNS = (
    "source_key",
    "target_key",
    "source_shape",
    "target_shape",
    "source_dtype",
    "target_dtype",
    "axes",
    "sha256",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """Convert a DenseNet checkpoint: PyTorch, Keras or Flax in, Flax or PyTorch out.

    Attributes:
      source: A .pth, .safetensors or .h5 file, an Orbax directory or a work directory of train.
      target: A directory (Flax variables, Orbax), FILE.pth (PyTorch state dict) or
        FILE.safetensors (whichever of the two the source is not).
      layout: Whose names the target has; torchvision, or flax. Others are on request.
      weights: Which weights of the source to take, by their place in it, where there are several.
      dtype: Type of the target's parameters. Running statistics have at least float32.
      variant: The network that the source is expected to hold; another one is an error.
      num_classes: Classes of the target. Another number than the source's needs new_head.
      new_head: Give the target a classifier with initial weights.
      in_channels: Image channels of the target: 1 from any number (the kernels are added), or any
        number from 1 (the kernel is divided).
      batch_norm_epsilon: What the source's training added to variances, if its layout's is wrong.
      overwrite: Replace the target if it exists.
      no_verify: Do not run both networks afterwards to compare them.
      report: CSV file for the mapping, one row for each array.
    """

    source: Annotated[str, tyro.conf.Positional]
    target: Annotated[str, tyro.conf.Positional]
    layout: str | None = None
    weights: str | None = None
    dtype: StoredType = "float32"
    variant: str | None = None
    num_classes: int | None = None
    new_head: bool = False
    in_channels: int | None = None
    batch_norm_epsilon: float | None = None
    overwrite: bool = False
    no_verify: bool = False
    report: str | None = None

    def __post_init__(self) -> None:
        for name, table in (("layout", LAYOUTS), ("variant", VARIANTS)):
            value = getattr(self, name)
            require(value is None or value in table, name, value, f"one of {', '.join(table)}")
        for name in ("num_classes", "in_channels"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


def convert(args: Sequence[str], prog: str) -> None:
    """Runs the command.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: The source is not understood, or the target cannot be made from it.
      SavingFailed: The target cannot be written, or is not equal to the source.
    """
    arguments = tyro.cli(
        ConvertArguments,
        args=args,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    target = Path(arguments.target).expanduser().absolute()
    if target.exists() and not arguments.overwrite:
        raise InputError(f"{target} exists; give another target, or replace it with --overwrite")
    source = load_checkpoint(Path(arguments.source).expanduser(), weights=arguments.weights)
    for heading, text in describe(source).items():
        print(f"{heading:<10} {text}")
    for warning in source.warnings:
        print(f"warning: {warning}")
    adapted = _adapt(source, arguments)
    layout_name = arguments.layout or _default_layout(source, target)
    _write(target, adapted, layout_name, arguments)
    print(f"wrote      {target}, as {LAYOUTS[layout_name].title} names it")
    if arguments.report is not None:
        _write_report(Path(arguments.report), source, adapted, LAYOUTS[layout_name])
    if not arguments.no_verify:
        _verify(source, adapted, target, arguments)


def _adapt(source: Checkpoint, arguments: ConvertArguments) -> Checkpoint:
    config, variables = source.config, source.variables
    if arguments.variant is not None:
        _check_variant(source, arguments.variant)
    if arguments.batch_norm_epsilon is not None:
        config = dataclasses.replace(config, batch_norm_epsilon=arguments.batch_norm_epsilon)
    classes = arguments.num_classes or config.num_classes
    if classes != config.num_classes and not arguments.new_head:
        raise InputError(
            f"num_classes (={classes}) is not the {config.num_classes} of {arguments.source}; "
            "leave it out, or give the target a new classifier with --new_head"
        )
    if arguments.new_head:
        variables, config = with_new_head(variables, config, classes)
        print(f"new head   {classes} classes, initial weights (seed 0)")
    channels = arguments.in_channels or config.in_channels
    if channels != config.in_channels:
        variables, config = with_in_channels(variables, config, channels)
        print(f"channels   {channels} instead of {source.config.in_channels}")
    variables = {
        collection: jax.tree.map(partial(_cast, collection=collection, dtype=arguments.dtype), tree)
        for collection, tree in variables.items()
    }
    return source._replace(config=config, variables=variables)


def _check_variant(source: Checkpoint, variant: str) -> None:
    wanted = dataclasses.replace(
        VARIANTS[variant],
        num_classes=source.config.num_classes,
        in_channels=source.config.in_channels,
        batch_norm_epsilon=source.config.batch_norm_epsilon,
    )
    shapes, got = ([row.shape for row in correspondence(c)] for c in (wanted, source.config))
    if shapes != got:
        raise InputError(
            f"variant (={variant!r}) is {wanted.title}, and the weights are those of "
            f"{source.config.title} with blocks {source.config.block_sizes}; leave the flag out"
        )


def _cast(array: np.ndarray, collection: str, dtype: StoredType) -> np.ndarray:
    wanted = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if collection == "batch_stats" and wanted.itemsize < 4:
        wanted = np.dtype(np.float32)
    with np.errstate(over="ignore"):
        cast = np.asarray(array).astype(wanted)
    if np.isfinite(array).all() and not np.isfinite(cast).all():
        raise InputError(
            f"dtype (={dtype!r}) cannot hold values up to {np.abs(array).max():.3g}; use float32"
        )
    return cast


def _default_layout(source: Checkpoint, target: Path) -> str:
    if target.suffix in _TORCH_ENDINGS:
        return "torchvision"
    if target.suffix == _SAFETENSORS and source.layout == "flax":
        return "torchvision"
    return "flax"


def _write(
    target: Path, adapted: Checkpoint, layout_name: str, arguments: ConvertArguments
) -> None:
    layout = LAYOUTS[layout_name]
    arrays = to_arrays(adapted.variables, adapted.config, layout)
    metadata = {
        CONFIG_KEY: json.dumps(dataclasses.asdict(adapted.config)),
        "format": "flax" if layout is FLAX else "pt",
        "layout": layout_name,
        "source": f"{Path(arguments.source).name} ({LAYOUTS[adapted.layout].title})",
    }
    if target.suffix in _TORCH_ENDINGS:
        if layout.leaves is not TORCHVISION.leaves:
            raise InputError(
                f"layout (={layout_name!r}) is not one of PyTorch, as {target.name} must be; "
                "choose another one, or write a .safetensors file"
            )
        write_torch(target, arrays, overwrite=arguments.overwrite)
    elif target.suffix == _SAFETENSORS:
        write_safetensors(target, arrays, metadata, overwrite=arguments.overwrite)
    elif target.suffix:
        raise InputError(
            f"target {target.name} ends in {target.suffix}; wanted .pth or .pt (PyTorch), "
            ".safetensors, or a directory's name without an ending (Orbax)"
        )
    elif layout is not FLAX:
        raise InputError(
            f"layout (={layout_name!r}) cannot be an Orbax directory, which holds Flax variables; "
            "write a .pth or .safetensors file"
        )
    else:
        write_orbax(target, adapted.variables, metadata, overwrite=arguments.overwrite)


def _write_report(
    file: Path, source: Checkpoint, adapted: Checkpoint, target_layout: Layout
) -> None:
    """Writes where each array came from and went to, with a checksum of what was written."""
    rows = zip(
        correspondence(adapted.config, LAYOUTS[source.layout]),
        correspondence(adapted.config, target_layout),
        strict=True,
    )
    written = to_arrays(adapted.variables, adapted.config, target_layout)
    with writing(file), file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(_REPORT_COLUMNS)
        for ours, theirs in rows:
            before, after = source.source_arrays[ours.key], written[theirs.key]
            table.writerow(
                [
                    ours.key,
                    theirs.key,
                    "x".join(map(str, before.shape)),
                    "x".join(map(str, after.shape)),
                    before.dtype,
                    after.dtype,
                    f"{ours.leaf.axes}->{theirs.leaf.axes}",
                    hashlib.sha256(np.ascontiguousarray(after).tobytes()).hexdigest(),
                ]
            )
    print(f"report     {file}")


def _verify(
    source: Checkpoint, adapted: Checkpoint, target: Path, arguments: ConvertArguments
) -> None:
    if importlib.util.find_spec("torch") is None:
        print("not verified: that needs torch; install flax-densenet[torch] and convert again")
        return
    again = load_checkpoint(target)
    torch_side, flax_side = _sides(source, adapted, again, arguments)
    result = verify(torch_side, flax_side, adapted.config)
    if not result.is_equal:
        _remove(target)
        raise SavingFailed(
            f"{target} was not equal to {arguments.source}, and is removed: the logits differed by "
            f"{result.difference:.1e} of the largest; report this as a fault"
        )
    print(f"verified   logits of both networks differ by {result.difference:.1e} of the largest")


def _sides(
    source: Checkpoint, adapted: Checkpoint, again: Checkpoint, arguments: ConvertArguments
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns arrays for the network in PyTorch, and variables for the one in Flax.

    One comes from the source and one from the target; arrays of PyTorch files are only renamed.
    """
    is_changed = arguments.new_head or adapted.config.in_channels != source.config.in_channels
    if LAYOUTS[source.layout].leaves is TORCHVISION.leaves and not is_changed:
        arrays = {
            key: _cast(array, "batch_stats" if "running" in key else "params", arguments.dtype)
            for key, array in source.source_arrays.items()
        }
        return torch_arrays(arrays, {}, source.config, source.layout), again.variables
    if LAYOUTS[again.layout].leaves is TORCHVISION.leaves:
        arrays = torch_arrays(again.source_arrays, {}, adapted.config, again.layout)
        return arrays, adapted.variables
    return to_arrays(adapted.variables, adapted.config, TORCHVISION), again.variables


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
