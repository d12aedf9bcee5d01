"""Fresh weights of both halves have the authors' distribution, layer by layer."""

import math

import jax
import numpy as np
import pytest
import torch

import torch_reference
from flax_densenet import DenseNetConfig, initialize, to_torch_arrays

_CONFIG = DenseNetConfig(
    blocks=(3, 3),
    growth_rate=16,
    bottleneck=True,
    compression=0.5,
    stem="imagenet",
    num_classes=1000,
)


@pytest.fixture(scope="module", params=["flax", "torch"])
def fresh(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """A fresh state dict of either half."""
    if request.param == "flax":
        return to_torch_arrays(initialize(_CONFIG, jax.random.key(0)), _CONFIG)
    torch.manual_seed(0)
    return {k: v.numpy() for k, v in torch_reference.DenseNet(_CONFIG).state_dict().items()}


def test_convolutions_are_normal_with_the_fan_out_deviation(fresh: dict[str, np.ndarray]) -> None:
    standardized = []
    for key, weight in fresh.items():
        if weight.ndim != 4:
            continue
        outputs, _, height, width = weight.shape
        z = weight / math.sqrt(2 / (outputs * height * width))  # He et al., fan out
        # Five standard deviations of the mean, and of the variance of a normal distribution.
        assert abs(z.mean()) < 5 / math.sqrt(z.size), key
        assert abs(z.var() - 1) < 5 * math.sqrt(2 / z.size), key
        standardized.append(z.ravel())
    z = np.concatenate(standardized)
    # Not truncated: P(|z| > 2) = 4.55 %, P(|z| > 3) = 0.27 %; cut at 2 both would be 0.
    for bound, share in ((2, 0.0455), (3, 0.0027)):
        deviation = math.sqrt(share / z.size)
        assert np.mean(np.abs(z) > bound) == pytest.approx(share, abs=5 * deviation)


def test_classifier_is_uniform_and_its_bias_zero(fresh: dict[str, np.ndarray]) -> None:
    weight = fresh["classifier.weight"]
    bound = 1 / math.sqrt(weight.shape[1])
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.999 * bound
    assert weight.mean() == pytest.approx(0, abs=5 * bound / math.sqrt(3 * weight.size))
    assert weight.var() == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / weight.size))
    assert not fresh["classifier.bias"].any()


def test_normalizations_start_as_the_identity(fresh: dict[str, np.ndarray]) -> None:
    right = {"norm.weight": 1, "norm.bias": 0, "norm.running_mean": 0, "norm.running_var": 1}
    for name, value in right.items():
        assert np.all(fresh[f"features.transition1.{name}"] == value)
