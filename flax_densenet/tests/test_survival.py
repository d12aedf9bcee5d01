"""Tests of runs that end without warning: killed at any moment, or on a full disk."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jax import tree

from flax_densenet.tests import train_on_full_disk
from flax_densenet.tests.test_signals import (
    TRAIN_PY,
    read_records,
    read_variables,
    start_training,
    train_here,
)

EPOCHS = 10
FLAGS = f"--depth 7 --growth_rate 2 --epochs {EPOCHS} --batch_size 256".split()
LAST_STEP = EPOCHS * (1442 // 256)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("straight")
    train_here(*FLAGS, "--workdir", str(workdir))
    return workdir


def assert_finishes_as(straight: Path, workdir: Path) -> str:
    """Resumes the run to its end, compares it and returns what it printed."""
    output = train_here("--resume", "--workdir", str(workdir))
    runs = (workdir, straight)
    tree.map(np.testing.assert_array_equal, *(read_variables(run, LAST_STEP) for run in runs))
    assert read_records(workdir) == read_records(straight)
    return output


def checkpoints(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}


def unfinished(workdir: Path) -> list[str]:
    return [path.name for path in (workdir / "checkpoints").glob("*tmp*")]


def test_run_killed_again_and_again_goes_on_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    moments = random.Random(0)
    start, kills = (*FLAGS, "--workdir", str(workdir)), 0
    for _ in range(2):
        with start_training(*start) as process:
            before = checkpoints(workdir)
            while checkpoints(workdir) <= before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
            process.communicate()
        kills += process.returncode == -9
        start = ("--resume", "--workdir", str(workdir))
    assert kills == 2
    assert_finishes_as(straight, workdir)


@pytest.mark.slow
def test_run_killed_during_a_save_goes_on_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with start_training(*FLAGS, "--workdir", str(workdir)) as process:
        while not unfinished(workdir):
            assert process.poll() is None
        process.kill()
        process.communicate()
    left = unfinished(workdir)
    output = assert_finishes_as(straight, workdir)
    # The kill may come just after the last rename; then nothing is left.
    assert ("which an interrupted save left" in output) == bool(left)
    assert unfinished(workdir) == []


def test_run_on_a_full_disk_stops_and_goes_on_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    run = subprocess.run(
        [sys.executable, "-m", train_on_full_disk.__name__, str(workdir), *FLAGS],
        cwd=TRAIN_PY.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1, run.stderr
    assert "cannot be written (" in run.stderr
    assert "the finished checkpoints are kept; make room, then go on with: flax" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert_finishes_as(straight, workdir)
