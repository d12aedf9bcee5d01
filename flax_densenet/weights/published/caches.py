"""Where published weights may lie already: in our own cache, and in those of other software."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flax_densenet.cache import cache_places, download_directory
from flax_densenet.download import RemoteFile

_PART = "weights"


def own_cache() -> Path:
    """Returns the directory that this package downloads weights to."""
    return download_directory(_PART)


def own_caches() -> list[Path]:
    """Returns the directories that it may have downloaded weights to."""
    return cache_places(_PART)


def places(name: str, file: RemoteFile) -> Iterator[Path]:
    """Yields where a file may lie in the caches of other software, whether it does or not.

    Args:
      name: The weights' name, such as "keras/densenet121".
      file: The file.
    """
    home = _home()
    owner, _, path = urlsplit(file.url).path.strip("/").partition("/resolve/")
    if path:  # an address of Hugging Face's hub
        snapshots = hub_cache() / f"models--{owner.replace('/', '--')}" / "snapshots"
        yield from sorted(snapshots.glob(f"*/{path.partition('/')[2]}"))
        return
    yield torch_home() / "hub" / "checkpoints" / file.name
    if name.startswith("keras/"):
        yield Path(os.environ.get("KERAS_HOME") or home / ".keras") / "models" / file.name
    elif name.startswith("xrv/"):
        yield home / ".torchxrayvision" / "models_data" / file.name
    else:
        yield home / ".torch" / "models" / file.name  # pytorchcv's, and once PyTorch's own


def torch_home() -> Path:
    """Returns the directory that torch.hub caches in."""
    cache = _environment_path("XDG_CACHE_HOME") or _home() / ".cache"
    return _environment_path("TORCH_HOME") or cache / "torch"


def hub_cache() -> Path:
    """Returns the directory that huggingface_hub caches in."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if path := _environment_path(variable):
            return path
    cache = _environment_path("XDG_CACHE_HOME") or _home() / ".cache"
    return (_environment_path("HF_HOME") or cache / "huggingface") / "hub"


def _environment_path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(os.path.expanduser(value)) if value else None


def _home() -> Path:
    """Returns the home directory, or where there is none a path where nothing is."""
    return Path(os.path.expanduser("~"))
