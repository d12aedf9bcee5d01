"""Tests of flax_densenet/files.py: whole or not at all."""

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from flax_densenet import InputError
from flax_densenet.errors import SavingFailed
from flax_densenet.files import (
    check_target,
    directory_written_whole,
    make_directory,
    write_text,
    written_whole,
)

FullDisk = Callable[[], contextlib.AbstractContextManager[None]]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_text_is_utf8_and_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "x.md", "old")
    write_text(tmp_path / "x.md", "1 ± 2")
    assert (tmp_path / "x.md").read_bytes() == b"1 \xc2\xb1 2"
    assert names(tmp_path) == ["x.md"]


def test_nothing_is_at_the_target_until_all_is_written(tmp_path: Path) -> None:
    with written_whole(tmp_path / "x.png", overwrite=False) as unfinished:
        unfinished.write_text("half")
        assert not (tmp_path / "x.png").exists()
        assert unfinished.suffix == ".png"  # by which plots choose their format
    assert (tmp_path / "x.png").read_text() == "half"
    assert names(tmp_path) == ["x.png"]


@pytest.mark.parametrize("error", [KeyError("fault"), KeyboardInterrupt()])
def test_failure_of_the_writer_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "x", "old")
    with pytest.raises(type(error)), written_whole(tmp_path / "x") as unfinished:
        unfinished.write_text("half")
        raise error
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_full_disk_is_one_error_that_names_the_file(tmp_path: Path, full_disk: FullDisk) -> None:
    write_text(tmp_path / "x", "old")
    with full_disk(), pytest.raises(SavingFailed, match=f"^{tmp_path}/x cannot be written "):
        write_text(tmp_path / "x", "new" * 100_000)
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_text() == "text"


def test_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    for name in ("x" * 255, "x." + 253 * "y"):
        write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


@pytest.mark.parametrize("links", [True, False])
def test_name_that_is_taken_meanwhile_is_not_overwritten(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:  # as on FAT and some network disks
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    with written_whole(tmp_path / "free", overwrite=False) as unfinished:
        unfinished.write_text("mine")
    with (
        pytest.raises(InputError, match="x is already there; give another name, or --overwrite"),
        written_whole(tmp_path / "x", overwrite=False) as unfinished,
    ):
        unfinished.write_text("mine")
        (tmp_path / "x").write_text("another's")
    assert (tmp_path / "x").read_text() == "another's"
    assert names(tmp_path) == ["free", "x"]


def test_targets_that_cannot_be_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no/x cannot be written: {tmp_path}/no is no directory"):
        check_target(tmp_path / "no" / "x", overwrite=True)
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="x is there and is no file, so it is not replaced"):
        write_text(tmp_path / "x", "text")
    with pytest.raises(InputError, match="already there"):
        check_target(tmp_path / "x", overwrite=False)


def test_directory_is_replaced_as_a_whole_where_it_may(tmp_path: Path) -> None:
    def check(target: Path) -> None:
        if not (target / "a").exists():
            raise InputError("not ours")

    for name in ("a", "a2"):
        path = tmp_path / "x"
        with directory_written_whole(path, overwrite=True, check_replaced=check) as new:
            new.mkdir()
            (new / name).touch()
    assert (names(tmp_path), names(tmp_path / "x")) == (["x"], ["a2"])
    with (
        pytest.raises(InputError, match="not ours"),
        directory_written_whole(tmp_path / "x", overwrite=True, check_replaced=check),
    ):
        pass
    with (
        pytest.raises(SavingFailed, match=r"y cannot be written \(no bucket\); nothing"),
        directory_written_whole(tmp_path / "y", overwrite=False, check_replaced=check),
    ):
        raise RuntimeError("no bucket")
    assert names(tmp_path) == ["x"]


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for path, reason in (("file", "File exists"), ("file/in", "Not a directory")):
        with pytest.raises(SavingFailed, match=rf"^{tmp_path}/{path} cannot be written \({reason}"):
            make_directory(tmp_path / path)
