"""Tests of flax_densenet/cli/: exit statuses and messages."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flax_densenet
from flax_densenet import InputError
from flax_densenet.cli.main import run_command
from flax_densenet.errors import SavingFailed, TrainingDiverged
from flax_densenet.training import loop

Printed = Callable[[], str]
Status = Callable[..., int]
TINY = ("--depth", "7", "--growth_rate", "2")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; go on with: prog --resume --workdir '{}/a b'"),
        (TrainingDiverged("loss is nan at step 3"), 1, "error: loss is nan at step 3"),
        (InputError("no such thing"), 2, "error: no such thing"),
    ],
)
def test_failure_is_one_line_and_an_exit_status(
    status: Status,
    error: BaseException,
    code: int,
    message: str,
    tmp_path: Path,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "fit", fit)
    args = [*TINY, "--workdir", str(tmp_path / "a b")]
    assert run_command("train", args, prog="prog") == code
    text = printed()
    assert text.endswith(message.format(tmp_path))
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("number", "change", "remedy"),
    [
        (errno.ENOSPC, lambda run: None, "make room, then go"),
        (errno.EDQUOT, lambda run: None, "make room, then go"),
        (errno.EACCES, lambda run: None, "give this user the right to write in {}, then go"),
        (errno.EROFS, lambda run: None, "give this user the right to write in {}, then go"),
        (errno.ENOENT, lambda run: run.rename(run.with_name("b")), "{} has vanished: see whether"),
        (errno.EIO, lambda run: (run / ".lock").unlink(), "the lock of this run is lost, {}/.lock"),
    ],
)
@pytest.mark.parametrize("kind", [SavingFailed, InputError])
def test_what_keeps_a_run_from_saving_is_told_apart(
    status: Status,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    change: Callable[[Path], Any],
    remedy: str,
    kind: type[Exception],
) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        change(run)
        raise kind(f"metrics.jsonl cannot be written ({os.strerror(number)})")

    monkeypatch.setattr(loop, "fit", fit)
    run = tmp_path / "run"
    got = status("train", *TINY, "--workdir", str(run))
    text = printed()
    if kind is InputError and number != errno.ENOENT:
        assert got == 2 and text.endswith(f"({os.strerror(number)})")  # no matter of the disk
    else:
        assert got == 1
        assert f"the finished checkpoints are kept; {remedy.format(run)}" in text
        assert text.endswith(f"go on with: flax-densenet train --resume --workdir {run}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dropout_rate", "0.2", "--implementation", "native"), "(=native) has no dropout in"),
        (("--batch_size", "1443"), "batch_size (=1443) is larger than the 1442 training images"),
        (("--num_classes", "3"), "num_classes (=3) must be 10, the number of classes of digits"),
        (("--variant", "densenet121"), "image is 8x8 pixels, but DenseNet-BC (L=121, k=32)"),
        (("--precision", "float64"), "dtype float64 needs 64-bit JAX"),
        (("--depth", "41"), "depth (=41) must be 3n+4"),
        (("--dataset", "minst"), "dataset (='minst') must be digits, cifar10, "),
        (("--dataset", "mnist", "--data_dir", "/nowhere"), "data_dir (='/nowhere') is missing"),
        (("--variant", "vgg"), "variant (='vgg') must be one of the following; densenet-40-12, "),
    ],
)
def test_wrong_input_exits_with_2_and_writes_nothing(
    status: Status, flags: tuple[str, ...], message: str, tmp_path: Path, printed: Printed
) -> None:
    assert status("train", "--workdir", str(tmp_path), *flags) == 2
    assert message in printed()
    assert list(tmp_path.iterdir()) == []


def test_directory_in_use_is_refused(status: Status, tmp_path: Path, printed: Printed) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    assert status("train", "--workdir", str(tmp_path)) == 2
    assert f"error: work directory {tmp_path} is not empty" in printed()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "usage: flax-densenet COMMAND [OPTIONS] commands: bench"),
        (("--help",), 0, "usage: flax-densenet COMMAND"),
        (("-h",), 0, "usage: flax-densenet COMMAND"),
        (("--version",), 0, f"flax-densenet {flax_densenet.__version__}"),
        (("fly",), 2, "error: no command 'fly' usage: flax-densenet COMMAND"),
        (("train", "--help"), 0, "usage: flax-densenet train"),
        (("train", "--grwth_rate", "3"), 2, "--growth_rate"),
    ],
)
def test_command_line_explains_itself(
    status: Status, args: tuple[str, ...], code: int, message: str, printed: Printed
) -> None:
    assert status(*args) == code
    text = printed()
    assert message in text
    assert "Traceback" not in text
