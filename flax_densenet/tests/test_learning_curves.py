"""Tests of flax_densenet/cli/learning_curves.py and what it keeps, without PyTorch."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from flax_densenet.cli import learning_curves as command
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.training import RunConfig

Printed = Callable[[], str]
Status = Callable[..., int]
# What the pretended trainings are asked for: framework and seed.
Asked = list[tuple[str, int]]
_FLAGS = ("--depth", "7", "--growth_rate", "2", "--epochs", "2")


def _records(seed: int) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "train_loss": 1 / (epoch + seed), "test_error": 0.1 / (epoch + seed)}
        for epoch in (1, 2)
    ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Replaces the trainings, and holds which were asked for."""
    calls: Asked = []

    def pretend(framework: str) -> Callable[[RunConfig, Any], list[dict[str, Any]]]:
        def train(run: RunConfig, dataset: Any) -> list[dict[str, Any]]:
            calls.append((framework, run.optimization.seed))
            return _records(run.optimization.seed + (framework == "torch"))

        return train

    monkeypatch.setattr(command, "_fit_flax", pretend("flax"))
    monkeypatch.setattr(command, "_torch_training", lambda run: pretend("torch"))
    monkeypatch.setitem(command._PACKAGES, "torch", ())  # which need not be installed here
    return calls


def test_every_seed_is_trained_in_both_frameworks(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "study"
    assert status("learning-curves", *_FLAGS, "--seeds", "2", "--output", str(output)) == 0
    assert asked == [("flax", 0), ("torch", 0), ("flax", 1), ("torch", 1)]
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert [(r["framework"], r["seed"], r["epoch"]) for r in lines] == [
        (framework, seed, epoch) for framework, seed in asked for epoch in (1, 2)
    ]
    assert lines[0]["version"].startswith("jax ")
    config = RunConfig.from_json((output / "config.json").read_text())
    assert (config.network.growth_rate, config.optimization.epochs) == (2, 2)
    # The errors in the last epoch are 0.1 / 2 and 0.1 / 3, and 0.1 / 3 and 0.1 / 4.
    row = "| final test error (percentage points) | 4.17 ± 1.2 | 2.92 ± 0.59 | +1.2 "
    text = (output / "comparison.md").read_text()
    assert row in text
    assert "- final test error: too few runs to show any difference" in text
    assert "DenseNet (L=7, k=2) on digits" in text
    assert "seeds 0 to 1 in each framework (n = 2), 355 test images" in text
    assert row in printed()
    picture = matplotlib.image.imread(output / "learning-curves.png")
    assert np.ptp(picture[..., :3]) == 1


def test_an_interrupted_study_goes_on_where_it_stopped(
    asked: Asked,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(run: RunConfig, dataset: Any) -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    flags = ("learning-curves", *_FLAGS, "--seeds", "2", "--output", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(command, "_torch_training", lambda run: interrupt)
        assert status(*flags) == 130
    text = printed()
    assert f"interrupted; the finished runs are in {tmp_path}; the same command goes on" in text
    assert asked == [("flax", 0)]
    assert status(*flags) == 0
    assert asked == [("flax", 0), ("torch", 0), ("flax", 1), ("torch", 1)]
    assert "Flax, seed 0: done before" in printed()


def test_more_seeds_are_added_to_a_study(asked: Asked, status: Status, tmp_path: Path) -> None:
    flags = ("learning-curves", *_FLAGS, "--output", str(tmp_path), "--seeds")
    assert status(*flags, "2") == 0
    asked.clear()
    assert status(*flags, "2", "--seed", "1") == 0
    assert asked == [("flax", 2), ("torch", 2)]
    assert "seeds 1 to 2 in each framework (n = 2)" in (tmp_path / "comparison.md").read_text()


def test_another_configuration_is_refused(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    flags = ("learning-curves", *_FLAGS, "--seeds", "2", "--output", str(tmp_path))
    assert status(*flags) == 0
    printed()
    asked.clear()
    assert status(*flags, "--growth_rate", "4", "--learning_rate", "0.2") == 2
    text = printed()
    assert f"error: the study in {tmp_path} has other settings: growth_rate was 2" in text
    assert "now 4; learning_rate was 0.1, now 0.2; give the same flags to go on with it" in text
    assert asked == []


def test_a_directory_with_something_else_is_refused(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    assert status("learning-curves", "--output", str(tmp_path)) == 2
    assert f"error: {tmp_path} is no study, and not an empty" in printed()
    assert status("learning-curves", "--output", str(tmp_path / "thesis.txt")) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_directory_that_cannot_be_made_is_an_error(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert status("learning-curves", "--output", str(tmp_path / "file" / "study")) == 1
    assert "study cannot be written (Not a directory)" in printed()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seeds", "1"), "seeds (=1) must be an integer of at least 2"),
        (("--batch_size", "1443"), "batch_size (=1443) is larger than the 1442 training images"),
        (("--num_classes", "3"), "num_classes (=3) must be 10"),
        (("--resume",), "--resume"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_written(
    asked: Asked,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    flags: tuple[str, ...],
    message: str,
) -> None:
    assert status("learning-curves", *flags, "--output", str(tmp_path / "study")) == 2
    assert message in printed()
    assert not (tmp_path / "study").exists()


def test_absent_torch_is_told(
    status: Status, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # what an absent module looks like
    assert status("learning-curves", "--output", str(tmp_path / "study")) == 2
    assert "torch is not installed; install flax-densenet[torch]" in printed()
    assert not (tmp_path / "study").exists()


def test_a_full_disk_keeps_the_runs_before(
    full_disk: Callable[[], contextlib.AbstractContextManager[None]],
    asked: Asked,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = ("learning-curves", *_FLAGS, "--seeds", "2", "--output", str(tmp_path))
    with full_disk():
        monkeypatch.setattr(command, "_torch_training", lambda run: lambda *_: _records(0) * 20)
        assert status(*flags) == 1
    assert f"error: {tmp_path}/results.jsonl cannot be written" in printed()
    study = StudyDirectory(tmp_path)
    assert study.find({"framework": "flax", "seed": 0})
    assert not study.find({"framework": "torch", "seed": 0})
