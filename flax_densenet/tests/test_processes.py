"""Tests of runs of two real processes, which talk over the loopback interface."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

import flax_densenet
from flax_densenet import InputError
from flax_densenet.cli.devices import ProcessFlags
from flax_densenet.cli.main import main

TRAIN_PY = Path(flax_densenet.__file__).parents[1] / "train.py"
# Few steps and a small learning rate, so that rounding does not grow.
FLAGS = "--depth 7 --growth_rate 2 --epochs 1 --batch_size 256 --learning_rate 0.01".split()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_both(workdir: Path, *flags: str) -> list[subprocess.Popen[str]]:
    coordinator = f"127.0.0.1:{free_port()}"
    joined = ("--workdir", str(workdir), "--coordinator", coordinator, "--num_processes", "2")
    return [
        subprocess.Popen(
            [sys.executable, "-u", str(TRAIN_PY), *flags, *joined, "--process_id", str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for number in (0, 1)
    ]


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [process.communicate(timeout=120)[0] for process in processes]


def read_records(workdir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def wait_for(file: Path, processes: list[subprocess.Popen[str]]) -> None:
    while not file.exists():
        assert all(process.poll() is None for process in processes), outputs(processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    workdir = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *FLAGS, "--workdir", str(workdir)]) == 0
    (record,) = read_records(workdir)
    return record


@pytest.mark.parametrize("parallel", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_two_processes_have_the_losses_of_one(
    parallel: str, alone: dict[str, float], tmp_path: Path
) -> None:
    processes = start_both(tmp_path / "run", *FLAGS, "--parallel", parallel)
    first, second = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], first + second
    assert "2 device(s) in 2 processes" in first
    assert re.search(r"^test error .* after epoch 1", first, re.MULTILINE)
    assert "epoch 1/1" not in second  # one of them speaks and writes
    (record,) = read_records(tmp_path / "run")
    for name in ("train_loss", "train_error", "test_loss", "test_error"):
        assert record[name] == pytest.approx(alone[name], rel=1e-5), name


def test_signal_to_one_process_saves_and_stops_both(tmp_path: Path) -> None:
    flags = [*FLAGS, "--epochs", "500"]
    processes = start_both(tmp_path / "run", *flags)
    wait_for(tmp_path / "run" / "config.json", processes)
    processes[1].send_signal(signal.SIGTERM)
    first, second = outputs(processes)
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2
    assert "interrupted by a signal to another process after step" in first
    assert "interrupted by SIGTERM after step" in second
    (step,) = re.findall(r"after step (\d+)", first)
    assert (tmp_path / "run" / "checkpoints" / step / "variables").exists()


@pytest.mark.slow  # the other one waits for a heartbeat
@pytest.mark.parametrize("killed", [0, 1])
def test_killed_process_ends_the_other_with_a_message(killed: int, tmp_path: Path) -> None:
    processes = start_both(tmp_path / "run", *FLAGS, "--epochs", "5000")
    wait_for(tmp_path / "run" / "metrics.jsonl", processes)
    while not read_records(tmp_path / "run"):
        time.sleep(0.05)
    processes[killed].kill()
    other = processes[1 - killed]
    output, _ = other.communicate(timeout=90)
    processes[killed].communicate()
    assert other.returncode not in (0, None)
    # By a failed step, by JAX itself when no heartbeat comes, or by a save that takes both.
    messages = (
        "cannot go on with the other 1, of which one has probably ended",
        "another task died",
        "see whether another process has ended",
    )
    assert any(message in output for message in messages), output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coordinator": "a:1"}, "--coordinator, --num_processes and --process_id belong together"),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            r"process_id \(=2\) must be below num_processes \(=2\)",
        ),
        (
            {"coordinator": "here", "num_processes": 2, "process_id": 0},
            r"coordinator \(='here'\) must be HOST:PORT",
        ),
        ({"num_processes": 0}, r"num_processes \(=0\) must be an integer of at least 1"),
        ({"process_id": -1}, r"process_id \(=-1\) must be an integer of at least 0"),
    ],
)
def test_incomplete_description_of_the_processes_is_refused(
    options: dict[str, str | int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ProcessFlags(**options)  # type: ignore[arg-type]


def test_nobody_to_join_is_one_message(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(TRAIN_PY), "--distributed", "--workdir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert "error: cannot join the other processes through the environment of SLURM" in run.stderr
    assert "Traceback" not in run.stderr


def test_several_processes_need_a_common_directory(
    status: Callable[..., int],
    printed: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert status("train", *FLAGS) == 2
    assert "error: several processes need the same --workdir" in printed()
    assert not list(tmp_path.iterdir())
