"""Tests of flax_densenet/training/parallel.py on simulated devices."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flax_densenet
from flax_densenet import InputError
from flax_densenet.tests import train_on_devices
from flax_densenet.training.parallel import check_batch_size

Results = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What one device gives under `jit`, without the mode in the names."""
    results = on_devices(1, tmp_path_factory.mktemp("one") / "results.npz")
    return {name.removeprefix("jit "): v for name, v in results.items() if name.startswith("jit ")}


def on_devices(num_devices: int, file: Path) -> Results:
    subprocess.run(
        [sys.executable, "-m", train_on_devices.__name__, str(num_devices), str(file)],
        cwd=Path(flax_densenet.__file__).parents[1],
        check=True,
        timeout=120,
    )
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_every_number_of_devices_gives_the_result_of_one(
    num_devices: int, one_device: Results, tmp_path: Path
) -> None:
    results = on_devices(num_devices, tmp_path / "results.npz")
    assert len(results) == 2 * len(one_device)
    for mode in ("jit", "pmap"):
        for name, right in one_device.items():
            # Sums in another order, ten times: 1e-5 of the array's largest value.
            np.testing.assert_allclose(
                results[f"{mode} {name}"],
                right,
                rtol=0,
                atol=1e-5 * np.abs(right).max(),
                err_msg=f"{mode} {name}",
            )
        assert results[f"{mode} evaluation count"] == 3


@pytest.mark.parametrize(
    ("batch_size", "num_devices", "nearest"), [(12, 8, "8 or 16"), (3, 4, "4"), (65, 2, "64 or 66")]
)
def test_batch_that_devices_cannot_share_is_refused(
    batch_size: int, num_devices: int, nearest: str
) -> None:
    message = (
        rf"batch_size \(={batch_size}\) must be divisible by the {num_devices} dev.* {nearest}$"
    )
    with pytest.raises(InputError, match=message):
        check_batch_size(batch_size, num_devices)


def test_batch_that_devices_can_share_is_accepted() -> None:
    check_batch_size(64, 8)
