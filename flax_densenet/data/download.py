"""Downloads of original files, checked against their checksums.

Addresses, sizes and checksums come from tensorflow-datasets, which has them without a network.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

_CONNECT_SECONDS = 5
_SILENCE_SECONDS = 20


class RemoteFile(NamedTuple):
    """A file that can be downloaded.

    Attributes:
      url: Its address.
      name: Name to save it under.
      size: Bytes.
      sha256: Its checksum, as hexadecimal digits.
    """

    url: str
    name: str
    size: int
    sha256: str


class DownloadFailed(Exception):
    """A download that failed; the message is the reason in a few words."""


def remote_files(tfds_name: str) -> list[RemoteFile]:
    """Returns the files of a data set, given its name in tensorflow-datasets."""
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(tfds_name).url_infos
    return [
        RemoteFile(url, info.filename, int(info.size), info.checksum) for url, info in infos.items()
    ]


def download(dataset: str, files: Sequence[RemoteFile], directory: Path) -> None:
    """Downloads the files that a directory lacks, and prints a line about it.

    A file has its name only if its checksum is right, even if the download fails.

    Args:
      dataset: Name of the data set, for that line.
      files: The files.
      directory: Where to save them.

    Raises:
      DownloadFailed: A file did not arrive whole, or cannot be saved; it is not tried again.
    """
    absent = [file for file in files if not (directory / file.name).exists()]
    hosts = dict.fromkeys(urlsplit(file.url).hostname or "" for file in absent)
    size = sum(file.size for file in absent) / 2**20
    print(
        f"downloading {dataset}: {len(absent)} file(s), {size:,.1f} MiB, "
        f"from {', '.join(hosts)} to {directory}",
        flush=True,
    )
    for file in absent:
        _download_file(file, directory)


def _download_file(file: RemoteFile, directory: Path) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # our own line is enough
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=2**16,
        timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS),
        headers={"Accept-Encoding": "identity"},  # otherwise some servers unpack .gz files
    )
    with _reasons(file, directory):
        pooch.retrieve(file.url, f"sha256:{file.sha256}", file.name, directory, None, downloader)


@contextlib.contextmanager
def _reasons(file: RemoteFile, directory: Path) -> Iterator[None]:
    """Turns every failure into a `DownloadFailed`."""
    import requests

    host = urlsplit(file.url).netloc
    try:
        yield
    except requests.HTTPError as error:
        raise DownloadFailed(str(error)) from error  # such as 404, with the address
    except requests.Timeout as error:
        raise DownloadFailed(f"{host} did not answer in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise DownloadFailed(f"the connection to {host} broke amid {file.name}") from error
    except requests.RequestException as error:
        raise DownloadFailed(f"the connection to {host} failed") from error
    except OSError as error:
        raise DownloadFailed(f"{directory} cannot be written to: {error.strerror}") from error
    except ValueError as error:  # pooch's, and it has removed the file
        raise DownloadFailed(f"{file.url} has another sha256 than {file.sha256}") from error
