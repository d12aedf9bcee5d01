"""Downloads one file over HTTP: checked, whole, or not at all."""

import contextlib
import hashlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from flax_densenet.errors import SavingFailed
from flax_densenet.files import make_directory, written_whole

if TYPE_CHECKING:
    import requests

_CONNECT_SECONDS = 5
_SILENCE_SECONDS = 20
_CHUNK_BYTES = 2**16
_WEB_PAGE = "text/html"
# Where Hugging Face's hub says a file's sha256 and bytes, before it leads to a storage elsewhere.
_HUB_SHA256, _HUB_SIZE = "X-Linked-Etag", "X-Linked-Size"
_SHA256_DIGITS = 64


class Checksum(NamedTuple):
    """A checksum of a file, or as much of it as is known.

    Attributes:
      algorithm: Its name in `hashlib`.
      digits: Its first hexadecimal digits, or all of them.
    """

    algorithm: Literal["sha256", "sha1", "md5"]
    digits: str

    @property
    def is_whole(self) -> bool:
        """Whether all digits are known."""
        return len(self.digits) == 2 * hashlib.new(self.algorithm).digest_size

    def matches(self, path: Path) -> bool:
        """Returns whether a file has this checksum."""
        return checksum_of(path, self.algorithm).startswith(self.digits)

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digits}{'' if self.is_whole else '...'}"


class RemoteFile(NamedTuple):
    """A file that can be downloaded.

    Attributes:
      url: Its address.
      name: Name to save it under.
      size: Bytes; None if not known.
      checksum: What it is checked with; None if nothing is known.
      is_packed: Whether the address gives a zip archive that holds the file, and nothing else. Size
        and checksum are those of the file.
    """

    url: str
    name: str
    size: int | None = None
    checksum: Checksum | None = None
    is_packed: bool = False

    def fault(self, path: Path) -> str | None:
        """Returns why a file on the disk is not this one, in a few words; None if it may be."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes instead of {self.size:,}"
        if self.checksum is not None and not self.checksum.matches(path):
            return f"has another {self.checksum.algorithm} than {self.checksum.digits}"
        return None


class DownloadFailed(Exception):
    """A download that failed; the message is the reason in a few words."""


def checksum_of(path: Path, algorithm: str = "sha256") -> str:
    """Returns the checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download_file(file: RemoteFile, directory: Path) -> None:
    """Downloads a file; it has its name only once it is whole and right.

    Proxies and certificates are those of `requests`: https_proxy, no_proxy, REQUESTS_CA_BUNDLE.

    Args:
      file: The file.
      directory: Where to save it; it is created.

    Raises:
      DownloadFailed: The file did not arrive whole, or cannot be saved; it is not tried again.
    """
    import pooch

    answers = _Answers(file)
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=_CHUNK_BYTES,
        timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS),
        headers={"Accept-Encoding": "identity"},  # otherwise some servers unpack .gz files
        hooks={"response": answers.check},
    )
    try:
        make_directory(directory)
        with written_whole(directory / file.name) as unfinished:
            with _reasons(file):
                downloader(file.url, str(unfinished), None)
            if file.is_packed:
                _unpack(file, unfinished)
            if (fault := answers.expected.fault(unfinished)) is not None:
                raise DownloadFailed(f"{file.url} {fault}")
    except SavingFailed as error:
        raise DownloadFailed(str(error)) from error


class _Answers:
    """What a server says of a file, before its content.

    Attributes:
      expected: The file, with what the server added to our knowledge of it.
    """

    def __init__(self, file: RemoteFile) -> None:
        self.expected = file

    def check(self, response: "requests.Response", **settings: Any) -> None:
        """Looks at one answer, also at one that leads elsewhere.

        Raises:
          DownloadFailed: It is not the file, or it does not say where the file ends.
        """
        sha256 = response.headers.get(_HUB_SHA256, "").strip('"')
        if len(sha256) == _SHA256_DIGITS and self.expected.checksum is None:
            self.expected = self.expected._replace(checksum=Checksum("sha256", sha256))
        size = response.headers.get(_HUB_SIZE, "")
        if not response.is_redirect and response.ok:
            if _WEB_PAGE in response.headers.get("Content-Type", ""):
                raise DownloadFailed(
                    f"{_host(response.url)} answered with a web page, as for an error or a login"
                )
            size = size or response.headers.get("Content-Length", "")
            is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
            known = self.expected.checksum is not None or self.expected.size is not None
            if not size and not is_chunked and not known:
                raise DownloadFailed(
                    f"{_host(response.url)} does not say how long the file is, so that a part of "
                    "it could not be told from the whole"
                )
        if size.isdecimal() and not self.expected.is_packed:
            wanted = self.expected.size
            if wanted not in (None, int(size)):
                raise DownloadFailed(
                    f"{_host(response.url)} offers {int(size):,} bytes instead of {wanted:,}"
                )
            self.expected = self.expected._replace(size=int(size))


def _unpack(file: RemoteFile, archive: Path) -> None:
    """Replaces an archive by the one file in it."""
    packed = archive.with_name(f"{archive.name}.zip")
    archive.replace(packed)
    try:
        with zipfile.ZipFile(packed) as members:
            (member,) = members.infolist()
            # Weights hardly shrink: what would fill the disk is not unpacked.
            if member.file_size > 2 * packed.stat().st_size:
                raise DownloadFailed(f"what {file.url} gives claims {member.file_size:,} bytes")
            with members.open(member) as source, archive.open("xb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DownloadFailed(f"what {file.url} gives is no zip archive of one file") from error
    finally:
        packed.unlink()


@contextlib.contextmanager
def _reasons(file: RemoteFile) -> Iterator[None]:
    """Turns every failure of the network into a `DownloadFailed`."""
    import requests

    host = _host(file.url)
    try:
        yield
    except requests.HTTPError as error:
        raise DownloadFailed(str(error)) from error  # such as 404, with the address
    except requests.Timeout as error:
        raise DownloadFailed(f"{host} did not answer in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise DownloadFailed(f"the connection to {host} broke amid {file.name}") from error
    except requests.exceptions.SSLError as error:
        raise DownloadFailed(f"the certificate of {host} is not trusted here") from error
    except requests.exceptions.ProxyError as error:
        raise DownloadFailed(f"the proxy does not lead to {host}") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise DownloadFailed(f"{file.url} is no address of a file") from error
    except requests.RequestException as error:
        raise DownloadFailed(f"the connection to {host} failed") from error


def _host(url: str) -> str:
    return urlsplit(url).netloc
