"""The library of compiled kernels is made once, whole, and where it can be."""

import ctypes
import io
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.implementations import choose_implementation, describe_choice, native
from flax_densenet.implementations.native import build, compiler

REAL = os.environ.get("CXX", "g++")
AUTO: dict[str, Any] = {"train": True, "axis_name": None, "captured": False}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two sources in place of the kernels, which the other tests make, and an empty cache."""
    monkeypatch.setattr(build, "_load", build._load.__wrapped__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("one", "other"):
        (sources / f"{name}.cc").write_text(f'extern "C" int {name}() {{ return 1; }}\n')
    monkeypatch.setattr(build, "_SOURCES", sources)
    return tmp_path / "cache" / "flax-densenet" / "native"


Script = Callable[[str], Callable[[], list[str]]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """A function that puts a shell script in CXX, and returns a function to its calls."""

    def write(text: str) -> Callable[[], list[str]]:
        calls, path = tmp_path / "calls", tmp_path / "compiler"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo "$*" >> {calls}\n{text}\n')
        path.chmod(0o700)
        monkeypatch.setenv("CXX", str(path))
        return lambda: calls.read_text().splitlines() if calls.exists() else []

    return write


@pytest.fixture
def counted(script: Script) -> Callable[[], list[str]]:
    """A compiler that works, and its calls."""
    return script(f'exec {REAL} "$@" -O0')


def test_without_a_compiler_xla_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    config = DenseNetConfig()
    assert choose_implementation("auto", config, **AUTO) == "blocked"
    assert describe_choice("auto", config, axis_name=None) == (
        "blocked, which is slower than native: there is no C++ compiler (g++, clang++ or what CXX "
        "names)"
    )
    message = r"^implementation \(=native\) needs kernels .*: there is no C\+\+ compiler \(g\+\+"
    with pytest.raises(InputError, match=message):
        choose_implementation("native", config, **AUTO)


def test_what_computes_is_told_with_its_reason(counted: Callable[[], list[str]]) -> None:
    config = DenseNetConfig()
    assert describe_choice("auto", config, axis_name=None) == "native"
    assert describe_choice("native", config, axis_name=None) == "native"
    assert describe_choice("plain", config, axis_name=None) == (
        "plain, as asked for; auto may be faster"
    )
    dropout = DenseNetConfig(dropout_rate=0.2)
    assert describe_choice("auto", dropout, axis_name=None) == (
        "plain, for native, which is faster, has no dropout in training"
    )


def test_the_library_is_made_once_and_whole(
    folder: Path, counted: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    assert build._library().other() == 1
    calls = counted()
    assert len(calls) == 3
    assert all(" ".join(calls).count(f"/{name}.cc ") == 1 for name in ("one", "other"))
    assert "making the fast CPU kernels, once on this machine: 100%" in terminal.getvalue()
    terminal.truncate(0)
    assert build._library().one() == 1
    assert counted() == calls and not terminal.getvalue()
    assert {path.suffix for path in folder.iterdir()} == {".so", ""}  # and the lock
    assert len(list(folder.iterdir())) == 2


def test_off_a_terminal_a_line_says_that_it_is_made(
    counted: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    build._library()
    build._library()
    assert capfd.readouterr().err == (
        "making the fast CPU kernels, once on this machine, which takes about half a minute\n"
    )


def test_a_library_belongs_to_the_flags_and_to_jaxlib(
    folder: Path, counted: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    build._library()
    monkeypatch.setenv("FLAX_DENSENET_CXXFLAGS", "-O1 '-DTEXT=a b'")
    build._library()
    assert "-O1 -DTEXT=a b -c" in counted()[-2]
    monkeypatch.setattr("jaxlib.__version__", "1.2.3")
    for _ in range(2):
        build._library()
    assert len(counted()) == 9 and len(list(folder.glob("*.so"))) == 3


def empty(path: Path) -> None:
    path.unlink()  # not written to in its place, which crashes who has loaded it
    path.write_bytes(b"")


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def open_to_others(path: Path) -> None:
    path.chmod(0o722)


def give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


@pytest.mark.parametrize("spoil", [empty, halve, open_to_others, give_away])
def test_an_unusable_library_is_replaced_once(
    folder: Path, counted: Callable[[], list[str]], spoil: Callable[[Path], None]
) -> None:
    if spoil is give_away and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    build._library()
    (path,) = folder.glob("*.so")
    spoil(path)
    assert build._opened(path) is None
    for _ in range(2):
        assert build._library().one() == 1
    assert len(counted()) == 6 and list(folder.glob("*.so")) == [path]


def test_a_library_is_used_after_its_compiler_has_gone(
    counted: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    build._library()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    assert native.is_available()
    monkeypatch.setattr("jaxlib.__version__", "1.2.3")
    assert not native.is_available()


def test_a_compiler_may_have_words_before_and_after_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", f"env A=1 {REAL} -DTEXT='a b'")
    assert build._library().one() == 1
    found = compiler.find_compiler()
    assert found is not None and found.words == ("env", "A=1", REAL, "-DTEXT=a b")


@pytest.mark.parametrize("given", ["no-such-compiler", "no-such-compiler -m64", "g++ 'a"])
def test_a_compiler_that_does_not_exist_gives_way_to_one_that_does(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", given)
    found = compiler.find_compiler()
    assert found is not None and found.words[0] in ("g++", "clang++", "c++")
    assert capsys.readouterr().err == (
        f"note: CXX (={given}) names no program; the usual compilers are tried\n"
    )


def test_a_compiler_that_failed_is_not_tried_again_for_a_day(folder: Path, script: Script) -> None:
    calls = script(
        "[ $1 = --version ] && exit\n"
        "for line in 1 2 3 4 5 6 7 8 9; do echo In file included from $line: >&2; done\n"
        "echo x.h:3: error: out of order >&2\nexit 1"
    )
    message = r"so XLA computes instead: .*compiler says: x.h:3: error: out of order; install g\+\+"
    with pytest.warns(UserWarning, match=message):
        assert not native.is_available()
    tried = len(calls())
    (failure,) = folder.glob("*.failed")
    message = (
        r"x.h:3: error: out of order; .* \(this was 0 minutes ago and is not tried again for a "
        rf"day; remove {failure} to try now\)$"
    )
    with pytest.warns(UserWarning, match=message):
        assert not native.is_available()
    assert len(calls()) == tried
    old = time.time() - 25 * 60 * 60
    os.utime(failure, (old, old))
    with pytest.warns(UserWarning, match="out of order"):
        assert not native.is_available()
    assert len(calls()) > tried


@pytest.mark.parametrize(
    ("text", "reason", "advice"),
    [
        (
            "echo /tmp/a.s: fatal error: cannot write: No space left on device >&2; exit 1",
            "the disk is full (/tmp/a.s: fatal error: cannot write: No space left on device)",
            "make room, or name a directory with room in XDG_CACHE_HOME",
        ),
        (
            "echo g++: fatal error: Killed signal terminated program cc1plus >&2; exit 1",
            "was killed (g++: fatal error: Killed signal terminated program cc1plus), perhaps",
            "close other programs, or choose --implementation blocked",
        ),
        ("kill -9 $$", "was killed (exit status -9), perhaps since the memory is full", "close"),
    ],
)
def test_a_failure_that_is_not_the_compilers_is_not_blamed_on_it(
    folder: Path, script: Script, text: str, reason: str, advice: str
) -> None:
    script(f"[ $1 = --version ] || {{ {text}; }}")
    with pytest.warns(UserWarning) as warned:
        assert not native.is_available()
    said = str(warned[0].message)
    assert reason in said and advice in said and "install" not in said
    assert not list(folder.glob("*.failed"))  # and the next process tries again


def test_the_compiler_writes_no_other_temporary_files(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(f'[ "$TMPDIR" != /nowhere ] || [ "$1" = --version ] || exit 1\nexec {REAL} "$@"')
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert build._library().one() == 1


def test_who_starts_while_another_compiles_waits_for_it(
    folder: Path, counted: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two threads stand for two processes, since a lock belongs to an open file."""
    folder.mkdir(parents=True, mode=0o700)
    with ThreadPoolExecutor(1) as other:
        with build._alone(folder):
            waiting = other.submit(build._library)
            line = "another process makes the fast CPU kernels; waiting for it\n"
            printed = ""
            while line not in printed:
                assert not waiting.done(), waiting.result()
                time.sleep(0.01)
                printed += capsys.readouterr().err
            found = compiler.find_compiler()
            assert found is not None
            build._make(found, build._path(folder, found))
        assert waiting.result().one() == 1
    assert len(counted()) == 3


def test_the_oldest_libraries_go_when_there_are_too_many(
    folder: Path, counted: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    build._library()
    (first,) = folder.glob("*.so")
    size = first.stat().st_size
    for number, days in ((1, 3), (2, 2), (3, 1)):
        path = shutil.copy(first, folder / f"library-{number}.so")
        os.utime(path, (time.time() - days * 86400,) * 2)
    left = folder / "tmpabc"
    left.mkdir()
    os.utime(left, (1, 1))
    monkeypatch.setattr(build, "_MAX_BYTES", 3 * size)
    build._tidy(folder, first)
    assert {path.name for path in folder.iterdir()} == {
        first.name,
        "library-2.so",
        "library-3.so",
        "lock",
    }
    assert ctypes.CDLL(str(first)).one() == 1
