"""The flags of `flax-densenet explain`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from flax_densenet.commands.image_options import ImageOptions
from flax_densenet.commands.parsing import parse_flags
from flax_densenet.errors import InputError

Method = Literal["cam", "gradcam"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainArguments:
    """Draw which part of an image speaks for a class.

    Attributes:
      checkpoint: Whatever `convert` reads: a .pth, .safetensors or .h5 file, an Orbax directory or
        a work directory of train.
      image: Image file.
      chosen_class: Name of a class, or its index from 0; the most probable one if not given.
      method: cam shows what each place adds to the logit, exactly; gradcam the maps of a layer,
        weighted by their gradients.
      layer: Layer that gradcam looks at: denseblock1, denseblock2... or norm5, which it is if not
        given.
      out: Picture to write; its ending decides the format. IMAGE-cam.png or IMAGE-gradcam.png in
        the current directory if not given.
      overwrite: Replace the picture if it exists.
      weights: Which weights of the checkpoint to take, by their place in it, where there are
        several.
      preparation: How the image is prepared.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    chosen_class: Annotated[str | None, tyro.conf.arg(name="class")] = None
    method: Method = "cam"
    layer: str | None = None
    out: str | None = None
    overwrite: bool = False
    weights: str | None = None
    preparation: ImageOptions = ImageOptions()

    def __post_init__(self) -> None:
        if self.layer is not None and self.method != "gradcam":
            raise InputError(
                f"layer (={self.layer!r}) is for --method gradcam; cam is always of the last layer"
            )


def parse_explain_arguments(args: Sequence[str], prog: str) -> ExplainArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return parse_flags(ExplainArguments, args, prog)
