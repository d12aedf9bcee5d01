"""Tests of a training that a signal ends: what is saved, and that going on changes nothing."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import tree

import flax_densenet
from flax_densenet.cli.main import main
from flax_densenet.training.signals import StopSignals

TRAIN_PY = Path(flax_densenet.__file__).parents[1] / "train.py"
FLAGS = "--depth 7 --growth_rate 2 --epochs 3 --batch_size 32".split()
LAST_STEP = 3 * (1442 // 32)
TIMES = ("seconds_", "images_per_second")


def start_training(*flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", str(TRAIN_PY), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def train_here(*flags: str) -> str:
    """Trains in this process, which has imported all that training needs; returns its output."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["train", *flags]) == 0
    return output.getvalue()


def read_variables(workdir: Path, step: int) -> Any:
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "variables")


def read_records(workdir: Path) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith(TIMES)} for line in lines
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("straight")
    train_here(*FLAGS, "--workdir", str(workdir))
    return workdir


@pytest.mark.parametrize(
    # test_processes.py sends SIGTERM, too.
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_run_that_a_signal_ended_goes_on_bit_for_bit(
    number: signal.Signals, straight: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    with start_training(*FLAGS, "--workdir", str(workdir)) as process:
        while not (workdir / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)  # while the first step is compiled
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    assert f"{number.name}: stopping after this step and saving" in output
    (step,) = re.findall(rf"interrupted by {number.name} after step (\d+); everything is", output)
    assert 0 < int(step) < LAST_STEP
    assert step in {file.name for file in (workdir / "checkpoints").iterdir()}
    assert f"--resume --workdir {workdir}" in output
    assert "Traceback" not in output

    train_here("--resume", "--workdir", str(workdir))
    tree.map(
        np.testing.assert_array_equal, *(read_variables(w, LAST_STEP) for w in (workdir, straight))
    )
    assert read_records(workdir) == read_records(straight)


def test_second_signal_acts_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received is signal.SIGINT
        assert "once more stops at once" in capsys.readouterr().err
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name
)
@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_signal_stops_unless_it_was_ignored(number: signal.Signals, is_ignored: bool) -> None:
    """POSIX: a process that was started with a signal ignored, as by nohup, is to leave it so."""
    before = signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        with StopSignals() as stop:
            signal.raise_signal(number)
        assert stop.received == (None if is_ignored else number)
        assert (signal.getsignal(number) is signal.SIG_IGN) == is_ignored
    finally:
        signal.signal(number, before)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGTERM) not in before
    assert stop.received is None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_another_thread_may_train() -> None:
    errors = []

    def use() -> None:
        try:
            with StopSignals():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
