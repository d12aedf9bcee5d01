"""Fresh weights of both halves have the authors' distribution, layer by layer."""

import math
from functools import cache

import jax
import numpy as np
import pytest
import torch
from scipy import stats

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
# What the keys of each kind of layer that draws its weights contain.
_KINDS = {
    "stem": "features.conv0.",
    "bottleneck": ".conv1.",
    "3x3": ".conv2.",
    "transition": "transition1.conv.",
    "classifier": "classifier.weight",
}
_NORMAL, _UNIFORM = stats.norm(), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
_DEVIATIONS = 5  # that a moment may be from its expectation; chance alone: 1 of 1,700,000
_SMALLEST_P = 1e-3  # the seeds are fixed: below it would have been 1 in 1,000 of them


@cache
def _fresh(half: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a fresh state dict of either half."""
    if half == "flax":
        return to_torch_arrays(initialize(_CONFIG, jax.random.key(seed)), _CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = torch_reference.DenseNet(_CONFIG).state_dict()
    return {key: tensor.numpy() for key, tensor in state.items()}


@pytest.fixture(params=["flax", "torch"])
def fresh(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """A fresh state dict of either half."""
    return _fresh(request.param)


def _standardized(key: str, weight: np.ndarray) -> np.ndarray:
    """Returns the weights divided by the deviation that they should have."""
    if key == "classifier.weight":
        return weight.ravel() * math.sqrt(3 * weight.shape[1])  # U(-1/sqrt(I), 1/sqrt(I))
    outputs, _, height, width = weight.shape
    return weight.ravel() / math.sqrt(2 / (outputs * height * width))  # He et al., fan out


def _of_kind(half: str, kind: str) -> np.ndarray:
    """Returns the standardized weights of ten networks, which is enough to see a cut tail."""
    networks = [_fresh(half, seed) for seed in range(10)]
    part = _KINDS[kind]
    return np.concatenate(
        [_standardized(k, w) for net in networks for k, w in net.items() if part in k]
    )


def test_every_drawn_weight_is_of_one_kind(fresh: dict[str, np.ndarray]) -> None:
    for key, weight in fresh.items():
        kinds = [kind for kind, part in _KINDS.items() if part in key]
        assert len(kinds) == (weight.ndim in (2, 4)), key


def test_moments_of_every_layer_are_those_of_its_distribution(fresh: dict[str, np.ndarray]) -> None:
    # E z^k and E z^2k of the standardized distributions give expectation and deviation of the mean
    # of z^k: k = 4 is 3 for a normal distribution, 9/5 for a uniform one, 2.36 for one cut at 2.
    for key, weight in fresh.items():
        if weight.ndim not in (2, 4):
            continue
        z = _standardized(key, weight).astype(np.float64)
        moment = (_NORMAL if weight.ndim == 4 else _UNIFORM).moment
        for k in (1, 2, 3, 4):
            deviation = math.sqrt((moment(2 * k) - moment(k) ** 2) / z.size)
            assert abs(np.mean(z**k) - moment(k)) < _DEVIATIONS * deviation, f"moment {k} of {key}"


@pytest.mark.parametrize("kind", _KINDS)
def test_both_halves_draw_from_one_distribution(kind: str) -> None:
    ours, theirs = _of_kind("flax", kind), _of_kind("torch", kind)
    assert not np.array_equal(ours, theirs)
    assert stats.ks_2samp(ours, theirs).pvalue > _SMALLEST_P


@pytest.mark.parametrize("kind", _KINDS)
def test_another_distribution_is_caught(kind: str) -> None:
    theirs = _of_kind("torch", kind)
    size, random = theirs.size, np.random.default_rng(0)
    if kind == "classifier":
        wrong = random.normal(size=size)
    else:
        cut = stats.truncnorm(-2, 2)  # Keras and Flax's own initializers, with variance corrected
        wrong = cut.rvs(size, random_state=random) / cut.std()
    assert stats.ks_2samp(wrong, theirs).pvalue < _SMALLEST_P


def test_convolutions_are_not_truncated(fresh: dict[str, np.ndarray]) -> None:
    z = np.concatenate([_standardized(k, w) for k, w in fresh.items() if w.ndim == 4])
    # P(|z| > 2) = 4.55 %, P(|z| > 3) = 0.27 %; cut at 2 both would be 0.
    for bound, share in ((2, 0.0455), (3, 0.0027)):
        deviation = math.sqrt(share / z.size)
        assert np.mean(np.abs(z) > bound) == pytest.approx(share, abs=5 * deviation)


def test_classifier_stays_within_its_bound_and_its_bias_is_zero(
    fresh: dict[str, np.ndarray],
) -> None:
    weight = fresh["classifier.weight"]
    bound = 1 / math.sqrt(weight.shape[1])
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.999 * bound
    assert not fresh["classifier.bias"].any()


def test_normalizations_start_as_the_identity(fresh: dict[str, np.ndarray]) -> None:
    right = {"norm.weight": 1, "norm.bias": 0, "norm.running_mean": 0, "norm.running_var": 1}
    for name, value in right.items():
        assert np.all(fresh[f"features.transition1.{name}"] == value)
