"""Tests of runs on images in files: flax_densenet/training/run_data.py and the names in load.py."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax import tree
from PIL import Image

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.data import ArraySplit, describe_dataset, load_dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.streamed import StreamedSplit
from flax_densenet.data.load import FileReading
from flax_densenet.data.preparation import Preparation
from flax_densenet.tests.test_signals import TRAIN_PY, read_records, read_variables
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig, loop
from flax_densenet.training.run_data import load_run_data
from flax_densenet.training.workdir import WorkDir, usage_record
from flax_densenet.weights.statement import PREPARATION_KEY

Status = Callable[..., int]
Printed = Callable[[], str]
COLORS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 9 test images, of which one training image is broken."""
    directory = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name, color in COLORS.items():
            (directory / split / name).mkdir(parents=True)
            for i in range(count):
                shape = (*random.integers(12, 40, 2), 3)
                pixels = np.clip(random.normal(color, 20, shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(directory / split / name / f"{i}.png")
    (directory / "train" / "green" / "3.png").write_bytes(b"broken")
    return directory


def run_of(data: DataConfig, in_channels: int = 3) -> RunConfig:
    network = DenseNetConfig(depth=7, growth_rate=2, in_channels=in_channels, num_classes=3)
    return RunConfig(network=network, data=data, optimization=OptimizationConfig())


@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_what_the_network_takes(folder: Path, channels: int) -> None:
    data = DataConfig(dataset=f"folder:{folder}", image_size=8, broken_images="skip")
    dataset = load_run_data(run_of(data, channels), num_workers=0)
    assert dataset.image_shape == (8, 8, channels)
    assert dataset.class_names == ("blue", "green", "red")
    assert (len(dataset.train), len(dataset.test)) == (24, 9)


def test_held_out_images_of_a_folder_keep_their_labels(folder: Path) -> None:
    data = DataConfig(
        dataset=f"folder:{folder}", image_size=8, validation_images=5, broken_images="skip"
    )
    dataset = load_run_data(run_of(data), num_workers=0)
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation)) == (19, 5)
    (examples,) = dataset.validation.read([np.arange(5)])
    dominant = examples.image.reshape(5, -1, 3).mean(1).argmax(1)
    np.testing.assert_array_equal(examples.label, 2 - dominant)  # blue, green, red


