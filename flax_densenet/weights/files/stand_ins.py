"""Stand-ins for names in PyTorch's training checkpoints, beyond tensors and dictionaries.

Training scripts also store numbers of NumPy, the program's arguments, paths, dictionaries with
defaults, and whole modules. PyTorch's safe unpickler gets stand-ins for these, never the real
classes: see `flax_densenet/pickles.py`.
"""

from typing import Any

from flax_densenet.pickles import Kept, NotData, numpy_stand_ins
from flax_densenet.weights.files.modules import module_stand_ins

_NUMBERS = "b1|[iu][1248]|f[248]|c8|c16"


def _path(*parts: str) -> str:
    """Stands in for the classes of pathlib."""
    return "/".join(map(str, parts))


def _default_dict(*factory: object) -> dict[Any, Any]:
    """Stands in for collections.defaultdict, whose factory is not called."""
    return {}


def _no_bytes() -> bytes:
    """Stands in for bytes, which pickles call where there are none."""
    return b""


class _Factory:
    """Stands in for the factory of a defaultdict."""

    def __new__(cls, *arguments: object) -> Any:
        raise NotData("a call of a class that only a defaultdict may name")


def stand_ins() -> list[Any]:
    """Returns (stand-in, full name) for every name that the unpickler may meet beyond its own."""
    named = numpy_stand_ins(_NUMBERS) | module_stand_ins()
    named |= {
        "argparse.Namespace": Kept,
        "collections.defaultdict": _default_dict,
        "builtins.bytes": _no_bytes,
    }
    for factory in ("dict", "list", "int", "float"):
        named[f"builtins.{factory}"] = _Factory
    for module in ("pathlib", "pathlib._local"):
        for system in ("Posix", "Windows", "PurePosix", "PureWindows"):
            named[f"{module}.{system}Path"] = _path
    return [(stand_in, name) for name, stand_in in named.items()]
