"""Builds the library of C++ kernels, once per machine, and keeps it in the user's cache.

It is compiled from `cpp/` on the machine that runs it, for its processor, as `torch.compile` does.
The environment variable CXX names another compiler. FLAX_DENSENET_CXXFLAGS adds compiler and linker
flags, as `.ci/sanitize` does for the sanitizers.

A library's file ends with the sha256 of what is before it. Half a library would crash the process
that loads it.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib
from tqdm import tqdm

from flax_densenet.cache import cache_directory, cache_places, is_private
from flax_densenet.implementations.native.compiler import (
    Compiler,
    CompilerFailed,
    compile_all,
    find_compiler,
)
from flax_densenet.machine import cpu_info

_SOURCES = Path(__file__).parent / "cpp"
_FLAGS = ("-O3", "-std=c++17", "-fPIC")
_NO_COMPILER = "there is no C++ compiler (g++, clang++ or what CXX names)"
_TITLE = "making the fast CPU kernels, once on this machine"
_SECONDS_OF_A_FAILURE = 24 * 60 * 60  # in which the compiler is not tried again
_SECONDS_OF_A_SCRATCH = 60 * 60  # after which its process is dead
_MAX_BYTES = 64 * 2**20  # of all libraries


def is_available() -> bool:
    """Returns whether the library exists or can be built; builds it if necessary."""
    return why_unavailable() is None


def why_unavailable() -> str | None:
    """Returns why there is no library and none can be built, as a clause; None if there is one."""
    return _load()[1]


def register(name: str, dtype: str) -> str:
    """Registers a kernel of the library with JAX.

    Args:
      name: Name of the kernel without its type, such as "dense_block_forward".
      dtype: "float32" or "float64".

    Returns:
      The name of JAX's FFI target.
    """
    return _register(f"{name}_{dtype}")


@functools.cache
def _register(symbol: str) -> str:
    library, _ = _load()
    assert library is not None, "is_available() comes first"
    target = f"flax_densenet_{symbol}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return target


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """Returns the library, or why there is none."""
    if platform.system() != "Linux":
        return None, "they are for Linux"
    try:
        return _library(), None
    except CompilerFailed as error:
        if str(error) != _NO_COMPILER:
            warnings.warn(
                f"the fast CPU kernels could not be made, so XLA computes instead: {error}",
                stacklevel=2,
            )
        return None, str(error)


def _library() -> ctypes.CDLL:
    """Returns the library; builds it if there is none for this machine."""
    compiler = find_compiler()
    if compiler is None:  # what an earlier one has made is as good
        name = f"library-{_fingerprint()}-*.so"
        found = [path for place in cache_places("native") for path in place.glob(name)]
        library = next(filter(None, map(_opened, found)), None)
        if library is None:
            raise CompilerFailed(_NO_COMPILER)
        return library
    for place in cache_places("native"):
        if (library := _opened(_path(place, compiler))) is not None:
            return library
    folder = cache_directory("native", private=True)
    if folder is None:
        raise CompilerFailed("there is no directory for them; set XDG_CACHE_HOME", again=True)
    path = _path(folder, compiler)
    failure = path.with_suffix(".failed")
    with _alone(folder):
        if (library := _opened(path)) is not None:  # made by another process meanwhile
            return library
        _check_not_failed(failure)
        try:
            _make(compiler, path)
            if (library := _opened(path)) is None:
                raise CompilerFailed(
                    f"{path} cannot be loaded, although it was just made; allow programs in its "
                    "directory, or name another one in XDG_CACHE_HOME"
                )
        except CompilerFailed as error:
            if not error.again:
                failure.write_text(str(error))
                failure.chmod(0o600)
            raise
        _tidy(folder, path)
    return library


def _path(folder: Path, compiler: Compiler) -> Path:
    made_by = hashlib.sha256(repr(compiler).encode()).hexdigest()[:8]
    return folder / f"library-{_fingerprint()}-{made_by}.so"


def _flags() -> list[str]:
    native = "-mcpu=native" if platform.machine() == "aarch64" else "-march=native"
    return [*_FLAGS, native, *shlex.split(os.environ.get("FLAX_DENSENET_CXXFLAGS", ""))]


def _fingerprint() -> str:
    """Returns what a library depends on beside its compiler, as hexadecimal digits."""
    # Machines with different processors and systems may share a home directory.
    system = platform.machine(), platform.libc_ver(), sorted(set(cpu_info("flags", "Features")))
    fingerprint = hashlib.sha256(repr((_flags(), jaxlib.__version__, system)).encode())
    for source in sorted(_SOURCES.iterdir()):
        fingerprint.update(source.read_bytes())
    return fingerprint.hexdigest()[:24]


def _opened(path: Path) -> ctypes.CDLL | None:
    """Returns the library of a file; None if there is none, or it is not whole or not ours."""
    if not (is_private(path.parent.resolve()) and is_private(path)):
        return None
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            return None
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _make(compiler: Compiler, path: Path) -> None:
    if not sys.stderr.isatty():
        print(f"{_TITLE}, which takes about half a minute", file=sys.stderr, flush=True)
    command = [f"-I{_SOURCES}", f"-I{jax.ffi.include_dir()}", *_flags()]
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            made = Path(scratch) / path.name
            sources = sorted(_SOURCES.glob("*.cc"))
            objects = [str(Path(scratch) / f"{source.stem}.o") for source in sources]
            compiling = [
                [*command, "-c", str(source), "-o", object]
                for source, object in zip(sources, objects, strict=True)
            ]
            # On a terminal only, where the wait needs an explanation.
            with tqdm(desc=_TITLE, total=len(compiling), disable=None) as bar:
                compile_all(compiler, compiling, Path(scratch), bar.update)
            link = [*command, "-shared", *objects, "-o", str(made)]
            compile_all(compiler, [link], Path(scratch))
            digest = hashlib.sha256(made.read_bytes()).digest()
            with made.open("ab") as file:
                file.write(digest)
            made.chmod(0o700)
            made.replace(path)  # whole
    except OSError as error:
        raise CompilerFailed(
            f"{path.parent} cannot be written to ({error.strerror}); make room, or name another "
            "directory in XDG_CACHE_HOME",
            again=True,
        ) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process makes kernels; the lock of a dead process is free."""
    import fcntl  # not on Windows

    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process makes the fast CPU kernels; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a disk without locks: twice the work, and the same result
        yield


def _check_not_failed(failure: Path) -> None:
    if not is_private(failure):
        return
    age = time.time() - failure.stat().st_mtime
    if age < _SECONDS_OF_A_FAILURE:
        raise CompilerFailed(
            f"{failure.read_text()} (this was {age / 60:.0f} minutes ago and is not tried again "
            f"for a day; remove {failure} to try now)"
        )


def _tidy(folder: Path, made: Path) -> None:
    """Removes what dead processes left, and the oldest libraries if there are too many."""
    now = time.time()
    with contextlib.suppress(OSError):
        for scratch in folder.glob("tmp*"):
            if now - scratch.stat().st_mtime > _SECONDS_OF_A_SCRATCH:
                shutil.rmtree(scratch, ignore_errors=True)
        paths = sorted(folder.glob("library-*.so"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in paths)
        for path in paths:
            if total > _MAX_BYTES and path != made:
                total -= path.stat().st_size
                path.unlink()
