"""Tests of flax_densenet/folding.py."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.folding import fold_batch_norms, foldable
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.tests.exported import IMAGENET, PLAIN


def test_every_normalization_behind_a_convolution_is_folded() -> None:
    assert foldable(PLAIN) == []
    other_order = dataclasses.replace(PLAIN, blocks=(1, 1), depth=None, order="conv-norm-act")
    assert foldable(other_order) == [
        (("conv0",), ("norm0",)),
        (("denseblock1", "denselayer1", "conv1"), ("denseblock1", "denselayer1", "norm1")),
        (("transition1", "conv"), ("transition1", "norm")),
        (("denseblock2", "denselayer1", "conv1"), ("denseblock2", "denselayer1", "norm1")),
    ]
    assert foldable(IMAGENET) == [
        (("conv0",), ("norm0",)),
        (("denseblock1", "denselayer1", "conv1"), ("denseblock1", "denselayer1", "norm2")),
        (("denseblock2", "denselayer1", "conv1"), ("denseblock2", "denselayer1", "norm2")),
        (("denseblock2", "denselayer2", "conv1"), ("denseblock2", "denselayer2", "norm2")),
    ]


_BOTTLENECKS = DenseNetConfig(blocks=(1, 2), growth_rate=4, bottleneck=True, stem="imagenet")
_CONVOLUTIONS_FIRST = DenseNetConfig(
    blocks=(1, 1), growth_rate=4, order="conv-norm-act", groups=2, activation="prelu"
)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("config", [_BOTTLENECKS, _CONVOLUTIONS_FIRST])
def test_folded_network_computes_the_same(config: DenseNetConfig) -> None:
    config = dataclasses.replace(config, dtype="float64")
    variables = random_variables(config)
    folded = fold_batch_norms(variables, config)
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    apply = jax.jit(lambda variables: DenseNet(config).apply(variables, image, train=False))
    wanted = np.asarray(apply(variables))
    tolerance = 1e-12 * np.abs(wanted).max()  # rounding
    np.testing.assert_allclose(apply(folded), wanted, rtol=0, atol=tolerance)
    flat = traverse_util.flatten_dict(folded)
    for conv, norm in foldable(config):
        path = ("params", *conv, "kernel")
        assert (flat[path] != traverse_util.flatten_dict(variables)[path]).any()
        np.testing.assert_array_equal(flat["params", *norm, "scale"], 1)
        np.testing.assert_array_equal(flat["batch_stats", *norm, "mean"], 0)
        np.testing.assert_allclose(
            flat["batch_stats", *norm, "var"] + config.batch_norm_epsilon, 1, rtol=1e-15
        )
