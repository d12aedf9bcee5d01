"""Tests of flax_densenet/training/parallel.py on simulated devices."""

import functools
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


@functools.cache
def on_devices(num_devices: int, directory: Path) -> Results:
    """Returns the results of ten steps in both modes, "jit ..." and "pmap ..."."""
    file = directory / f"{num_devices}.npz"
    subprocess.run(
        [sys.executable, "-m", train_on_devices.__name__, str(num_devices), str(file)],
        cwd=Path(flax_densenet.__file__).parents[1],
        check=True,
        timeout=120,
    )
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.mark.parametrize(
    "num_devices", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4)), 8]
)
def test_every_number_of_devices_gives_the_result_of_one(num_devices: int, directory: Path) -> None:
    alone = on_devices(1, directory)
    one_device = {
        name.removeprefix("jit "): value for name, value in alone.items() if name.startswith("jit ")
    }
    results = on_devices(num_devices, directory)
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
