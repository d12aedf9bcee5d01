"""Augmentation has the same distribution in both halves: every mirroring and shift, equally often.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from flax_densenet.training import Preprocess
from flax_densenet.training import augment as flax_preprocess
from flax_densenet.training.config import Augment
from torch_reference import preprocess as torch_preprocess
from torch_reference.preprocess import Preprocess as TorchPreprocess

_SIZE = 10
_NUM_OUTCOMES = 2 * 9 * 9  # mirrored or not, and -4 to 4 rows and columns
_NUM_IMAGES = 100 * _NUM_OUTCOMES
# (pixel - 50) / 64 has no rounding in float32, and no pixel of 100 to 199 becomes the border's 0.
_MEAN, _STD = 50.0, 64.0
_IMAGE = (100 + np.arange(_SIZE * _SIZE)).reshape(_SIZE, _SIZE, 1).astype(np.uint8)
# The seeds are fixed: a p below this would have been bad luck for 1 in 1,000 of them.
_SMALLEST_P = 1e-3


def _flax(image: np.ndarray, augment: Augment, seed: int) -> np.ndarray:
    process = Preprocess((_MEAN,), (_STD,), augment)
    x = process(jnp.asarray(image), jax.random.key(seed), train=True)
    return np.asarray(x)


def _torch(image: np.ndarray, augment: Augment, seed: int) -> np.ndarray:
    process = TorchPreprocess((_MEAN,), (_STD,), augment)
    x = process(torch.tensor(image), torch.Generator().manual_seed(seed), train=True)
    return x.numpy().transpose(0, 2, 3, 1)


_HALVES: dict[str, Callable[[np.ndarray, Augment, int], np.ndarray]] = {
    "flax": _flax,
    "torch": _torch,
}


@pytest.fixture(params=_HALVES)
def half(request: pytest.FixtureRequest) -> str:
    """Either half."""
    return request.param


@cache
def _possible() -> np.ndarray:
    """All outcomes for `_IMAGE`, [162, H, W, C]: mirrored, then rows, then columns."""
    x = (_IMAGE.astype(np.float32) - _MEAN) / _STD
    padded = [np.pad(x[:, ::step], ((4, 4), (4, 4), (0, 0))) for step in (1, -1)]
    return np.stack(
        [
            image[row : row + _SIZE, column : column + _SIZE]
            for image in padded
            for row in range(9)
            for column in range(9)
        ]
    )


def _outcomes(augmented: np.ndarray) -> np.ndarray:
    """Returns mirrored (0 or 1), rows and columns (0 to 8) of each image, [B, 3].

    Two neighboring pixels in the middle, which no shift moves out, tell where they came from.
    """
    middle = np.rint(augmented[:, 4, 4:6, 0] * _STD + _MEAN).astype(int) - 100  # [B, 2]
    row, column = np.divmod(middle[:, 0], _SIZE)
    mirrored = (middle[:, 1] < middle[:, 0]).astype(int)
    column = np.where(mirrored, _SIZE - 1 - column, column)
    return np.stack([mirrored, row, column], axis=1)


def _number(outcomes: np.ndarray) -> np.ndarray:
    return outcomes @ np.array([81, 9, 1])


def _augmented(half: str, augment: Augment = "shift", seed: int = 0) -> np.ndarray:
    return _HALVES[half](np.broadcast_to(_IMAGE, (_NUM_IMAGES, *_IMAGE.shape)), augment, seed)


@pytest.fixture
def outcomes(half: str) -> np.ndarray:
    """Mirroring and shift of every image of one batch, [B, 3]."""
    return _outcomes(_augmented(half))


def _assert_uniform(outcomes: np.ndarray) -> None:
    counts = np.bincount(_number(outcomes), minlength=_NUM_OUTCOMES)
    p = stats.chisquare(counts).pvalue
    assert p > _SMALLEST_P, f"outcomes are not equally frequent: p = {p:.2g}"


def _assert_independent(outcomes: np.ndarray) -> None:
    """Asserts that mirroring, rows and columns tell nothing of each other or the next image's."""
    values = np.concatenate([outcomes[:-1], outcomes[1:]], axis=1)
    correlation = np.corrcoef(values.T) - np.eye(6)
    largest = np.max(np.abs(correlation))
    assert largest < 5 / np.sqrt(len(values)), f"draws are correlated: {largest:.3f}"


def test_images_are_mirrored_shifted_and_padded_with_0_after_normalization(half: str) -> None:
    augmented = _augmented(half)
    np.testing.assert_array_equal(augmented, _possible()[_number(_outcomes(augmented))])


def test_all_162_outcomes_are_possible_and_equally_frequent(outcomes: np.ndarray) -> None:
    assert set(_number(outcomes).tolist()) == set(range(_NUM_OUTCOMES))
    _assert_uniform(outcomes)


def test_both_halves_have_the_same_possible_outputs() -> None:
    ours, theirs = ({image.tobytes() for image in _augmented(half)} for half in ("flax", "torch"))
    assert ours == theirs
    assert len(ours) == _NUM_OUTCOMES


def test_choices_and_images_of_a_batch_are_independent(outcomes: np.ndarray) -> None:
    _assert_independent(outcomes)


def test_batches_are_independent(half: str) -> None:
    first, second = (_number(_outcomes(_augmented(half, seed=seed))) for seed in (0, 1))
    same = 1 / _NUM_OUTCOMES
    deviation = np.sqrt(same * (1 - same) / _NUM_IMAGES)
    assert np.mean(first == second) == pytest.approx(same, abs=5 * deviation)


def test_crop_mirrors_alone(half: str) -> None:
    augmented = _augmented(half, "crop")
    outcomes = _outcomes(augmented)
    np.testing.assert_array_equal(augmented, _possible()[_number(outcomes)])
    assert np.all(outcomes[:, 1:] == 4)
    assert np.mean(outcomes[:, 0]) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(_NUM_IMAGES))


@pytest.mark.parametrize("train", [False, True])
def test_both_halves_normalize_alike(train: bool) -> None:
    image = np.random.default_rng(0).integers(256, size=(3, 5, 4, 3)).astype(np.uint8)
    mean, std = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
    augment: Augment = "none" if train else "shift"
    ours = Preprocess(mean, std, augment)(jnp.asarray(image), jax.random.key(0), train=train)
    theirs = TorchPreprocess(mean, std, augment)(
        torch.from_numpy(image), torch.Generator(), train=train
    )
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), rtol=0, atol=2.5e-7)
    right = (image - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(ours, right, rtol=0, atol=5e-7)


def test_a_shift_that_one_end_lacks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    randint = jax.random.randint
    monkeypatch.setattr(
        jax.random, "randint", lambda key, shape, low, high: randint(key, shape, low, high - 1)
    )
    with pytest.raises(AssertionError, match="not equally frequent"):
        _assert_uniform(_outcomes(_augmented("flax")))


def test_a_key_shared_by_the_images_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        flax_preprocess, "_each", lambda change, x, key: jax.vmap(lambda one: change(one, key))(x)
    )
    with pytest.raises(AssertionError, match="not equally frequent"):
        _assert_uniform(_outcomes(_augmented("flax")))


def test_draws_shared_by_neighbors_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    shift = torch_preprocess._shift

    def in_pairs(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return shift(x[::2], generator).repeat_interleave(2, dim=0)

    monkeypatch.setattr(torch_preprocess, "_shift", in_pairs)
    with pytest.raises(AssertionError, match="draws are correlated"):
        _assert_independent(_outcomes(_augmented("torch")))
