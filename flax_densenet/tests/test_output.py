"""Output and pictures cost no result, whatever the terminal, the names and the reader are."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flax_densenet.cli.output import show_everything
from flax_densenet.pictures import draw_picture, literal
from flax_densenet.training.evaluation import plot_confusion
from flax_densenet.training.records import plot_curves

RECORD = {"epoch": 1, "train_loss": 2.0, "test_loss": 2.1, "train_error": 0.5, "test_error": 0.6}
STRANGE = "a$b_{$c \udcff"  # no formula, and a byte that is not UTF-8
PRINTING = """
import sys
from flax_densenet.cli.output import outlived_output
with outlived_output():
    for _ in range(3):
        print("line", flush=True)
    print("last")
    print("done", file=open(sys.argv[1], "w"))
"""


def print_to(descriptor: int, done: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRINTING, str(done)],
        stdout=descriptor,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = print_to(writing, tmp_path / "done")
    os.close(writing)
    warning = "warning: the output cannot be written (Broken pipe); the run goes on\n"
    assert (result.returncode, result.stderr) == (0, warning)
    assert (tmp_path / "done").read_text() == "done\n"


def test_a_run_outlives_a_full_disk_under_its_output(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        result = print_to(full.fileno(), tmp_path / "done")
    warning = "warning: the output cannot be written (No space left on device); the run goes on\n"
    assert (result.returncode, result.stderr) == (0, warning)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("closing", [">&-", ">&- 2>&-", "<&-"])
def test_commands_work_without_some_streams(closing: str) -> None:
    command = f"exec {sys.executable} -m flax_densenet weights {closing}"
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", b"\\xe9\\udcff"), ("latin-1", b"\xe9\\udcff"), ("utf-8", b"\xc3\xa9\\udcff")],
)
def test_names_that_a_terminal_cannot_show_are_escaped(
    encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding=encoding))
    show_everything()
    print("\xe9\udcff")  # and shown at once, also in a file that somebody looks into
    assert terminal.getvalue() == written + b"\n"


def test_a_picture_that_cannot_be_drawn_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(file: Path) -> None:
        raise ValueError("no font\nand more")

    path = tmp_path / "plot.png"
    assert not draw_picture(path, fail)
    assert not draw_picture(tmp_path / "missing" / "plot.png", fail)
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"warning: {path} was not drawn: no font"
    assert "plot.png was not drawn: " in second and "is no directory" in second
    assert list(tmp_path.iterdir()) == []
    assert draw_picture(path, lambda file: file.write_text("drawn"))
    assert path.read_text() == "drawn"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    figures: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *arguments: Any, **settings: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", note)
    return figures


def test_one_epoch_is_marked_as_one(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_curves([RECORD], STRANGE, tmp_path / "plot.png")
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_names_of_any_characters_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(np.eye(2, dtype=int), (STRANGE, "$x^{"), STRANGE, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        picture.verify()
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert labels == [r"a\$b_{\$c \udcff", r"\$x^{"]
    assert literal("no change") == "no change"


def test_a_directory_that_cannot_be_written_to_by_name_is_refused_first(
    status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("train", "--workdir", "run\udcff") == 2
    assert capsys.readouterr().err == (
        r"error: workdir (='run\udcff') must be a name in UTF-8, as Orbax writes no other" + "\n"
    )
