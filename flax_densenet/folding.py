"""Batch normalizations that directly follow a convolution, folded into its kernel.

Axes: H kernel height, W kernel width, I input channels, O output channels.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import weight_layers

Path = tuple[str, ...]


def foldable(config: DenseNetConfig) -> list[tuple[Path, Path]]:
    """Returns the paths of each convolution that a normalization reads alone, and of that one.

    A dense layer normalizes before it convolves (paper, section 3). So these are the stem's on
    ImageNet, and the one before the 3x3 convolution of a bottleneck; all others read feature maps
    that several layers read, each with a normalization of its own. With the option
    order="conv-norm-act" they are all of them.
    """
    return [
        (first.path, second.path)
        for first, second in itertools.pairwise(weight_layers(config))
        if (first.kind, second.kind) == ("conv", "norm") and first.path[:-1] == second.path[:-1]
    ]


def fold_batch_norms(variables: Mapping[str, Any], config: DenseNetConfig) -> dict[str, Any]:
    """Moves the factor of every foldable normalization into the kernel before it.

    What is left of such a normalization, y = scale (x - mean) / sqrt(var + epsilon) + bias, adds a
    bias only. The result are variables of the same network, with the same output in evaluation up
    to rounding; a compiler removes what multiplies by 1 and subtracts 0. They are not for training.

    Args:
      variables: {"params", "batch_stats"}.
      config: The network.

    Returns:
      New variables, of the same types; what is not folded is shared.
    """
    flat = dict(traverse_util.flatten_dict(dict(variables)))
    for conv, norm in foldable(config):
        kernel_path, bias_path = ("params", *conv, "kernel"), ("params", *norm, "bias")
        scale_path = ("params", *norm, "scale")
        mean_path, var_path = ("batch_stats", *norm, "mean"), ("batch_stats", *norm, "var")
        kernel, scale, bias, mean, var = (
            np.asarray(flat[path], np.float64)
            for path in (kernel_path, scale_path, bias_path, mean_path, var_path)
        )
        factor = scale / np.sqrt(var + config.batch_norm_epsilon)
        folded = {
            kernel_path: kernel * factor,  # [H, W, I, O]
            scale_path: np.ones_like(scale),
            bias_path: bias - mean * factor,
            mean_path: np.zeros_like(mean),
            var_path: np.full_like(var, 1 - config.batch_norm_epsilon),
        }
        flat |= {path: array.astype(flat[path].dtype) for path, array in folded.items()}
    return traverse_util.unflatten_dict(flat)
