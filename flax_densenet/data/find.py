"""Finds or downloads the files of a data set."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from flax_densenet import cache
from flax_densenet.data.catalog import CATALOG, CatalogRow, FileForm
from flax_densenet.data.download import download, remote_files
from flax_densenet.data.readers.originals import Splits
from flax_densenet.data.tfds import DEFAULT_DIRECTORY, prepared_version, read_tfds
from flax_densenet.download import DownloadFailed, RemoteFile
from flax_densenet.errors import InputError


class Source(NamedTuple):
    """A place of a data set.

    Attributes:
      paths: The files, or the directory of a prepared data set.
      read: Reads them.
    """

    paths: tuple[Path, ...]
    read: Callable[[], Splits]


def find_source(name: str, data_dir: str | None) -> Source:
    """Finds a data set on the disk, or else downloads it.

    Args:
      name: One of `CATALOG`.
      data_dir: Directory to look in: first for original files, then for a data set prepared by
        tensorflow-datasets. None looks for prepared data in that library's own directory, then
        for files in the operating system's and in the download directory, and then downloads.

    Returns:
      The first place found.

    Raises:
      InputError: It is nowhere, and was not downloaded.
    """
    row = CATALOG[name]
    if data_dir is not None:
        return _find_in(name, row, _existing_directory(data_dir))
    prepared_directory = Path(os.path.expanduser(DEFAULT_DIRECTORY))
    directories = [*map(Path, row.system_directories), *cache.cache_places(_kept(row))]
    source = _find_prepared(row, prepared_directory) or _find_files(row, directories)
    if source is None:
        target = download_directory(row)
        try:
            download(name, _wanted_files(row), target)
        except DownloadFailed as error:
            reason = f"was not downloaded ({error})"
            looked_in = [prepared_directory, *directories]
            way_out = "try again later, with a network"
            raise _absent(name, row, reason, looked_in, way_out) from error
        source = _find_files(row, [target])
        assert source is not None
    return source


def download_directory(row: CatalogRow) -> Path:
    """Returns where downloaded files are kept; data sets with files in common share one."""
    return cache.download_directory(_kept(row))


def _kept(row: CatalogRow) -> str:
    return f"datasets/{row.tfds_name}"


def _find_in(name: str, row: CatalogRow, directory: Path) -> Source:
    directories = [directory, *(directory / part for part in row.subdirectories)]
    if any(directory.name in form.names for form in row.forms):
        directories.append(directory.parent)  # the directory itself is the data set
    source = _find_files(row, directories) or _find_prepared(row, directory)
    if source is None:
        way_out = "leave out --data_dir to download it, which needs a network"
        raise _absent(name, row, "was not found", directories, way_out)
    return source


def _existing_directory(data_dir: str) -> Path:
    directory = Path(data_dir).expanduser().absolute()
    if not directory.is_dir():
        got = "a file" if directory.exists() else "missing"
        raise InputError(f"data_dir (={data_dir!r}) is {got}; wanted the directory with the files")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise InputError(f"data_dir (={data_dir!r}) may not be read; change its permissions")
    return directory


def _find_files(row: CatalogRow, directories: Iterable[Path]) -> Source | None:
    for form in row.forms:
        for directory in directories:
            paths = [_find_file(form, name, directory) for name in form.names]
            present = tuple(path for path in paths if path is not None)
            if len(present) == len(paths):
                return Source(present, functools.partial(form.read, present))
    return None


def _find_file(form: FileForm, name: str, directory: Path) -> Path | None:
    candidates = (directory / f"{name}{ending}" for ending in form.endings)
    return next((path for path in candidates if os.path.exists(path)), None)


def _find_prepared(row: CatalogRow, directory: Path) -> Source | None:
    version = prepared_version(row.tfds_name, directory)
    if version is None:
        return None
    name = f"{row.tfds_name}:{version}"
    return Source(
        (directory / row.tfds_name / version,),
        functools.partial(read_tfds, name, str(directory), row.tfds_train_splits),
    )


def _wanted_files(row: CatalogRow) -> list[RemoteFile]:
    names = {name + ending for form in row.forms for name in form.names for ending in form.endings}
    return [file for file in remote_files(row.tfds_name) if file.name in names]


def _absent(
    name: str, row: CatalogRow, reason: str, looked_in: Iterable[Path], way_out: str
) -> InputError:
    looked_in = list(looked_in)
    forms = [" + ".join(f"{part}{_choice(form)}" for part in form.names) for form in row.forms]
    prepared = f"{row.tfds_name}/<version> as tensorflow-datasets prepares it (array_record)"
    gaps = [
        f"; {directory} lacks {', '.join(missing)}"
        for form in row.forms
        for directory in looked_in
        if 0 < len(missing := _missing(form, directory)) < len(form.names)
    ]
    smaller = ""
    if row.smaller is not None:
        needed = " and ".join(CATALOG[row.smaller].forms[0].names)
        smaller = f", use --dataset {row.smaller}, which needs {needed} alone"
    return InputError(
        f"dataset {name} {reason}; looked for {', or '.join([*forms, prepared])}, in "
        f"{', '.join(map(str, looked_in))}{''.join(gaps)}; {way_out}, put such files in a "
        f"directory and give it with --data_dir{smaller}, or use --dataset digits, which needs no "
        "files"
    )


def _choice(form: FileForm) -> str:
    return "".join(f"[{ending}]" for ending in form.endings if ending)


def _missing(form: FileForm, directory: Path) -> list[str]:
    return [name for name in form.names if _find_file(form, name, directory) is None]
