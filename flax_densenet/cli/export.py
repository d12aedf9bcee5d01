"""`flax-densenet export`: a trained network for programs without this package."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
import tyro

from flax_densenet.cli.flags import WeightsFlags, check_size, parse_flags
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError
from flax_densenet.files import check_target, written_whole
from flax_densenet.network.config import DenseNetConfig

if TYPE_CHECKING:
    from flax_densenet.export.interface import Interface
    from flax_densenet.weights.checkpoint import Checkpoint

ExportFormat = Literal["stablehlo", "onnx"]
_WEIGHT_FILES = (".pth", ".pt", ".safetensors", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Export a trained network to a file that other programs run without this package.

    Attributes:
      checkpoint: Whatever `flax-densenet convert` reads: a .pth, .safetensors or .h5 file, an Orbax
        directory, a work directory of train, or the name of published weights such as
        torchvision/densenet121.
      target: File to write: FILE.stablehlo (for JAX; FILE.stablehlo.json beside it describes it)
        or FILE.onnx.
      to: Format, if it is not the ending of the target.
      image_size: Height and width in pixels, one number if they are equal; free if not given.
      uint8: Take pixels from 0 to 255 and normalize them inside of the network.
      tf32: Let an NVIDIA GPU round the factors of products to TF32 (stablehlo): faster, and logits
        differ by about 1e-3 of the largest. For ONNX, set ONNX Runtime's option use_tf32.
      weights: Which weights are taken, and from where.
      mean: Mean of each image channel in 0 to 255, if the checkpoint does not say, or is wrong.
      std: Standard deviation of each image channel, in the same way.
      overwrite: Replace the target if it exists.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    to: ExportFormat | None = None
    image_size: tuple[int, ...] | None = None
    uint8: bool = False
    tf32: bool = False
    weights: WeightsFlags = WeightsFlags()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_size(self.image_size)
        if self.tf32 and self.format == "onnx":
            raise InputError(
                "--tf32 is for StableHLO; for ONNX leave it out, and set ONNX Runtime's provider "
                "option use_tf32"
            )

    @property
    def format(self) -> ExportFormat:
        """The format that `to` or the ending of the target asks for.

        Raises:
          InputError: Neither does.
        """
        if self.to is not None:
            return self.to
        suffix = Path(self.target).suffix
        for name in get_args(ExportFormat):
            if suffix == f".{name}":
                return name
        hint = (
            "flax-densenet convert writes weights for PyTorch and Flax"
            if suffix in _WEIGHT_FILES
            else "or say the format with --to"
        )
        ending = f"ends in {suffix}" if suffix else "has no ending"
        raise InputError(f"{self.target} {ending}; wanted .stablehlo or .onnx; {hint}")


parse = partial(parse_flags, ExportArguments)


def run(arguments: ExportArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The checkpoint is not understood, or cannot be exported like this.
      NetworksDiffer: The exported network is not equal to the checkpoint's; nothing is written.
      SavingFailed: Writing failed.
    """
    from flax_densenet.export.interface import Interface
    from flax_densenet.export.verification import verify

    target = Path(arguments.target).expanduser().absolute()
    paths = [target]
    if arguments.format == "stablehlo":  # which has no place for a description inside
        paths.append(target.with_name(f"{target.name}.json"))
    for path in paths:
        check_target(path, overwrite=arguments.overwrite)
    checkpoint = _load(arguments)
    _check_source_is_kept(checkpoint.path, paths)
    config, variables = checkpoint.config, checkpoint.variables
    interface = Interface(
        axes="BCHW" if arguments.format == "onnx" else "BHWC",
        channels=config.in_channels,
        image_size=_image_size(arguments, config),
        preparation=_preparation(checkpoint, arguments),
        class_names=checkpoint.class_names,
        outputs=checkpoint.outputs,
        is_uint8=arguments.uint8,
    )
    description = interface.describe(config, checkpoint.published or checkpoint.path.name)
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


def _check_source_is_kept(source: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() and path.samefile(source):
            raise InputError(f"{path} is the checkpoint itself, which is not replaced")


def _load(arguments: ExportArguments) -> "Checkpoint":
    """Returns the checkpoint in float32, and prints what it is."""
    from flax_densenet.weights.adapt import adapt
    from flax_densenet.weights.load import load_checkpoint
    from flax_densenet.weights.report import describe

    checkpoint = load_checkpoint(
        arguments.checkpoint,
        weight_set=arguments.weights.weight_set,
        offline=arguments.weights.offline,
    )
    for heading, text in describe(checkpoint).items():
        print(f"{heading:<10} {text}")
    for warning in checkpoint.warnings:
        print(f"warning: {warning}")
    variables, config = adapt(checkpoint.variables, checkpoint.config, dtype="float32")
    config = dataclasses.replace(config, dtype="float32")
    return checkpoint._replace(config=config, variables=variables)


def _preparation(checkpoint: "Checkpoint", arguments: ExportArguments) -> Preparation:
    if arguments.mean is None and arguments.std is None:
        return checkpoint.preparation
    from flax_densenet.weights.statement import given_statistics

    print("given      --mean and --std, instead of what the checkpoint says")
    channels = checkpoint.config.in_channels
    mean, std = given_statistics(arguments.mean, arguments.std, channels)
    return dataclasses.replace(checkpoint.preparation, mean=mean, std=std)


class _Exported(NamedTuple):
    serialized: bytes
    run: Callable[[np.ndarray], np.ndarray]


def _make(
    arguments: ExportArguments,
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: "Interface",
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
            f"{error.name}, which writes or checks ONNX, is not installed; install "
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
