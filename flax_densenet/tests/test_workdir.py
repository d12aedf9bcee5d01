"""Tests of flax_densenet/training/workdir.py."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.data import load_dataset
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig, WorkDir, open_workdir
from flax_densenet.training.recipes import default_run
from flax_densenet.training.workdir import held_workdir, usage_record


@pytest.fixture
def at_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("run", "run"),
        ("a/b c/run 1", "a/b c/run 1"),
        ("./run", "run"),
        ("~/runs/1", "home/runs/1"),
    ],
)
def test_path_becomes_absolute_and_is_created(at_tmp_path: Path, given: str, meant: str) -> None:
    workdir = open_workdir(given, resume=False)
    os.chdir("/")
    assert workdir.path == at_tmp_path / meant
    assert workdir.path.is_dir()
    assert list(workdir.path.iterdir()) == []  # the trial file is gone


def test_files_behind_a_link_are_in_its_target(at_tmp_path: Path) -> None:
    (at_tmp_path / "target").mkdir()
    (at_tmp_path / "link").symlink_to("target")
    workdir = open_workdir("link", resume=False)
    assert workdir.path.is_absolute()
    workdir.write_records([{"epoch": 1}])
    assert (at_tmp_path / "target" / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


def test_directory_in_use_is_refused_unless_resumed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match=f"{tmp_path} is not empty; .*--resume.*--workdir"):
        open_workdir(tmp_path, resume=False)
    assert open_workdir(tmp_path, resume=True).path == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_only_one_run_is_in_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with held_workdir(path, resume=False) as (workdir, lock):
        assert lock is not None and not lock.is_lost()
        for resume in (False, True):
            with pytest.raises(InputError, match=f"{path} is in use by this process, .* --workdir"):
                with held_workdir(path, resume=resume):
                    pass
        with held_workdir(path, resume=False, is_first_process=False) as (same, none):
            assert (same, none) == (workdir, None)  # the other processes of one run
        workdir.write_records([{"epoch": 1}])
    assert [file.name for file in path.iterdir()] == ["metrics.jsonl"]
    with held_workdir(path, resume=True) as (again, _):
        assert again.read_records() == [{"epoch": 1}]
    with pytest.raises(InputError, match="is not empty"), held_workdir(path, resume=False):
        pass


def test_directories_without_a_given_name_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "densenet"
    with (
        held_workdir(path, resume=False, numbered=True) as (first, _),
        held_workdir(path, resume=False, numbered=True) as (second, _),
        held_workdir(path, resume=False, numbered=True) as (third, _),
    ):
        names = [workdir.path.name for workdir in (first, second, third)]
        assert names == ["densenet", "densenet-2", "densenet-3"]


def test_new_directory_is_removed_if_nothing_was_written(tmp_path: Path) -> None:
    for _ in range(2):  # what was refused leaves nothing that refuses the corrected command
        with pytest.raises(InputError, match="wrong"), held_workdir(tmp_path / "x", resume=False):
            raise InputError("wrong")
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".lock").write_text("")  # of a process that was killed
    with held_workdir(tmp_path / "mine", resume=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("numbered", [False, True])
def test_held_directory_that_cannot_be_made_is_refused(tmp_path: Path, numbered: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    message = rf"work directory {tmp_path}/file/x cannot be written to \(.+\); give another one"
    with (
        pytest.raises(InputError, match=message),
        held_workdir(tmp_path / "file" / "x", resume=False, numbered=numbered),
    ):
        pass


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("below", ["", "/run"])
def test_file_in_the_way_is_refused(tmp_path: Path, below: str, resume: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    path = f"{tmp_path}/file{below}"
    with pytest.raises(InputError, match=rf"{path} cannot be written to \(.+\); give another one"):
        open_workdir(path, resume=resume)
    assert (tmp_path / "file").read_text() == "in the way"


def test_files_have_their_documented_names(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    names = (workdir.config_file, workdir.metrics_file, workdir.curves_file, workdir.checkpoints)
    assert [str(name.relative_to(tmp_path)) for name in names] == [
        "config.json",
        "metrics.jsonl",
        "curves.png",
        "checkpoints",
    ]


def test_records_are_one_line_each_and_replaced_as_a_whole(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    assert workdir.read_records() == []
    workdir.write_records([{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 0.05}])
    lines = ['{"epoch": 1, "loss": 0.1}\n', '{"epoch": 2, "loss": 0.05}\n']
    assert workdir.metrics_file.read_text() == "".join(lines)
    workdir.write_records([{"epoch": 3}])
    assert workdir.read_records() == [{"epoch": 3}]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("rest", ['{"epoch": 2, "lo', '{"epoch": 2}'])
def test_record_that_was_cut_off_is_left_out(tmp_path: Path, rest: str) -> None:
    workdir = WorkDir(tmp_path)
    workdir.metrics_file.write_text('{"epoch": 1}\n' + rest)
    assert workdir.read_records() == [{"epoch": 1}]


def test_data_set_that_has_changed_is_refused(tmp_path: Path) -> None:
    data = load_dataset("digits", None)
    run = default_run("digits", None, None)
    workdir = WorkDir(tmp_path)
    workdir.write_config(run)
    workdir.check_same_images(data)  # an old version recorded neither classes nor numbers
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, mean=(70,), std=(90,)))
    workdir.write_config(run, usage_record(run, data))
    workdir.check_same_images(data)
    fewer = dataclasses.replace(data, train=data.train.subset(np.arange(7)))
    count = len(data.train)
    with pytest.raises(InputError, match=rf"images was .*{count}.*, now .*'train': 7.*--init_from"):
        workdir.check_same_images(fewer)
    renamed = dataclasses.replace(data, class_names=tuple("abcdefghij"))
    with pytest.raises(InputError, match=r"class_names was \['0', .*, now \['a', "):
        workdir.check_same_images(renamed)


def test_configuration_is_read_back(tmp_path: Path) -> None:
    run = RunConfig(
        network=DenseNetConfig(blocks=(1, 2), growth_rate=3),
        data=DataConfig(dataset="tfds:x"),
        optimization=OptimizationConfig(seed=4),
    )
    WorkDir(tmp_path).write_config(run)
    assert WorkDir(tmp_path).read_config() == run
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_directory_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    message = rf"nothing to resume: cannot read {tmp_path}/config.json \(No such file"
    with pytest.raises(InputError, match=message):
        WorkDir(tmp_path).read_config()


def test_configuration_that_is_no_text_cannot_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"nothing to resume: cannot read .*invalid start byte"):
        WorkDir(tmp_path).read_config()
