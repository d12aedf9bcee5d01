"""Finds weights by a path, a published name, an address or a repository of Hugging Face's hub."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from flax_densenet.download import (
    Checksum,
    DownloadFailed,
    RemoteFile,
    checksum_of,
    download_file,
)
from flax_densenet.errors import InputError, nearest
from flax_densenet.weights.published.caches import own_cache, own_caches, places
from flax_densenet.weights.published.catalog import HUB, PUBLISHED, Published

OFFLINE = "FLAX_DENSENET_OFFLINE"
_OFFLINE_VARIABLES = (OFFLINE, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = {"1", "ON", "YES", "TRUE"}
_ADDRESSES = ("https://", "http://")
HUB_PREFIX = "hf-hub:"
_PUBLISHERS = tuple(dict.fromkeys(name.partition("/")[0] for name in PUBLISHED))
_SHA256 = re.compile("[0-9a-f]{64}")


class Found(NamedTuple):
    """Weights on the disk.

    Attributes:
      path: The file or directory.
      name: Key of `PUBLISHED`, if it is one of these files.
      notes: What a user should know, in sentences.
    """

    path: Path
    name: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def published(self) -> Published | None:
        """What is known of the weights, if they are published ones."""
        return PUBLISHED[self.name] if self.name else None


def find_weights(source: str | Path, *, offline: bool = False) -> Found:
    """Finds weights on the disk, or downloads them.

    Args:
      source: A path; a key of `PUBLISHED`; "https://..."; or "hf-hub:OWNER/REPOSITORY", where
        "/FILE" and "@REVISION" may follow. What exists as a path is a path.
      offline: Whether to download nothing. The variables FLAX_DENSENET_OFFLINE, HF_HUB_OFFLINE and
        TRANSFORMERS_OFFLINE, set to 1, say the same.

    Raises:
      InputError: There is no such name, or the weights are not on the disk and cannot be
        downloaded.
    """
    offline = offline or is_offline()
    path = Path(source).expanduser()
    if isinstance(source, str) and not os.path.lexists(path):
        if source in PUBLISHED:
            return _find_published(source, offline)
        if source.startswith(_ADDRESSES):
            return _find_address(source, offline)
        if source.startswith(HUB_PREFIX):
            from flax_densenet.weights.published.hub import find_in_hub

            path, notes = find_in_hub(source.removeprefix(HUB_PREFIX), offline=offline)
            return Found(path, None, notes)
        if source.partition("/")[0] in _PUBLISHERS:
            raise InputError(
                f"there are no published weights called {source}{nearest(source, PUBLISHED)}, and "
                "no file; `flax-densenet weights` lists all names"
            )
    return Found(path, _name_of(path))


def is_offline() -> bool:
    """Returns whether the environment says that nothing is to be downloaded."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in _OFFLINE_VARIABLES)


def is_name(source: str) -> bool:
    """Returns whether weights are meant by a name or an address and not by a path."""
    is_known = source in PUBLISHED or source.startswith((*_ADDRESSES, HUB_PREFIX))
    return is_known and not os.path.lexists(Path(source).expanduser())


def find_cached(name: str) -> tuple[Path | None, list[str]]:
    """Looks for published weights on the disk, in our own cache and those of other software.

    Args:
      name: Key of `PUBLISHED`.

    Returns:
      The path, or None; and for each file that is there and is not what it should be, a sentence.
    """
    wrong: list[str] = []
    for file in PUBLISHED[name].files:
        own = (cache / _own_place(name, file) for cache in own_caches())
        for path in (*own, *places(name, file)):
            if not path.is_file():
                continue
            if (fault := _fault(file, path)) is None:
                return path, wrong
            wrong.append(f"{path} {fault}, so that it is not used")
    return None, wrong


