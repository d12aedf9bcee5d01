"""What a run's config.json tells of using its network."""

import dataclasses
import json
from pathlib import Path

import pytest

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.data import load_dataset
from flax_densenet.data.preparation import Preparation
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig, WorkDir
from flax_densenet.training.workdir import run_usage

RUN = RunConfig(
    network=DenseNetConfig(depth=7, in_channels=1),
    data=DataConfig(mean=(70.0,), std=(90.0,)),
    optimization=OptimizationConfig(),
)
FILES = dataclasses.replace(
    RUN, data=DataConfig(dataset="folder:x", image_size=112, augment="crop", mean=(1,), std=(2,))
)


def test_size_of_images_in_memory_and_names_are_recorded(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.write_config(RUN, run_usage(RUN, load_dataset("digits", None)))
    preparation, names = workdir.read_usage()
    assert preparation == Preparation(size=8, shorter_side=8, mean=(70,), std=(90,))
    assert names == tuple("0123456789")
    assert workdir.read_config() == RUN  # as before there was a record


def test_images_in_files_are_prepared_as_in_the_runs_evaluation(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.write_config(FILES, run_usage(FILES, load_dataset("digits", None)))
    found = workdir.read_usage().preparation
    assert (found.size, found.shorter_side) == (112, 128)  # 112 * 256 / 224


def test_runs_from_before_tell_what_their_configuration_does(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.write_config(RUN)
    assert workdir.read_usage() == (Preparation(mean=(70,), std=(90,)), None)
    workdir.write_config(FILES)
    found = Preparation(size=112, shorter_side=128, mean=(1,), std=(2,))
    assert workdir.read_usage() == (found, None)


@pytest.mark.parametrize("record", [{"side": 3}, 3, {"mean": [1]}])
def test_damaged_record_is_refused(record: object, tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    beside = {"preprocessing": record, "class_names": None}
    workdir.config_file.write_text(RUN.to_json(beside))
    assert json.loads(workdir.config_file.read_text())["preprocessing"] == record
    with pytest.raises(InputError, match=r"config.json has a damaged record of preprocessing"):
        workdir.read_usage()
