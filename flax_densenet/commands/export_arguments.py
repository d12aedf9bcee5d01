"""The flags of `flax-densenet export`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from flax_densenet.commands.parsing import parse_flags
from flax_densenet.errors import InputError, require

ExportFormat = Literal["stablehlo", "onnx"]
_WEIGHT_FILES = (".pth", ".pt", ".safetensors", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Export a trained network to a file that other programs run without this package.

    Attributes:
      checkpoint: Whatever `flax-densenet convert` reads: a .pth, .safetensors or .h5 file, an Orbax
        directory or a work directory of train.
      out: File to write: FILE.stablehlo (for JAX; FILE.stablehlo.json beside it describes it) or
        FILE.onnx.
      to: Format, if it is not the ending of out.
      image_size: Height and width in pixels, one number if they are equal; free if not given.
      uint8: Take pixels from 0 to 255 and normalize them inside of the network.
      tf32: Let an NVIDIA GPU round the factors of products to TF32 (stablehlo): faster, and logits
        differ by about 1e-3 of the largest. ONNX Runtime has an option of its own.
      weights: Which weights of the checkpoint to take, by their place in it, where there are
        several.
      mean: Mean of each image channel in 0 to 255, if the checkpoint does not tell or is wrong.
      std: Standard deviation of each image channel, likewise.
      overwrite: Replace what is there.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    to: ExportFormat | None = None
    image_size: tuple[int, ...] | None = None
    uint8: bool = False
    tf32: bool = False
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        size = self.image_size
        is_size = size is None or (len(size) in (1, 2) and min(size) >= 1)
        require(is_size, "image_size", size, "one number of at least 1, or two: HEIGHT,WIDTH")
        if self.tf32 and self.format == "onnx":
            raise InputError(
                "--tf32 is for StableHLO; in an ONNX file it is not decided, but by the provider "
                "option use_tf32 of ONNX Runtime; leave it out"
            )

    @property
    def format(self) -> ExportFormat:
        """The format that `to` or the ending of `out` asks for.

        Raises:
          InputError: Neither does.
        """
        if self.to is not None:
            return self.to
        suffix = Path(self.out).suffix
        for name in get_args(ExportFormat):
            if suffix == f".{name}":
                return name
        hint = (
            "weights for PyTorch and Flax are written by flax-densenet convert"
            if suffix in _WEIGHT_FILES
            else "or say the format with --to"
        )
        ending = f"ends in {suffix}" if suffix else "has no ending"
        raise InputError(f"{self.out} {ending}; wanted .stablehlo or .onnx; {hint}")


def parse_export_arguments(args: Sequence[str], prog: str) -> ExportArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return parse_flags(ExportArguments, args, prog)
