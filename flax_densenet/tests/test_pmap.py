"""Tests of what `pmap` does on each device: its noise, and its statistics when they are its own."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import flax_densenet
from flax_densenet.tests import pmap_on_devices
from flax_densenet.training.checkpoints import CheckpointStore

Results = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pmap")
    subprocess.run(
        [sys.executable, "-m", pmap_on_devices.__name__, str(directory / "results.npz")],
        cwd=Path(flax_densenet.__file__).parents[1],
        check=True,
        timeout=120,
    )
    return directory


@pytest.fixture(scope="module")
def results(directory: Path) -> Results:
    with np.load(directory / "results.npz") as arrays:
        return dict(arrays)


def test_equal_images_have_equal_losses_on_all_devices_without_noise(results: Results) -> None:
    losses = [results[f"no noise {number}"] for number in (2, 8)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


@pytest.mark.parametrize("noise", ["dropout", "augmentation"])
def test_each_device_and_step_has_its_own_noise(noise: str, results: Results) -> None:
    # With one noise for all devices the mean of equal losses would not depend on their number.
    two, eight = (float(results[f"{noise} {number}"]) for number in (2, 8))
    again, later = float(results[f"{noise} again"]), float(results[f"{noise} later"])
    assert len({round(loss, 4) for loss in (two, eight, later)}) == 3
    assert again == eight


def test_statistics_of_the_devices_are_averaged(results: Results) -> None:
    names = [name.removeprefix("alone/") for name in results if name.startswith("alone/")]
    assert len(names) == 2 * 2  # two values for each of norm1 and norm5
    for name in names:
        alone, merged = results[f"alone/{name}"], results[f"merged/{name}"]
        assert alone.shape == (8, *merged.shape)
        np.testing.assert_allclose(merged, alone.mean(axis=0), rtol=1e-5, atol=1e-6)
    # The devices' images differ so much that the variance of all would be another value.
    variances = results["merged/denseblock1/denselayer1/norm1/var"]
    spread = results["alone/denseblock1/denselayer1/norm1/mean"].std(axis=0)
    assert np.max(spread**2 / variances) > 1e-3


def test_checkpoint_of_eight_devices_opens_on_one(directory: Path) -> None:
    assert jax.device_count() == 1
    saved = pmap_on_devices.state_of(0.0, "none")
    with CheckpointStore(directory / "checkpoints") as checkpoints:
        restored, _ = checkpoints.restore(0, like=jax.tree.map(lambda x: x + 1, saved))
    for leaf, right in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(leaf, right)
