"""Tests of flax_densenet/cli/train.py: one whole run of train.py, and resuming it."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import pytest

import flax_densenet
from flax_densenet.cli import train as train_command
from flax_densenet.implementations import native
from flax_densenet.training import RunConfig, WorkDir, loop
from flax_densenet.training.recipes import default_run
from flax_densenet.training.state import run_schedule

Printed = Callable[[], str]
Status = Callable[..., int]
TRAIN_PY = Path(flax_densenet.__file__).parents[1] / "train.py"
FLAGS = "--depth 7 --growth_rate 2 --epochs 1".split()


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(directory)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


class Cached(NamedTuple):
    """An empty cache of its own, which the first run fills: for programs and for the kernels."""

    environment: dict[str, str]
    folder: Path

    def programs(self) -> set[str]:
        """Returns the names of the compiled programs."""
        return {file.name for file in (self.folder / "xla").glob("*-cache")}


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "flax-densenet"
    folder.mkdir()
    if native.is_available():  # and made now, if it was not; no run need make it once more
        made = Path(platformdirs.user_cache_dir("flax-densenet")) / "native"
        (folder / "native").symlink_to(made)
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    del environment["JAX_COMPILATION_CACHE_DIR"]  # of the other tests
    return Cached(environment, folder)


@pytest.fixture(scope="module")
def finished(
    cached: Cached, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """One epoch of `python train.py`, in a directory of its own."""
    return subprocess.run(
        [sys.executable, str(TRAIN_PY), *FLAGS],
        cwd=tmp_path_factory.mktemp("a b"),
        env=cached.environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def directory(finished: subprocess.CompletedProcess[str]) -> Path:
    (line,) = re.findall(r"^directory +(.+)$", finished.stdout, re.MULTILINE)
    return Path(line)


def test_run_says_what_it_does_and_what_came_out(
    finished: subprocess.CompletedProcess[str], directory: Path
) -> None:
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    record = json.loads((directory / "metrics.jsonl").read_text())
    wrong = round(355 * record["test_error"])
    for pattern in (
        r"backend    \w+, \d+ device\(s\): .+",
        r"computes   (native|blocked, which is slower than native: .+|gpu|plain.*)",
        r"versions   python 3\.\d+.*, jax \d.*, flax \d.*, optax \d.*, orbax-checkpoint \d.*",
        r"data set   digits: 1,442 training and 355 test images of 8x8x1, 10 classes",
        r"network    DenseNet \(L=7, k=2\): 2,298 parameters",
        r"training   1 epochs of 22 steps, 64 images each",
        r"compiling the training step; .*",
        r"epoch 1/1  train loss \d+\.\d{4} error +\d+\.\d\d%  test loss .*images/s",
        rf"test error {wrong / 355:.2%} \({wrong} of 355 images\) after epoch 1, \d+ s in all",
        rf"everything is in {re.escape(str(directory))}: config.json, .*checkpoints/",
    ):
        assert re.search(f"^{pattern}$", finished.stdout, re.MULTILINE), pattern


def test_default_directory_is_absolute_and_named_after_the_run(directory: Path) -> None:
    assert directory.is_absolute()
    assert directory.parent.name == "runs"
    assert re.fullmatch(r"densenet-7-2-digits-seed0-\d{4}-\d\d-\d\d-\d{6}", directory.name)
    names = {file.name for file in directory.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "curves.png", "checkpoints"}


def test_first_lines_come_before_the_last(finished: subprocess.CompletedProcess[str]) -> None:
    firsts = [line.split()[0] for line in finished.stdout.splitlines()]
    assert firsts == (
        "backend computes versions data best pixels network training directory".split()
        + "compiling epoch test everything".split()
    )


@pytest.mark.parametrize("more", [(), ("--data_dir", "/elsewhere"), ("--growth_rate", "2")])
def test_finished_run_has_nothing_to_resume(
    status: Status, directory: Path, printed: Printed, more: tuple[str, ...]
) -> None:
    before = contents(directory)
    assert status("train", "--resume", "--workdir", str(directory), *more) == 0
    assert "nothing to do: all 1 epochs are done test error" in printed()
    assert contents(directory) == before


def test_resumed_run_refuses_another_configuration(
    status: Status, directory: Path, printed: Printed
) -> None:
    before = contents(directory)
    flags = ("--growth_rate", "4", "--seed", "1")
    assert status("train", "--resume", "--workdir", str(directory), *flags) == 2
    text = printed()
    assert f"error: cannot resume {directory} with another configuration" in text
    assert "growth_rate was 2, now 4; seed was 0, now 1; leave these flags out" in text
    assert f"--init_from '{directory}' instead of --resume and --workdir: its momentum" in text
    assert contents(directory) == before


def test_more_epochs_are_allowed_and_told(
    status: Status, directory: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []

    def fit(
        run: RunConfig, dataset: Any, workdir: Any, *, resume: bool, execution: Any
    ) -> list[dict[str, Any]]:
        asked.append((run.optimization.epochs, resume))
        return [{"epoch": 3, "test_error": 0.2}]

    monkeypatch.setattr(loop, "fit", fit)
    assert status("train", "--resume", "--workdir", str(directory), "--epochs", "3") == 0
    assert asked == [(3, True)]
    text = printed()
    assert "note: epochs changes from 1 to 3, which moves the learning-rate drops" in text
    assert "test error 20.00% (71 of 355 images) after epoch 3" in text


def test_more_epochs_at_a_constant_rate_change_nothing() -> None:
    run = default_run("digits", None, None)
    constant = dataclasses.replace(run.optimization, drops=(), warmup_epochs=1)
    rates = [
        [
            float(run_schedule(dataclasses.replace(constant, epochs=epochs), 5)(step))
            for step in range(10)
        ]
        for epochs in (2, 9)
    ]
    assert rates[0] == rates[1]  # so the note is true
    note = train_command._note_on_epochs(2, 9, dataclasses.replace(run, optimization=constant))
    assert note.startswith("note: epochs changes from 2 to 9; at its constant learning rate")


@pytest.mark.parametrize("lost", ["curves.png", "metrics.jsonl", "checkpoints"])
def test_run_that_lacks_a_file_is_not_finished(directory: Path, lost: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    assert train_command._is_finished(WorkDir(copy), epochs=1)
    assert not train_command._is_finished(WorkDir(copy), epochs=2)
    (copy / lost).rename(tmp_path / lost)
    assert not train_command._is_finished(WorkDir(copy), epochs=1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--cpu_devices 0", r"cpu_devices \(=0\) must be an integer of at least 1"),
        ("--require_accelerator", "error: --require_accelerator .* JAX sees the CPU only; install"),
    ],
)
def test_devices_that_cannot_be_had_are_refused(
    flags: str, message: str, status: Status, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with contextlib.suppress(SystemExit):
        assert status("train", *flags.split(), "--workdir", str(tmp_path / "run")) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_batch_is_checked_against_simulated_devices(tmp_path: Path) -> None:
    flags = "--cpu_devices 8 --batch_size 12 --depth 7".split()
    run = subprocess.run(
        [sys.executable, str(TRAIN_PY), *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "batch_size (=12) must be divisible by the 8 devices; use 8 or 16" in run.stderr
    assert "compiling" not in run.stdout


def test_second_run_compiles_nothing_anew(
    cached: Cached, finished: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    first = cached.programs()
    assert any(name.startswith("jit_train_step") for name in first)
    command = [sys.executable, str(TRAIN_PY), *FLAGS, "--workdir", str(tmp_path / "run")]
    subprocess.run(command, env=cached.environment, check=True, capture_output=True)
    assert cached.programs() == first
