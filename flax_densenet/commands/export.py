"""`flax-densenet export`: a trained network as a file for JAX or ONNX Runtime alone."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flax_densenet.commands.export_arguments import ExportArguments
from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.adaptation import cast
from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.conversion.description import describe
from flax_densenet.conversion.statement import given_statistics
from flax_densenet.data.preprocessing import Preprocessing
from flax_densenet.errors import InputError
from flax_densenet.export.interface import Interface
from flax_densenet.export.verification import verify
from flax_densenet.weight_files.whole import check_target, written_whole


def export(arguments: ExportArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: The checkpoint is not understood, or cannot be exported like this.
      NetworksDiffer: The exported network is not equal to the checkpoint's; nothing is written.
      SavingFailed: Writing failed.
    """
    target = arguments.format
    source, out = (
        Path(path).expanduser().absolute() for path in (arguments.checkpoint, arguments.out)
    )
    paths = [out]
    if target == "stablehlo":  # which has no place for a description inside
        paths.append(out.with_name(f"{out.name}.json"))
    _check_targets(paths, source, arguments)
    checkpoint = _load(source, arguments)
    config, variables = checkpoint.config, checkpoint.variables
    interface = Interface(
        axes="BCHW" if target == "onnx" else "BHWC",
        channels=config.in_channels,
        image_size=_image_size(arguments, config),
        preprocessing=_preprocessing(checkpoint, arguments),
        class_names=checkpoint.class_names,
        is_uint8=arguments.uint8,
    )
    description = interface.describe(config, source.name)
    exported = _make(arguments, config, variables, interface, description)
    difference = verify(exported.run, config, variables, interface)
    print(f"verified   logits differ by {difference:.1e} of the largest, from ours in float64")
    contents = [exported.serialized, f"{json.dumps(description, indent=1)}\n".encode()]
    with contextlib.ExitStack() as stack:
        for path, content in zip(paths, contents, strict=False):
            unfinished = stack.enter_context(written_whole(path, overwrite=arguments.overwrite))
            unfinished.write_bytes(content)
    for path, content in zip(paths, contents, strict=False):
        print(f"wrote      {path} ({len(content):,} bytes)")


def _check_targets(paths: Sequence[Path], source: Path, arguments: ExportArguments) -> None:
    for path in paths:
        check_target(path, overwrite=arguments.overwrite)
        if source.exists() and path.exists() and path.samefile(source):
            raise InputError(f"{path} is the checkpoint, too, which is not replaced")


def _load(source: Path, arguments: ExportArguments) -> Checkpoint:
    """Returns the checkpoint in float32, and prints what it is."""
    checkpoint = load_checkpoint(source, weights=arguments.weights)
    for heading, text in describe(checkpoint).items():
        print(f"{heading:<10} {text}")
    for warning in checkpoint.warnings:
        print(f"warning: {warning}")
    variables = {
        collection: jax.tree.map(partial(cast, collection=collection, dtype="float32"), tree)
        for collection, tree in checkpoint.variables.items()
    }
    config = dataclasses.replace(checkpoint.config, dtype="float32")
    return checkpoint._replace(config=config, variables=variables)


def _preprocessing(checkpoint: Checkpoint, arguments: ExportArguments) -> Preprocessing:
    if arguments.mean is None and arguments.std is None:
        return checkpoint.preprocessing
    print("given      --mean and --std, which take the place of what the checkpoint tells")
    channels = checkpoint.config.in_channels
    mean, std = given_statistics(arguments.mean, arguments.std, channels)
    return dataclasses.replace(checkpoint.preprocessing, mean=mean, std=std)


class _Exported(NamedTuple):
    serialized: bytes
    run: Callable[[np.ndarray], np.ndarray]


def _make(
    arguments: ExportArguments,
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
    description: Mapping[str, Any],
) -> _Exported:
    if arguments.format == "stablehlo":
        from flax_densenet.export.stablehlo import load_stablehlo, to_stablehlo

        serialized = to_stablehlo(config, variables, interface, tf32=arguments.tf32)
        return _Exported(serialized, load_stablehlo(serialized))
    try:
        from flax_densenet.export.onnx_network import load_onnx, to_onnx
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed, which writes ONNX or checks it; install "
            "flax-densenet[onnx]"
        ) from error
    serialized = to_onnx(config, variables, interface, description)
    return _Exported(serialized, load_onnx(serialized))


def _image_size(arguments: ExportArguments, config: DenseNetConfig) -> tuple[int, int] | None:
    if arguments.image_size is None:
        return None
    height, width = arguments.image_size[0], arguments.image_size[-1]
    config.check_image(height=height, width=width, channels=config.in_channels)
    return height, width
