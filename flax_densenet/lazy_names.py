"""A package whose names are imported when they are first used, as PEP 562 describes.

JAX takes most of a second to import. A package that imports it with its first line makes everything
inside wait for that: `flax_densenet.config`, or the help of a command.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the `__getattr__` and `__dir__` of a package.

    Args:
      package: Its `__name__`.
      names: The names that each of its modules gives to it. The modules are found, too.
    """
    module_of = {name: module for module, given in names.items() for name in given}

    def get(name: str) -> Any:
        if name in module_of:
            return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(
            f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package]
        )

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *module_of})

    return get, list_names
