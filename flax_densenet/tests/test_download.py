"""Tests of flax_densenet/download.py and data/download.py against a server on this machine."""

import errno
import gzip
import hashlib
import io
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from flax_densenet import InputError
from flax_densenet.data import find, load_dataset
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.download import download, remote_files
from flax_densenet.data.readers.idx import NAMES
from flax_densenet.download import Checksum, DownloadFailed, RemoteFile, download_file
from flax_densenet.tests.http_server import Answer, Server, serve
from flax_densenet.tests.test_idx import contents

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as server:
        half = len(CONTENT) // 2
        server.answers |= {
            **dict.fromkeys(("/good", "/first", "/second"), Answer(CONTENT)),
            "/cut": Answer(CONTENT, sent=half),
            "/without_length": Answer(CONTENT, sent=half, has_length=False),
            "/page": Answer(b"<html>", headers=(("Content-Type", "text/html; charset=utf-8"),)),
            "/moved": Answer(status=302, headers=(("Location", server.url("/good")),)),
            **{
                f"/{part}.gz": Answer(gzip.compress(data, mtime=0))
                for part, data in contents().items()
            },
        }
        yield server


def sha256(digits: str) -> Checksum:
    return Checksum("sha256", digits)


def remote(server: Server, name: str, content: bytes = CONTENT) -> RemoteFile:
    digits = hashlib.sha256(content).hexdigest()
    return RemoteFile(server.url(f"/{name}"), name, len(content), sha256(digits))


def test_file_is_saved_after_one_line(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "new" / "directory"
    download("mine", [remote(server, "good")], directory)
    assert (directory / "good").read_bytes() == CONTENT
    assert list(directory.iterdir()) == [directory / "good"]
    line = f"downloading mine: 1 file(s), 0.2 MiB, from 127.0.0.1 to {directory}\n"
    assert capfd.readouterr() == (line, "")


def test_file_that_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(CONTENT)
    download("mine", [remote(server, "first"), remote(server, "second")], tmp_path)
    assert server.asked == ["/second"]
    assert (tmp_path / "second").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("good", CONTENT[::-1], "http://.*/good has another sha256 than [0-9a-f]{64}"),
        ("good", b"else", "127.0.0.1:[0-9]+ offers 256,000 bytes instead of 4"),
        ("cut", CONTENT, "the connection to 127.0.0.1:.* broke amid cut"),
        (
            "without_length",
            CONTENT,
            "http://.*/without_length has 128,000 bytes instead of 256,000",
        ),
        ("page", CONTENT, "127.0.0.1:[0-9]+ answered with a web page, as for an error or a login"),
        ("missing", CONTENT, "404 Client Error: Not Found for url: http://.*/missing"),
    ],
)
def test_fault_leaves_nothing_behind_and_is_not_tried_again(
    name: str,
    content: bytes,
    reason: str,
    server: Server,
    tmp_path: Path,
) -> None:
    with pytest.raises(DownloadFailed, match=f"^{reason}"):
        download("mine", [remote(server, name, content)], tmp_path)
    assert server.asked == [f"/{name}"]
    assert list(tmp_path.iterdir()) == []


def test_redirection_is_followed(server: Server, tmp_path: Path) -> None:
    download("mine", [remote(server, "moved")], tmp_path)
    assert (tmp_path / "moved").read_bytes() == CONTENT


def test_end_of_a_file_must_be_known(server: Server, tmp_path: Path) -> None:
    file = RemoteFile(server.url("/without_length"), "x")
    with pytest.raises(DownloadFailed, match=r"^127.0.0.1:.* does not say how long the file is"):
        download_file(file, tmp_path)
    download_file(RemoteFile(server.url("/good"), "x"), tmp_path)  # by its Content-Length
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_what_the_hub_says_of_a_file_is_checked(server: Server, tmp_path: Path) -> None:
    digits = hashlib.sha256(CONTENT).hexdigest()
    for says, size in ((digits, len(CONTENT)), (digits[::-1], len(CONTENT)), (digits, 7)):
        server.answers["/resolve"] = Answer(
            status=302,
            headers=(
                ("Location", server.url("/good")),
                ("X-Linked-Etag", f'"{says}"'),
                ("X-Linked-Size", str(size)),
            ),
        )
        file = RemoteFile(server.url("/resolve"), "x")
        if (says, size) == (digits, len(CONTENT)):
            download_file(file, tmp_path)
            continue
        with pytest.raises(DownloadFailed, match=r"another sha256 than|offers 256,000 bytes"):
            download_file(file, tmp_path)


def test_only_the_known_digits_of_a_checksum_count(server: Server, tmp_path: Path) -> None:
    digits = hashlib.sha1(CONTENT).hexdigest()
    file = remote(server, "good")._replace(checksum=Checksum("sha1", digits[:8]))
    assert str(file.checksum) == f"sha1 {digits[:8]}..."
    download_file(file, tmp_path)
    wrong = "0" if digits[7] != "0" else "1"
    file = file._replace(checksum=Checksum("sha1", digits[:7] + wrong))
    with pytest.raises(DownloadFailed, match="has another sha1 than"):
        download_file(file, tmp_path)


