"""Tests of flax_densenet/cli/: exit statuses and messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import InputError
from flax_densenet.cli.main import run_command
from flax_densenet.errors import TrainingDiverged
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
    ("flags", "message"),
    [
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
