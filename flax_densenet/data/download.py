"""Downloads the original files of data sets.

Addresses, sizes and checksums come from tensorflow-datasets, which has them without a network.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flax_densenet.download import Checksum, RemoteFile, download_file


def remote_files(tfds_name: str) -> list[RemoteFile]:
    """Returns the files of a data set, given its name in tensorflow-datasets."""
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(tfds_name).url_infos
    return [
        RemoteFile(url, info.filename, int(info.size), Checksum("sha256", info.checksum))
        for url, info in infos.items()
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
    size = sum(file.size or 0 for file in absent) / 2**20
    print(
        f"downloading {dataset}: {len(absent)} file(s), {size:,.1f} MiB, "
        f"from {', '.join(hosts)} to {directory}",
        flush=True,
    )
    for file in absent:
        download_file(file, directory)
