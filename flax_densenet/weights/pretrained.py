"""Networks with weights from a file, each in one line.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_densenet.data.images.paths import read_image
from flax_densenet.densenet import DenseNet
from flax_densenet.errors import InputError, require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import initialize
from flax_densenet.network.variants import VARIANTS
from flax_densenet.training.augment import Preprocess
from flax_densenet.weights.adapt import check_agreement, with_in_channels, with_new_head
from flax_densenet.weights.checkpoint import Checkpoint, load_checkpoint


def load(path: str | Path, *, weight_set: str | None = None) -> tuple[DenseNet, dict[str, Any]]:
    """Returns the network in a file, and its variables.

    Args:
      path: Whatever `flax-densenet convert` reads: a file of PyTorch, safetensors or Keras, an
        Orbax directory, or a work directory of `train`.
      weight_set: Which set of weights to take, by its place in the file, where there are several.

    Returns:
      The module, and {"params", "batch_stats"} as arrays on the default device.

    Raises:
      InputError: The file cannot be read, or is not understood; `load_checkpoint` says why.

    Example::

        model, variables = flax_densenet.load("densenet121.safetensors")
        logits = model.apply(variables, image, train=False)
    """
    checkpoint = load_checkpoint(path, weight_set=weight_set)
    return DenseNet(checkpoint.config), _on_device(checkpoint.variables)


def create(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    weights: str | Path | None = None,
    key: jax.Array | None = None,
) -> tuple[DenseNet, dict[str, Any]]:
    """Returns a named network, and its variables.

    Weights for other classes get a classifier with initial weights. Those for other channels get
    another first convolution, as `flax-densenet convert --in_channels` makes it.

    Args:
      name: Key of `VARIANTS`.
      num_classes: Number of classes; that of the weights, or the network's usual one, if not given.
      in_channels: Channels of the image, likewise.
      weights: What `load` reads; initial weights if not given.
      key: Random key of what gets initial weights.

    Returns:
      The module, and {"params", "batch_stats"} as arrays on the default device.

    Raises:
      InputError: There is no such network, the weights are not its own or cannot be adapted, or
        there is no key where it is needed.

    Example:
      >>> import jax, flax_densenet
      >>> model, variables = flax_densenet.create("densenet-40-12", key=jax.random.key(0))
      >>> model.config.title
      'DenseNet (L=40, k=12)'
    """
    require(name in VARIANTS, "name", name, f"one of {', '.join(VARIANTS)}")
    if weights is None:
        config = _with_ends(VARIANTS[name], num_classes, in_channels)
        if key is None:
            raise InputError(
                "create() without weights draws initial ones, and key is not given; give "
                "key=jax.random.key(0), or weights=FILE"
            )
        return DenseNet(config), initialize(config, key)
    _with_ends(VARIANTS[name], num_classes, in_channels)  # or they are refused here
    checkpoint = load_checkpoint(weights)
    _check_is(checkpoint, name, weights)
    variables, config = checkpoint.variables, checkpoint.config
    if num_classes is not None and num_classes != config.num_classes:
        if key is None:
            raise InputError(
                f"the weights in {weights} are for {config.num_classes} classes and num_classes is "
                f"{num_classes}, so that the classifier is new, and key is not given; give "
                "key=jax.random.key(0), or leave num_classes out"
            )
        seed = int(jax.random.bits(key))
        variables, config = with_new_head(variables, config, num_classes, seed=seed)
    if in_channels is not None and in_channels != config.in_channels:
        variables, config = with_in_channels(variables, config, in_channels)
    return DenseNet(config), _on_device(variables)


def image_reader(path: str | Path) -> Callable[[Sequence[str | Path]], Float[Array, "B H W C"]]:
    """Returns the function from image files to what the network in a file takes.

    Args:
      path: As `load`. Size, part and normalization of the images are those that the file or its
        software tells of.

    Returns:
      A function from paths of images to [B, H, W, in_channels] float32, which raises InputError for
      an image that cannot be read.

    Raises:
      InputError: The file cannot be read, or does not tell how images are prepared.

    Example::

        read = flax_densenet.image_reader("densenet121.safetensors")
        image = read(["cat.jpg", "dog.jpg"])  # [2, 224, 224, 3]
    """
    checkpoint = load_checkpoint(path)
    channels = checkpoint.config.in_channels
    image_format = checkpoint.preprocessing.image_format(channels)
    preprocess = Preprocess(*checkpoint.preprocessing.told_statistics(channels), "none")

    def read(paths: Sequence[str | Path]) -> Float[Array, "B H W C"]:
        is_list = not isinstance(paths, str | Path) and len(paths) > 0
        require(is_list, "paths", paths, "a list of paths, at least one")
        images = [read_image(image, image_format) for image in paths]
        return preprocess.normalize(jnp.asarray(np.stack(images)))

    return read


def _with_ends(
    config: DenseNetConfig, num_classes: int | None, in_channels: int | None
) -> DenseNetConfig:
    """Returns the network with other classes and channels, which are checked, if they are given."""
    given: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})


def _check_is(checkpoint: Checkpoint, name: str, where: str | Path) -> None:
    found = checkpoint.config
    asked = dataclasses.replace(
        VARIANTS[name],
        num_classes=found.num_classes,
        in_channels=found.in_channels,
        batch_norm_epsilon=found.batch_norm_epsilon,
        batch_norm_momentum=found.batch_norm_momentum,
    )
    check_agreement(
        found, asked, str(where), "give the name of this one, or use load(), which needs none"
    )


def _on_device(variables: dict[str, Any]) -> dict[str, Any]:
    return jax.tree.map(jnp.asarray, variables)
