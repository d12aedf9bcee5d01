"""Building a network by a function in the user's own Python file."""

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from flax_densenet.errors import InputError
from flax_densenet.parity.theirs.findings import reported_as


def build_own(against: str) -> nn.Module:
    """Runs a user's file and returns the network that a function in it builds.

    Args:
      against: "FILE.py:NAME"; NAME is a function or class that needs no arguments, or a network.

    Raises:
      InputError: There is no such file or name, it raises, or what it returns is no network.
    """
    file, _, name = against.rpartition(":")
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise InputError(f"there is no file {path}; wanted FILE.py:NAME (={against!r})")
    with _importable(path.parent):
        with reported_as(f"{path} cannot be imported"):
            module = _import(path)
        made = _find(module, path, name)
        if not isinstance(made, nn.Module):
            _check_callable(made, path, name)
            with reported_as(f"{name} of {path} failed"):
                made = made()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{name} of {path} returns a {type(made).__name__}; wanted a torch.nn.Module"
        )
    return made


@contextlib.contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Lets a file import its neighbors, as when Python runs it."""
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))


def _import(path: Path) -> ModuleType:
    name = f"against_{path.stem}"  # no other module's
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file; wanted FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.compile look their module up
    spec.loader.exec_module(module)
    return module


def _find(module: ModuleType, path: Path, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    raise InputError(f"{path} has no {name!r}; it has {', '.join(own) or 'no function at all'}")


def _check_callable(made: Any, path: Path, name: str) -> None:
    if not callable(made):
        raise InputError(
            f"{name} of {path} is a {type(made).__name__}; wanted a function that returns the "
            "network"
        )
    required = [
        str(parameter)
        for parameter in inspect.signature(made).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise InputError(
            f"{name} of {path} needs arguments: {', '.join(required)}; write a function without "
            f"any that returns {name}(...)"
        )
