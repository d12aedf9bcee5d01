"""Reads files of an archive or a directory into memory."""

import gzip
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from flax_densenet.data.readers.originals import damaged, read_file, unreadable

_CHUNK = 2**20  # bytes


def read_archive(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """Reads members of a .tar.gz file.

    Args:
      archive: The file.
      names: Last parts of the members' names, in any folder.

    Returns:
      The content of each.

    Raises:
      InputError: The archive cannot be read or is damaged, or a member is missing or twice there.
    """
    contents: dict[str, bytes] = {}
    try:
        with (
            archive.open("rb") as file,
            gzip.open(file) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as members,
        ):
            for member in members:
                name = PurePosixPath(member.name).name
                data = members.extractfile(member) if name in names and member.isfile() else None
                if data is None:
                    continue
                if name in contents:
                    raise damaged(archive, f"holds several files {name}", "one of each")
                contents[name] = data.read()
            while unpacked.read(_CHUNK):  # the checksum is at the end
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged(archive, f"cannot be unpacked ({error})", "a whole .tar.gz file") from error
    except OSError as error:
        raise unreadable(archive, error) from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise damaged(
            archive, f"holds no {', '.join(missing)}", f"an archive of {', '.join(names)}"
        )
    return contents


def read_directory(directory: Path, names: Collection[str]) -> dict[str, bytes]:
    """Reads files of a directory.

    Args:
      directory: The directory.
      names: Names of the files.

    Returns:
      The content of each.

    Raises:
      InputError: A file is missing or cannot be read.
    """
    return {name: read_file(directory / name) for name in names}
