"""Builds the library of C++ kernels, once per machine, and keeps it in the user's cache.

It is compiled from `cpp/` on the machine that runs it, for its processor, as `torch.compile` does.
The environment variable CXX names another compiler. FLAX_DENSENET_CXXFLAGS adds compiler and linker
flags, as `.ci/sanitize` does for the sanitizers.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import jax
import jaxlib
import platformdirs
from tqdm import tqdm

from flax_densenet.machine import cpu_info

_SOURCES = Path(__file__).parent / "cpp"
_FLAGS = ("-O3", "-std=c++17", "-fPIC")
_COMPILERS = ("g++", "clang++", "c++")
_SECONDS = 300


def is_available() -> bool:
    """Returns whether the library exists or can be built; builds it if necessary."""
    return _load() is not None


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
    library = _load()
    assert library is not None, "is_available() comes first"
    target = f"flax_densenet_{symbol}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return target


@functools.cache
def _load() -> ctypes.CDLL | None:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        warnings.warn(
            f"{compiler} could not make the fast CPU kernels, so XLA computes instead: "
            f"{said.decode(errors='replace').strip()[:500]}; install g++ or name another compiler "
            "in CXX, or choose --implementation blocked",
            stacklevel=2,
        )
        return None


def _compiled(compiler: str) -> Path:
    """Returns the library's file; builds it if there is none for this machine."""
    native = "-mcpu=native" if platform.machine() == "aarch64" else "-march=native"
    command = [compiler, *_FLAGS, native, f"-I{_SOURCES}", f"-I{jax.ffi.include_dir()}"]
    command += shlex.split(os.environ.get("FLAX_DENSENET_CXXFLAGS", ""))
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    fingerprint = hashlib.sha256(repr((command, jaxlib.__version__)).encode() + version)
    fingerprint.update(_processor())
    for source in sorted(_SOURCES.iterdir()):
        fingerprint.update(source.read_bytes())
    folder = Path(platformdirs.user_cache_dir("flax-densenet")) / "native"
    path = folder / f"library-{fingerprint.hexdigest()[:24]}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when it is complete
        made = Path(scratch) / path.name
        objects = [Path(scratch) / f"{file.stem}.o" for file in sorted(_SOURCES.glob("*.cc"))]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            compiling = [
                threads.submit(_run, [*command, "-c", str(_SOURCES / f"{o.stem}.cc"), "-o", str(o)])
                for o in objects
            ]
            # On a terminal only, where the wait needs an explanation.
            title = "making the fast CPU kernels, once on this machine"
            for one in tqdm(as_completed(compiling), title, len(compiling), disable=None):
                one.result()
        _run([*command, "-shared", *map(str, objects), "-o", str(made)])
        made.rename(path)
    return path


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)


def _processor() -> bytes:
    """Returns the processor's features: machines with different ones may share a home directory."""
    return "\n".join(sorted(set(cpu_info("flags", "Features")))).encode()