def _find_published(name: str, offline: bool) -> Found:
    path, wrong = find_cached(name)
    files = PUBLISHED[name].files
    if path is not None:
        return Found(path, name, (*wrong, *_unchecked(files, path)))
    reasons = [f"nothing is downloaded offline ({_how_offline()})"] if offline else []
    for file in () if offline else files:
        target = own_cache() / _own_place(name, file)
        try:
            download_file(file._replace(url=_mirrored(file.url)), target.parent)
        except DownloadFailed as error:
            reasons.append(str(error))
        else:
            return Found(target, name, (*wrong, *_unchecked(files, target)))
    first = files[0]
    raise InputError(
        f"{name} is not on this machine, and was not downloaded: {'; '.join([*reasons, *wrong])}. "
        f"{_by_hand(first, own_cache() / _own_place(name, first))}"
    )


def _find_address(url: str, offline: bool) -> Found:
    name = unquote(urlsplit(url).path.rpartition("/")[2]) or "weights"
    file = RemoteFile(url, name)
    # Two addresses may end in the same word.
    own = Path("addresses", hashlib.sha256(url.encode()).hexdigest()[:16], name)
    found = (place for cache in own_caches() if (place := cache / own).is_file())
    place = next(found, None) or own_cache() / own
    if not place.is_file():
        if offline:
            raise InputError(
                f"{url} is not on this machine, and nothing is downloaded offline "
                f"({_how_offline()}). {_by_hand(file, place)}"
            )
        try:
            download_file(file, place.parent)
        except DownloadFailed as error:
            raise InputError(
                f"{url} was not downloaded: {error}. {_by_hand(file, place)}"
            ) from error
    if (name_of := _name_of(place)) is not None:
        return Found(place, name_of)
    return Found(place, None, _unchecked((file,), place))


def _own_place(name: str, file: RemoteFile) -> Path:
    """Returns a file's place in a cache of ours."""
    return Path(name.partition("/")[0], file.name)


def _mirrored(url: str) -> str:
    """Returns an address of Hugging Face's hub at the mirror that its variable names."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return f"{mirror}{url.removeprefix(HUB)}" if mirror and url.startswith(f"{HUB}/") else url


def _fault(file: RemoteFile, path: Path) -> str | None:
    try:
        # The hub's cache names what it stores by the sha256 that its server gave.
        if file.checksum is None and _SHA256.fullmatch(blob := path.resolve().name):
            file = file._replace(checksum=Checksum("sha256", blob))
        return file.fault(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _unchecked(files: tuple[RemoteFile, ...], path: Path) -> tuple[str, ...]:
    """Returns a sentence if less than a whole checksum stands behind a file."""
    checks = [file for file in files if file.name == path.name] or list(files[:1])
    checksum, size = checks[0].checksum, checks[0].size
    if (checksum and checksum.is_whole) or _SHA256.fullmatch(path.resolve().name):
        return ()
    known = "the size alone" if size is not None else "nothing"
    if checksum is not None:
        known = f"the first {len(checksum.digits)} digits of its {checksum.algorithm}"
        known += " and the size" if size is not None else ""
    return (
        f"{path.name} could be checked against {known}; its sha256 is {checksum_of(path)}, which "
        "you can compare with that of someone you trust",
    )


def _how_offline() -> str:
    variables = [v for v in _OFFLINE_VARIABLES if os.environ.get(v, "").upper() in _TRUE]
    return f"{variables[0]} is set" if variables else "--offline, or offline=True"


def _by_hand(file: RemoteFile, place: Path) -> str:
    facts = [f"{file.size:,} bytes"] if file.size is not None else []
    facts += [str(file.checksum)] if file.checksum is not None else []
    known = f" ({', '.join(facts)})" if facts else ""
    unpacked = ", unpacked," if file.is_packed else ""
    return (
        f"Download {file.url} where there is a network, and put it{unpacked} at {place}{known}. A "
        "proxy is set with https_proxy, certificates with REQUESTS_CA_BUNDLE, the place with "
        "XDG_CACHE_HOME"
    )


def _name_of(path: Path) -> str | None:
    """Returns the name of published weights if a file, which a user has by itself, is one of them.

    Only what has the name and the whole checksum of one counts.
    """
    if not path.is_file():
        return None
    for name, row in PUBLISHED.items():
        for file in row.files:
            known = file.checksum is not None and file.checksum.is_whole
            prefixed = file.checksum is not None and file.size is not None
            if path.name == file.name and (known or prefixed) and _fault(file, path) is None:
                return name
    return None