def zipped(**members: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return archive.getvalue()


def test_packed_file_is_unpacked_and_checked(server: Server, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(50_000)
    file = remote(server, "good", content)._replace(is_packed=True)
    server.answers["/good"] = Answer(zipped(weights=content))
    download_file(file, tmp_path)
    assert (tmp_path / "good").read_bytes() == content
    (tmp_path / "good").unlink()
    for body, reason in (
        (zipped(weights=content[::-1]), "has another sha256"),
        (zipped(weights=content, more=b""), "is no zip archive of one file"),
        (content, "is no zip archive of one file"),
        (zipped(weights=bytes(10_000_000)), "claims 10,000,000 bytes"),
    ):
        server.answers["/good"] = Answer(body)
        with pytest.raises(DownloadFailed, match=reason):
            download_file(file, tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flax_densenet.files._flush", full)
    with pytest.raises(DownloadFailed, match=r"good cannot be written \(No space left on device\)"):
        download_file(remote(server, "good"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "error", "reason"),
    [
        ("nothing://x/y", None, "nothing://x/y is no address of a file"),
        ("https://x/y", requests.exceptions.SSLError, "the certificate of x is not trusted here"),
        ("https://x/y", requests.exceptions.ProxyError, "the proxy does not lead to x"),
    ],
)
def test_failures_of_the_way_are_told_apart(
    url: str,
    error: type[Exception] | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get(*args: object, **settings: object) -> None:
        raise error or AssertionError

    if error is not None:
        monkeypatch.setattr(requests, "get", get)
    with pytest.raises(DownloadFailed, match=f"^{reason}$"):
        download_file(RemoteFile(url, "y"), tmp_path)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_refused_port_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    port = closed_port()
    start = time.monotonic()
    with pytest.raises(DownloadFailed, match=f"^the connection to 127.0.0.1:{port} failed"):
        download(
            "mine", [RemoteFile(f"http://127.0.0.1:{port}/x", "x", 1, sha256("0" * 64))], tmp_path
        )
    assert time.monotonic() - start < 3
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("flax_densenet.download._SILENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DownloadFailed, match=f"^127.0.0.1:{port} did not answer in time"):
            download(
                "mine",
                [RemoteFile(f"http://127.0.0.1:{port}/x", "x", 1, sha256("0" * 64))],
                tmp_path,
            )


def test_file_in_the_place_of_the_directory(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadFailed, match=rf"^{tmp_path}/file cannot be written \("):
        download("mine", [remote(server, "good")], tmp_path / "file")


def test_addresses_and_checksums_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "socket")
    monkeypatch.delattr(socket, "getaddrinfo")
    (file,) = remote_files("cifar10")
    assert file == (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cifar-10-binary.tar.gz",
        170052171,
        sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        False,
    )


@pytest.fixture
def offered(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RemoteFile]:
    """What is offered for MNIST; home and download directory are empty."""
    packed = {name: gzip.compress(content, mtime=0) for name, content in contents().items()}
    files = [remote(server, f"{name}.gz", packed[name]) for name in NAMES]
    monkeypatch.setattr(find, "remote_files", lambda tfds_name: files)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return files


def test_data_set_is_downloaded_once_and_read(
    offered: list[RemoteFile],
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        data = load_dataset("mnist", None)
        assert (len(data.train), len(data.test)) == (3, 2)
    assert len(server.asked) == 4
    directory = tmp_path / "cache" / "flax-densenet" / "datasets" / "mnist"
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        file.name for file in offered
    )
    assert capsys.readouterr().out.count("downloading mnist: 4 file(s)") == 1


def test_download_goes_on_after_a_fault(
    offered: list[RemoteFile], server: Server, tmp_path: Path
) -> None:
    right = offered[2]
    offered[2] = right._replace(checksum=sha256("0" * 64))
    directory = tmp_path / "cache" / "flax-densenet" / "datasets" / "mnist"
    message = (
        r"^dataset mnist was not downloaded \(http://.*t10k-images-idx3-ubyte.gz has another "
        rf"sha256 than 0000.*\); looked for train-images-idx3-ubyte\[.gz\] .*, in "
        rf"{tmp_path}/tensorflow_datasets, {directory}; .*; try again later, with a network, "
        "put such files in a directory and give it with --data_dir, or use --dataset digits"
    )
    with pytest.raises(InputError, match=message):
        load_dataset("mnist", None)
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        file.name for file in offered[:2]
    )
    offered[2] = right
    assert len(load_dataset("mnist", None).test) == 2
    assert len(server.asked) == 5


def test_svhn_without_extra_does_not_download_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def refuse(name: str, files: list[RemoteFile], directory: Path) -> None:
        asked.append(sorted(file.name for file in files))
        assert directory == find.download_directory(CATALOG["svhn"])
        raise DownloadFailed("no network in this test")

    monkeypatch.setattr(find, "download", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("svhn", "svhn_without_extra"):
        with pytest.raises(InputError, match=rf"^dataset {name} was not downloaded \(no network"):
            load_dataset(name, None)
    assert asked == [
        ["extra_32x32.mat", "test_32x32.mat", "train_32x32.mat"],
        ["test_32x32.mat", "train_32x32.mat"],
    ]
