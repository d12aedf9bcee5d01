"""Networks with weights, in one line of code.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from warnings import warn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_densenet.data.dataset import ChannelStatistics, check_scale
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.paths import read_image
from flax_densenet.densenet import DenseNet
from flax_densenet.errors import InputError, require, require_integer
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import initialize
from flax_densenet.network.variants import VARIANTS
from flax_densenet.weights.adapt import adapt, check_variant
from flax_densenet.weights.checkpoint import Checkpoint
from flax_densenet.weights.load import load_checkpoint
from flax_densenet.weights.published.catalog import USUAL


def load(
    source: str | Path,
    *,
    weight_set: str | None = None,
    head: bool = True,
    offline: bool = False,
) -> tuple[DenseNet, dict[str, Any]]:
    """Returns a network with weights, and its variables.

    Args:
      source: The name of published weights, such as "torchvision/densenet121", which
        `flax-densenet weights` lists; a file of PyTorch, safetensors or Keras, an Orbax directory,
        or a work directory of `train`; "https://..."; or "hf-hub:OWNER/REPOSITORY".
      weight_set: Which set of weights to take, by its place in the file, where there are several.
      head: Whether the classifier is wanted. Without it the file need not have one, and the
        variables serve `DenseNet.features` alone, for all outputs but the logits.
      offline: Whether to download nothing, and to use what is on the disk, also in the caches of
        PyTorch, Keras and Hugging Face's hub.

    Returns:
      The module, and {"params", "batch_stats"} as arrays on the default device, of float32 where
      the file has less or JAX takes no more. Warnings say so, and what else is odd in the file.

    Raises:
      InputError: The weights cannot be had or read, or are not understood; the message says why.

    Example::

        model, variables = flax_densenet.load("torchvision/densenet121")
        logits = model.apply(variables, image, train=False)
    """
    checkpoint = load_checkpoint(source, weight_set=weight_set, needs_head=head, offline=offline)
    _warn(checkpoint)
    if not head:
        checkpoint.variables["params"].pop("classifier", None)
    return as_network(checkpoint)


def create(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    weight_set: str | None = None,
    offline: bool = False,
    key: jax.Array | None = None,
) -> tuple[DenseNet, dict[str, Any]]:
    """Returns a named network, and its variables.

    Weights for other classes, or without a classifier, get one with initial weights. Weights for
    other channels get the first convolution that `flax-densenet convert --in_channels` makes.

    Args:
      name: Key of `VARIANTS`.
      num_classes: Number of classes. If not given, that of the weights, or the network's usual one.
      in_channels: Channels of the images. If not given, as for `num_classes`.
      pretrained: Whether to take the usual published weights: torchvision's for the ImageNet nets,
        pytorchcv's of CIFAR-10 for those of the CIFAR nets that it has.
      weights: Other weights, which `load` reads. Without either, all weights are initial ones.
      weight_set: As for `load`.
      offline: As for `load`.
      key: Random key for initial weights.

    Returns:
      The module, and {"params", "batch_stats"} as arrays on the default device.

    Raises:
      InputError: There is no such network, the weights are not its own or cannot be adapted, or
        a key is needed and is not given.

    Example:
      >>> import jax, flax_densenet
      >>> model, variables = flax_densenet.create("densenet-40-12", key=jax.random.key(0))
      >>> model.config.title
      'DenseNet (L=40, k=12)'
    """
    require(name in VARIANTS, "name", name, f"one of {', '.join(VARIANTS)}")
    if pretrained:
        weights = _usual_weights(name, weights)
    if weights is None:
        config = _with_ends(VARIANTS[name], num_classes, in_channels)
        if key is None:
            raise InputError(
                "create() without weights draws initial ones, and key is not given; give "
                "key=jax.random.key(0), pretrained=True or weights=FILE"
            )
        return DenseNet(config), initialize(config, key)
    _with_ends(VARIANTS[name], num_classes, in_channels)  # or they are refused here
    checkpoint = load_checkpoint(
        weights, weight_set=weight_set, needs_head=num_classes is None, offline=offline
    )
    _warn(checkpoint)
    found = checkpoint.config
    hint = "give the name of this one, or use load(), which needs none"
    check_variant(found, name, str(weights), hint)
    is_kept = checkpoint.has_head and num_classes == found.num_classes
    new_head = None if is_kept else num_classes
    if new_head is not None and key is None:
        has = (
            f"are for {found.num_classes} classes" if checkpoint.has_head else "have no classifier"
        )
        raise InputError(
            f"the weights in {weights} {has} and num_classes is {num_classes}, so that the "
            "classifier is new, and key is not given; give key=jax.random.key(0)"
            + (", or leave num_classes out" if checkpoint.has_head else "")
        )
    variables, config = adapt(
        checkpoint.variables,
        found,
        new_head=new_head,
        in_channels=in_channels,
        seed=0 if key is None else int(jax.random.bits(key)),
    )
    return as_network(checkpoint._replace(variables=variables, config=config))


def image_reader(
    source: str | Path,
    *,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_range: tuple[float, float] | None = None,
    weight_set: str | None = None,
    offline: bool = False,
) -> Callable[[Sequence[str | Path]], Float[Array, "B H W C"]]:
    """Returns a function that reads image files as input of a network with weights.

    Args:
      source: As for `load`. The file or its software says how images are resized, cut and
        normalized, as far as what follows does not say otherwise.
      image_size: Height and width in pixels of what the network sees.
      mean: Mean of each channel that is subtracted, in 0 to 255.
      std: Standard deviation of each channel that is divided by, in 0 to 255.
      pixel_range: Values that become black and white in files with gray pixels of more than 8
        bits; usually 0 and 65535 for integers, 0 and 255 for floating-point numbers.
      weight_set: As for `load`.
      offline: As for `load`.

    Returns:
      A function from paths of images to [B, H, W, in_channels] float32. It raises InputError for an
      image that cannot be read.

    Raises:
      InputError: The weights cannot be had or read, or nothing says how images are prepared.

    Example::

        read = flax_densenet.image_reader("torchvision/densenet121")
        image = read(["cat.jpg", "dog.jpg"])  # [2, 224, 224, 3]
    """
    checkpoint = load_checkpoint(source, weight_set=weight_set, offline=offline)
    preparation = checkpoint.preparation
    if image_size is not None:
        require_integer("image_size", image_size, 1)
        preparation = preparation.resized_to(image_size)
    check_scale(mean, std)
    given: dict[str, Any] = {"mean": mean, "std": std, "pixel_range": pixel_range}
    given = {name: tuple(values) for name, values in given.items() if values is not None}
    preparation = dataclasses.replace(preparation, **given)
    image_format, statistics = image_inputs(checkpoint._replace(preparation=preparation))

    def read(paths: Sequence[str | Path]) -> Float[Array, "B H W C"]:
        is_list = not isinstance(paths, str | Path) and len(paths) > 0
        require(is_list, "paths", paths, "a list of paths, at least one")
        images = [read_image(image, image_format) for image in paths]
        return statistics.normalize(jnp.asarray(np.stack(images)))

    return read


def as_network(checkpoint: Checkpoint) -> tuple[DenseNet, dict[str, Any]]:
    """Returns the network of a checkpoint, and its variables on the default device."""
    return DenseNet(checkpoint.config), jax.tree.map(jnp.asarray, checkpoint.variables)


def image_inputs(checkpoint: Checkpoint) -> tuple[ImageFormat, ChannelStatistics]:
    """Returns what image files are brought to for a network, and then normalized with.

    Raises:
      InputError: The checkpoint does not say one of them.
    """
    channels = checkpoint.config.in_channels
    preparation = checkpoint.preparation
    return preparation.image_format(channels), preparation.known_statistics(channels)


def _usual_weights(name: str, weights: str | Path | None) -> str:
    """Returns the name of the usual published weights of a network."""
    if weights is not None:
        raise InputError(f"pretrained=True and weights (={weights!r}) exclude each other; give one")
    if name not in USUAL:
        raise InputError(
            f"no published weights are the usual ones of {name}; pretrained=True is for "
            f"{', '.join(USUAL)}; give weights=FILE or a name that `flax-densenet weights` lists"
        )
    return USUAL[name]


def _warn(checkpoint: Checkpoint) -> None:
    """Says in Python's way what the commands print, and what JAX would do in silence."""
    warnings = list(checkpoint.warnings)
    is_wide = any(array.dtype == np.float64 for array in jax.tree.leaves(checkpoint.variables))
    if is_wide and jax.dtypes.canonicalize_dtype(np.float64) == np.float32:
        warnings.append(
            "the weights are float64, and JAX takes them as float32; for all their digits, enable "
            "jax_enable_x64, and give the network dtype='float64'"
        )
    for warning in warnings:
        warn(warning, stacklevel=3)


def _with_ends(
    config: DenseNetConfig, num_classes: int | None, in_channels: int | None
) -> DenseNetConfig:
    """Returns the network with other classes and channels, which are checked, if they are given."""
    given: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})
