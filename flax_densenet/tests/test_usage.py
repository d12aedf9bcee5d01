"""What a run's config.json tells of using its network."""

import dataclasses
import json
from pathlib import Path

import pytest

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.data import load_dataset
from flax_densenet.data.preparation import Preparation
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig, WorkDir
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.training.workdir import usage_record
from flax_densenet.weights.statement import read_run

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
    workdir.write_config(RUN, usage_record(RUN, load_dataset("digits", None)))
    stated = read_run(tmp_path)
    assert stated.preparation == Preparation(size=8, shorter_side=8, mean=(70,), std=(90,))
    assert stated.class_names == tuple("0123456789")
    assert workdir.read_config() == RUN  # as before there was a record


def test_images_in_files_are_prepared_as_in_the_runs_evaluation(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.write_config(FILES, usage_record(FILES, load_dataset("digits", None)))
    found = read_run(tmp_path).preparation
    assert found is not None
    assert (found.size, found.shorter_side) == (112, 128)  # 112 * 256 / 224


def test_runs_from_before_tell_what_their_configuration_does(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.write_config(RUN)
    stated = read_run(tmp_path)
    assert stated.preparation == Preparation(mean=(70,), std=(90,))
    assert stated.class_names is None
    workdir.write_config(FILES)
    found = Preparation(size=112, shorter_side=128, mean=(1,), std=(2,))
    assert read_run(tmp_path).preparation == found


@pytest.mark.parametrize("record", [{"side": 3}, 3, {"mean": [1]}])
def test_damaged_record_is_refused(record: object, tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    beside = {"preprocessing": record, "class_names": None}
    workdir.config_file.write_text(RUN.to_json(beside))
    assert json.loads(workdir.config_file.read_text())["preprocessing"] == record
    with pytest.raises(InputError, match=r"config.json has a damaged record of preprocessing"):
        read_run(tmp_path)


def test_the_rest_of_what_using_needs_is_told(tmp_path: Path) -> None:
    WorkDir(tmp_path).write_config(RUN)
    stated = read_run(tmp_path)
    assert stated.config == RUN.network
    assert (stated.sgd, stated.has_parts) == ({"lr": 0.1, "weight_decay": 1e-4}, False)
    for how in (
        FineTuningConfig(init_from="x", freeze="conv0"),
        FineTuningConfig(learning_rate_factors="features=0.1"),
    ):
        run = dataclasses.replace(RUN, fine_tuning=how)
        WorkDir(tmp_path).write_config(run)
        assert read_run(tmp_path).has_parts


def test_runs_from_before_there_was_fine_tuning_are_read(tmp_path: Path) -> None:
    groups = json.loads(RUN.to_json())
    del groups["fine_tuning"]
    (tmp_path / "config.json").write_text(json.dumps(groups))
    assert read_run(tmp_path).config == RUN.network
    assert not read_run(tmp_path).has_parts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSONDecodeError: "),
        ("{}", "KeyError: 'network'"),
        ("[]", "TypeError: "),
        ('{"network": {"layers": 3}}', "TypeError: .*'layers'"),
    ],
)
def test_file_that_is_not_that_of_a_run_is_refused_as_by_resuming(
    text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(text)
    message = rf"^config.json is not that of a training run \({reason}.*\); start a new run"
    for read in (lambda: read_run(tmp_path), WorkDir(tmp_path).read_config):
        with pytest.raises(InputError, match=message):
            read()
