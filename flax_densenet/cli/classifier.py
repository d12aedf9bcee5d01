"""A trained network and how its images are prepared, for commands that look at images.

Axes: B batch, H height, W width, C channels, K classes.
"""

import dataclasses
import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flax_densenet.cli.flags import ImageFlags, WeightsFlags
from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError

if TYPE_CHECKING:
    import jax

    from flax_densenet.densenet import DenseNet


class Classifier(NamedTuple):
    """A network, its weights and how its images are prepared.

    Attributes:
      model: The network.
      variables: {"params", "batch_stats"}.
      image_format: Size and channels to which every image file is brought.
      statistics: Mean and deviation that images are normalized with.
      logits: Compiled function from images, [B, H, W, C] in 0 to 255, to logits, [B, K].
      class_names: One name per class; None if they are not known.
      outputs: How the logits are read.
    """

    model: "DenseNet"
    variables: dict[str, Any]
    image_format: ImageFormat
    statistics: ChannelStatistics
    logits: "Callable[[jax.Array], jax.Array]"
    class_names: tuple[str, ...] | None
    outputs: Outputs

    def class_name(self, index: int) -> str:
        """Returns the name of a class, for people."""
        name = self.class_names[index] if self.class_names else ""
        name = name or f"class {index}"
        return name if self.is_trained(index) else f"{name} (not trained)"

    def is_trained(self, index: int) -> bool:
        """Returns whether an output was trained, as far as the checkpoint says."""
        has_name = self.class_names is None or self.class_names[index] != ""
        return has_name and self.outputs.is_trained(index)


def load_classifier(source: str, weights: WeightsFlags, flags: ImageFlags) -> Classifier:
    """Reads a checkpoint, and prepares for images as it and the flags say; prints warnings.

    Args:
      source: Whatever `convert` reads.
      weights: Which weights in it are taken, and from where.
      flags: What is to differ from the checkpoint.

    Raises:
      InputError: The checkpoint cannot be read, or something that images need is not known.
    """
    import jax

    from flax_densenet.weights.load import load_checkpoint
    from flax_densenet.weights.pretrained import as_network, image_inputs

    checkpoint = load_checkpoint(source, weight_set=weights.weight_set, offline=weights.offline)
    for warning in checkpoint.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    config = checkpoint.config
    checkpoint = checkpoint._replace(preparation=_changed(checkpoint.preparation, flags))
    names = checkpoint.class_names
    if flags.class_names is not None:
        names = _read_class_names(Path(flags.class_names).expanduser())
        _check_different(names, flags.class_names)
    if names is not None and len(names) != config.num_classes:
        where = flags.class_names or source
        raise InputError(
            f"{where} names {len(names)} classes and the network has {config.num_classes}; give a "
            "file with one name for each class, in the order of training, with --class_names"
        )
    model, variables = as_network(checkpoint)
    image_format, statistics = image_inputs(checkpoint)

    @jax.jit
    def logits(variables: Any, image: jax.Array) -> jax.Array:
        return jax.numpy.asarray(model.apply(variables, statistics.normalize(image), train=False))

    return Classifier(
        model,
        variables,
        image_format,
        statistics,
        partial(logits, variables),
        names,
        checkpoint.outputs,
    )


def _changed(preparation: Preparation, flags: ImageFlags) -> Preparation:
    if flags.image_size is not None:
        preparation = preparation.resized_to(flags.image_size)
    names = ("shorter_side", "interpolation", "mean", "std", "pixel_range")
    given = {name: getattr(flags, name) for name in names}
    return dataclasses.replace(preparation, **{k: v for k, v in given.items() if v is not None})


def _check_different(names: tuple[str, ...], file: str) -> None:
    """Checks that no two classes have the same name; "" is none."""
    forms = [unicodedata.normalize("NFC", name) for name in names]
    twice = {name for name, count in Counter(forms).items() if name and count > 1}
    if twice:
        name = next(name for name in forms if name in twice)
        first, second, *_ = (index for index, other in enumerate(forms) if other == name)
        raise InputError(
            f"{file} names classes {first} and {second} (from 0) {name!r}, as {len(twice)} name(s) "
            "in all are there more than once; give every class a name of its own"
        )


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
