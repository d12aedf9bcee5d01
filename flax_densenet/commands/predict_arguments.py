"""The flags of `flax-densenet predict`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from flax_densenet.commands.image_options import ImageOptions
from flax_densenet.commands.parsing import parse_flags
from flax_densenet.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Show the classes that a network finds most probable for images.

    Attributes:
      checkpoint: Whatever `convert` reads: a .pth, .safetensors or .h5 file, an Orbax directory or
        a work directory of train.
      images: Image files, and directories in which all images are taken.
      top_k: Classes to show for each image.
      json: Print one JSON object for each image, one a line.
      batch_size: Images per step; it does not change the result.
      weights: Which weights of the checkpoint to take, by their place in it, where there are
        several.
      preparation: How images are prepared.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    images: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|DIRECTORY ...")
    ]
    top_k: int = 5
    json: bool = False
    batch_size: int = 32
    weights: str | None = None
    preparation: ImageOptions = ImageOptions()

    def __post_init__(self) -> None:
        for name in ("top_k", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, name, value, "an integer of at least 1")
        require(len(self.images) > 0, "images", self.images, "at least one file or directory")


def parse_predict_arguments(args: Sequence[str], prog: str) -> PredictArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return parse_flags(PredictArguments, args, prog)
