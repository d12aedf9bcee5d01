"""JSON as its standard has it, which knows no infinity and no NaN.

Axes: B batch, H height, W width, C channels, K classes.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, UInt8

from flax_densenet.cli.flags import ImageOptions
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.preprocessing import Preprocessing
from flax_densenet.densenet import DenseNet
from flax_densenet.errors import InputError
from flax_densenet.training.augment import Preprocess
from flax_densenet.weights.checkpoint import load_checkpoint


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns the text of nested mappings, sequences and plain values.

    Args:
      value: What to write; numbers that are not finite become null.
      indent: As for `json.dumps`.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Classifier(NamedTuple):
    """A network, and what it takes.

    Attributes:
      model: The network.
      variables: {"params", "batch_stats"}.
      image_format: What every image file becomes.
      preprocess: Normalizes images.
      class_names: One name per class; None if nobody has told.
    """

    model: DenseNet
    variables: dict[str, Any]
    image_format: ImageFormat
    preprocess: Preprocess
    class_names: tuple[str, ...] | None

    def logits(self, image: UInt8[Array, "B H W C"]) -> Float[Array, "B K"]:
        """Returns the logits of images, 0 to 255, in a compiled step."""
        return _logits(self.model, self.preprocess, self.variables, image)

    def class_name(self, index: int) -> str:
        """Returns a name for people."""
        return self.class_names[index] if self.class_names else f"class {index}"


@partial(jax.jit, static_argnums=(0, 1))
def _logits(
    model: DenseNet, preprocess: Preprocess, variables: Any, image: UInt8[Array, "B H W C"]
) -> Float[Array, "B K"]:
    return jax.numpy.asarray(model.apply(variables, preprocess.normalize(image), train=False))


def load_classifier(path: str, weight_set: str | None, options: ImageOptions) -> Classifier:
    """Reads a checkpoint, and prepares for images as it and the flags say; prints warnings.

    Args:
      path: Whatever `convert` reads.
      weight_set: Which set of weights in it, where there are several.
      options: What is not as the checkpoint says.

    Raises:
      InputError: The checkpoint cannot be read, or what using it takes is not told.
    """
    checkpoint = load_checkpoint(Path(path).expanduser(), weight_set=weight_set)
    for warning in checkpoint.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    config = checkpoint.config
    preprocessing = _changed(checkpoint.preprocessing, options)
    names = checkpoint.class_names
    if options.class_names is not None:
        names = _read_class_names(Path(options.class_names).expanduser())
    if names is not None and len(names) != config.num_classes:
        where = options.class_names or path
        raise InputError(
            f"{where} names {len(names)} classes and the network has {config.num_classes}; give a "
            "file with one name for each class, in the order of training, with --class_names"
        )
    return Classifier(
        DenseNet(config),
        jax.tree.map(jax.numpy.asarray, checkpoint.variables),
        preprocessing.image_format(config.in_channels),
        Preprocess(*preprocessing.told_statistics(config.in_channels), "none"),
        names,
    )


def _changed(preprocessing: Preprocessing, options: ImageOptions) -> Preprocessing:
    if options.image_size is not None:
        preprocessing = preprocessing.resized_to(options.image_size)
    names = ("shorter_side", "interpolation", "mean", "std")
    given = {name: getattr(options, name) for name in names}
    return dataclasses.replace(preprocessing, **{k: v for k, v in given.items() if v is not None})


def _read_class_names(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise InputError(
            f"{file} cannot be read ({reason}); give a text file with one name for each class"
        ) from error
    if not text.lstrip().startswith(("[", "{")):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        names = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file} is damaged JSON ({error}); wanted a list of names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{file} is JSON, and no list of names; wanted such as "
            '["ant", "bee"], or one name a line'
        )
    return tuple(names)