def train(workdir: Path, *flags: str) -> str:
    run = subprocess.run(
        [sys.executable, str(TRAIN_PY), *flags, "--workdir", str(workdir)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def flags_of(folder: Path) -> list[str]:
    flags = f"--dataset folder:{folder} --depth 7 --growth_rate 2 --batch_size 8".split()
    return [*flags, *"--augment crop --image_size 8 --broken_images skip".split()]


def test_run_tells_which_images_it_skipped(folder: Path, tmp_path: Path) -> None:
    output = train(tmp_path, *flags_of(folder), "--epochs", "1", "--num_workers", "2")
    broken = folder / "train" / "green" / "3.png"
    assert f"skipped 1 broken image(s) so far, such as {broken}" in output


@pytest.mark.slow  # test_streamed.py compares the images themselves by day
def test_workers_change_nothing(folder: Path, tmp_path: Path) -> None:
    flags = [*flags_of(folder), "--epochs", "2"]
    straight, workers = tmp_path / "straight", tmp_path / "workers"
    train(straight, *flags)
    train(workers, *flags, "--num_workers", "2")
    runs = (straight, workers)
    tree.map(np.testing.assert_array_equal, *(read_variables(run, 6) for run in runs))
    assert read_records(straight) == read_records(workers)


def test_broken_image_of_any_split_is_told(folder: Path) -> None:
    data = DataConfig(
        dataset=f"folder:{folder}", image_size=8, validation_images=23, broken_images="skip"
    )
    dataset = load_run_data(run_of(data), num_workers=0)
    assert dataset.validation is not None and len(dataset.validation) == 23
    assert dataset.unreadable == []
    list(dataset.validation.read([np.arange(23)]))
    list(dataset.train.read([np.arange(1)]))
    assert dataset.unreadable == [str(folder / "train" / "green" / "3.png")]


def test_broken_image_stops_with_a_way_out(
    folder: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    flags = f"--dataset folder:{folder} --depth 7 --batch_size 8 --workdir {tmp_path}".split()
    assert status("train", *flags) == 2
    text = printed()
    assert f"error: {folder / 'train' / 'green' / '3.png'} (image 11 of 24, from 0)" in text
    assert "go on without such images with --broken_images skip" in text


def test_folder_is_described_without_reading_images(folder: Path) -> None:
    assert describe_dataset(f"folder:{folder}", None) == (3, 3)
    assert describe_dataset("imagenet2012", None) == (1000, 3)
    assert describe_dataset("imagenette", None) == (10, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(augment="crop"), r"augment \(='crop'\) cuts images in files to image_size"),
        (
            DataConfig(pixel_range=(0, 1)),
            r"pixel_range \(=\(0, 1\)\) is for images in files, and digits is read without",
        ),
        (DataConfig(image_size=8), "dataset digits has images of one size, .* leave out --image"),
        (DataConfig(dataset="imagenette"), "dataset imagenette needs --image_size, to which its"),
        (DataConfig(dataset="folder:/x"), "dataset folder:/x needs --image_size"),
        (
            DataConfig(dataset="imagenet2012", data_dir="/nowhere", image_size=224),
            "dataset imagenet2012: found neither .*; unpack the archives .*--dataset digits",
        ),
        (DataConfig(dataset="folder:"), r"dataset \(='folder:'\) must be .* folder:<dir>"),
    ],
)
def test_data_that_cannot_be_used_so_is_refused(data: DataConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_run_data(run_of(data), num_workers=0)


def test_pixel_range_goes_with_the_run(folder: Path) -> None:
    run = run_of(DataConfig(dataset=f"folder:{folder}", image_size=8, pixel_range=(0, 4095)))
    run = RunConfig.from_json(run.to_json())
    dataset = load_run_data(run, num_workers=0)
    assert isinstance(dataset.train, StreamedSplit)
    assert dataset.train.image_format.pixel_range == (0, 4095)
    record = json.loads(json.dumps(usage_record(run, dataset)))
    preparation = Preparation.from_record(record[PREPARATION_KEY])
    assert preparation.image_format(3).pixel_range == (0, 4095)
    with pytest.raises(InputError, match=r"pixel_range \(=\(5, 5\)\) must be LOW,HIGH: two"):
        DataConfig(pixel_range=(5, 5))


def test_paths_are_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    data = DataConfig(dataset="folder:images", data_dir="files")
    assert (data.dataset, data.data_dir) == (f"folder:{tmp_path}/images", f"{tmp_path}/files")
    data = DataConfig(dataset="folder:~/images", data_dir="gs://bucket/files")
    assert (data.dataset, data.data_dir) == ("folder:/home/me/images", "gs://bucket/files")
    assert DataConfig(dataset="tfds:mnist").dataset == "tfds:mnist"


def test_run_goes_on_with_images_that_were_moved(
    folder: Path,
    tmp_path: Path,
    status: Status,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = DataConfig(
        dataset=f"folder:{folder}", image_size=8, mean=(9, 9, 9), std=(9, 9, 9), augment="none"
    )
    workdir, batches = WorkDir(tmp_path), OptimizationConfig(batch_size=8)
    run = dataclasses.replace(run_of(data), optimization=batches)
    workdir.write_config(run, usage_record(run, load_run_data(run, num_workers=0)))
    asked = []

    def fit(run: RunConfig, *args: Any, **how: Any) -> list[dict[str, Any]]:
        asked.append(run.data.dataset)
        return [{"epoch": 1, "test_error": 0.5}]

    monkeypatch.setattr(loop, "fit", fit)
    shutil.copytree(folder, tmp_path / "new")
    flags = ("train", "--resume", "--workdir", str(tmp_path), "--dataset", "folder:new")
    monkeypatch.chdir(tmp_path)
    assert status(*flags) == 0
    assert asked == [f"folder:{tmp_path}/new"]
    (tmp_path / "new" / "train" / "red" / "0.png").unlink()
    assert status(*flags) == 2
    assert "has changed: images was {'train': 24, 'test': 9}, now {'train': 23" in printed()
    workdir.write_config(run)  # an old version recorded nothing to compare with
    assert status(*flags) == 2
    assert f"dataset was 'folder:{folder}', now 'folder:{tmp_path}/new'" in printed()


def test_data_in_memory_stays_there(folder: Path) -> None:
    assert isinstance(load_dataset("digits", None).train, ArraySplit)
    reading = FileReading(ImageFormat(8), on_broken="skip")
    split = load_dataset(f"folder:{folder}", None, reading).train
    assert not isinstance(split, ArraySplit)
    assert not re.search("png", str(split.unreadable))  # nothing is read yet
