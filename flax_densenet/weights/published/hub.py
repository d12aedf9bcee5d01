"""Finds weights in a repository of Hugging Face's hub; needs huggingface_hub."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from flax_densenet.download import checksum_of
from flax_densenet.errors import InputError, listed

_FORM = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?"
)
# What the hub's libraries call the file that holds the weights, the best first.
_USUAL_NAMES = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth", "model.h5")
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".tar", ".h5")
_CONFIG = "config.json"
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST_CHARACTERS = 300
_SECONDS = 10.0  # as huggingface_hub waits for files


def find_in_hub(name: str, *, offline: bool) -> tuple[Path, tuple[str, ...]]:
    """Returns the file of weights in a repository, and downloads it if it is not on the disk.

    The cache, the token, the mirror and the proxies are those of huggingface_hub, and so are its
    variables: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. The config.json beside the weights,
    from which timm's preparation of images is read, comes along.

    Args:
      name: OWNER/REPOSITORY, with /FILE and @REVISION if they are not the usual ones.
      offline: Whether to download nothing.

    Returns:
      The file, and a sentence if it is from the cache since the hub could not be reached.

    Raises:
      InputError: huggingface_hub is not installed, there is no such repository or file, or it
        cannot be downloaded.
    """
    found = _FORM.fullmatch(name)
    if found is None:
        raise InputError(
            f"hf-hub:{name} is not understood; wanted hf-hub:OWNER/REPOSITORY, with /FILE and "
            "@REVISION if they are not the usual ones, such as hf-hub:timm/densenet121.ra_in1k"
        )
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise InputError(
            f"hf-hub:{name} needs huggingface_hub, which is not installed; install "
            "flax-densenet[hub]"
        ) from error
    repository, file, revision = found["repository"], found["file"], found["revision"]
    try:
        if offline or constants.HF_HUB_OFFLINE:
            return _in_cache(repository, file, revision), ()
        found_there = huggingface_hub.HfApi().model_info(
            repository, revision=revision, timeout=_SECONDS
        )
        files = [sibling.rfilename for sibling in found_there.siblings or ()]
        file = file or _choose(name, files)
        if _CONFIG in files:
            huggingface_hub.hf_hub_download(repository, _CONFIG, revision=revision)
        path = Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
        if not _is_whole(path):
            path = Path(
                huggingface_hub.hf_hub_download(
                    repository, file, revision=revision, force_download=True
                )
            )
        if not _is_whole(path):
            raise InputError(
                f"{path} has another sha256 than {path.resolve().name}, which the hub gives, "
                "also after a second download; try again later, or over another network"
            )
        return path, ()
    except (InputError, AttributeError, TypeError):  # the latter two are faults of ours
        raise
    except Exception as error:  # its libraries' own, and those of the HTTP client below it
        text = " ".join(str(error).split())[:_MOST_CHARACTERS] or "no reason given"
        failure = f"hf-hub:{name} was not downloaded ({type(error).__name__}: {text})"
        with contextlib.suppress(InputError):
            return _in_cache(repository, file, revision), (f"{failure}; the cached file is used",)
        raise InputError(
            f"{failure}; check the name, the network and, for a private or gated repository, "
            "HF_TOKEN"
        ) from error


def _in_cache(repository: str, file: str | None, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"hf-hub:{repository} is not in the cache of huggingface_hub "
            f"({constants.HF_HUB_CACHE}), and nothing is downloaded offline; fetch it where "
            f"there is a network with: hf download {repository}"
        ) from error
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    path = folder / (file or _choose(repository, names))
    if not path.is_file():
        raise InputError(f"{path} is not in the cache, and nothing is downloaded offline")
    if not _is_whole(path):
        raise InputError(
            f"{path} is damaged: its sha256 is not the {path.resolve().name} that the hub gave for "
            "it; remove it, and download it again where there is a network"
        )
    return path


def _choose(name: str, files: Sequence[str]) -> str:
    """Returns the file with the weights among all files of a repository."""
    for usual in _USUAL_NAMES:
        if usual in files:
            return usual
    likely = [file for file in files if file.endswith(_ENDINGS)]
    if len(likely) == 1:
        return likely[0]
    what = f"has several: {listed(likely)}" if likely else f"has none of {', '.join(_ENDINGS)}"
    raise InputError(
        f"hf-hub:{name} must name the file of weights, of which the repository {what}; give "
        "hf-hub:OWNER/REPOSITORY/FILE"
    )


def _is_whole(path: Path) -> bool:
    """Returns whether a file has the checksum that the hub gave, by which the cache names it.

    Small files are named by another checksum, and not looked at.
    """
    name = path.resolve().name
    return not _SHA256.fullmatch(name) or checksum_of(path) == name
