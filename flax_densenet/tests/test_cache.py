"""What is made or downloaded has a place, also where a user has no home that can be written to."""

import os
import pwd
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import cache
from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.weights.published.caches import own_cache

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The place of this user's cache among temporary files, with nothing there and nothing said."""
    for function in (cache._say, cache._fault):
        function.cache_clear()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / f"flax-densenet-{os.geteuid()}"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of whom the system knows nothing, as after `docker run --user 12345`."""

    def unknown(user: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_temporary_files_have_it(
    nobody: None, temporary: Path, capsys: Capture
) -> None:
    for _ in range(2):
        assert cache.cache_directory("x") == temporary / ".cache" / "flax-densenet" / "x"
    assert capsys.readouterr().err == (
        f"note: this user has no home directory, so that {temporary}/.cache/flax-densenet is the "
        "cache; XDG_CACHE_HOME names a better one\n"
    )
    assert temporary.stat().st_mode & 0o777 == 0o700


def test_commands_get_a_home(
    nobody: None,
    temporary: Path,
    status: Callable[..., Any],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "to be put back")
    monkeypatch.delenv("HOME")
    for _ in range(2):
        assert status("weights") == 0
    assert os.environ["HOME"] == str(temporary)
    out, err = capsys.readouterr()
    assert f"fetches weights to {temporary}/.cache/flax-densenet/weights and" in out
    assert err == (
        f"note: this user has no home directory, so that {temporary} is it; HOME names a better "
        "one\n"
    )


def test_a_home_that_cannot_be_written_to_is_left_alone(
    temporary: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", "to be put back")
    monkeypatch.delenv("MPLCONFIGDIR")
    cached = temporary / ".cache" / "flax-densenet"
    assert cache.cache_directory("x") == cached / "x"
    assert cache.cache_places("x") == [
        tmp_path / "home" / ".cache" / "flax-densenet" / "x",
        cached / "x",
    ]
    assert own_cache() == cached / "weights"
    choose_devices(DeviceFlags())
    assert os.environ["HOME"] == str(tmp_path / "home")
    assert os.environ["MPLCONFIGDIR"] == str(cached / "matplotlib")
    assert capsys.readouterr().err == (
        f"note: nothing can be written to {tmp_path}/home/.cache/flax-densenet (Not a directory), "
        f"so that {cached} is the cache; XDG_CACHE_HOME names a better one\n"
    )


def test_on_a_full_disk_nothing_is_kept(
    tmp_path: Path,
    full_disk: Callable[[], AbstractContextManager[None]],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with full_disk():
        assert cache.cache_directory("x") is None
    assert capsys.readouterr().err == (
        f"note: nothing can be written to {tmp_path}/flax-densenet (File too large), nor to the "
        "directory of temporary files, so that nothing is kept there\n"
    )


def test_a_place_that_another_user_has_prepared_is_not_used(
    nobody: None, temporary: Path, tmp_path: Path
) -> None:
    temporary.symlink_to(tmp_path)
    assert cache.cache_directory("x") is None
    temporary.unlink()
    temporary.mkdir()
    temporary.chmod(0o777)
    assert cache.cache_directory("x") is None and cache.cache_places("x") == []


def test_programs_are_kept_where_nobody_else_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = cache.cache_directory("x")
    assert directory is not None
    directory.chmod(0o775)
    assert cache.cache_directory("x") == directory
    assert directory.stat().st_mode & 0o777 == 0o775
    assert cache.cache_directory("x", private=True) == directory
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_relative_cache_is_told_and_not_used(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the specification of XDG directories has it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache.cache_directory("x") == tmp_path / ".cache" / "flax-densenet" / "x"
    assert capsys.readouterr().err == (
        "note: XDG_CACHE_HOME (=somewhere) is no absolute path, so that it is not used\n"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
            "error: no temporary file can be written (",
        ),
        (
            RuntimeError("Could not determine home directory."),
            "error: a path starts with ~ and the name of no user; write ./~ for a file of such a "
            "name\n",
        ),
    ],
)
def test_commands_say_what_is_missing(
    error: Exception,
    line: str,
    status: Callable[..., Any],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("flax_densenet.cli.weights.run", fail)
    assert status("weights") == 1
    assert capsys.readouterr().err.startswith(line)
