"""Tests of flax_densenet/data/download.py against a server on this machine."""

import gzip
import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flax_densenet import InputError
from flax_densenet.data import find, load_dataset
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.download import DownloadFailed, RemoteFile, download, remote_files
from flax_densenet.data.readers.idx import NAMES
from flax_densenet.tests.test_idx import contents

CONTENT = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, or the files of test_idx.py, or a fault that the address asks for."""

    def do_GET(self) -> None:
        """Answers."""
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        name = os.path.basename(self.path)
        if name == "missing":
            self.send_error(404)
            return
        idx = {f"{part}.gz": gzip.compress(data, mtime=0) for part, data in contents().items()}
        body = idx.get(name, CONTENT)
        self.send_response(200)
        if name != "without_length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name in ("cut", "without_length") else body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server: http.server.HTTPServer, name: str, content: bytes = CONTENT) -> RemoteFile:
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return RemoteFile(url, name, len(content), hashlib.sha256(content).hexdigest())


def test_file_is_saved_after_one_line(
    server: http.server.HTTPServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "new" / "directory"
    download("mine", [remote(server, "good")], directory)
    assert (directory / "good").read_bytes() == CONTENT
    assert list(directory.iterdir()) == [directory / "good"]
    line = f"downloading mine: 1 file(s), 0.2 MiB, from 127.0.0.1 to {directory}\n"
    assert capfd.readouterr() == (line, "")


def test_file_that_is_there_is_not_asked_for(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "first").write_bytes(CONTENT)
    download("mine", [remote(server, "first"), remote(server, "second")], tmp_path)
    assert server.asked == ["/second"]  # type: ignore[attr-defined]
    assert (tmp_path / "second").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("good", b"else", "http://.*/good has another sha256 than [0-9a-f]{64}"),
        ("cut", CONTENT, "the connection to 127.0.0.1:.* broke amid cut"),
        ("without_length", CONTENT, "http://.*/without_length has another sha256 than"),
        ("missing", CONTENT, "404 Client Error: Not Found for url: http://.*/missing"),
    ],
)
def test_fault_leaves_nothing_behind_and_is_not_tried_again(
    name: str,
    content: bytes,
    reason: str,
    server: http.server.ThreadingHTTPServer,
    tmp_path: Path,
) -> None:
    with pytest.raises(DownloadFailed, match=f"^{reason}"):
        download("mine", [remote(server, name, content)], tmp_path)
    assert server.asked == [f"/{name}"]  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_refused_port_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    port = closed_port()
    start = time.monotonic()
    with pytest.raises(DownloadFailed, match=f"^the connection to 127.0.0.1:{port} failed"):
        download("mine", [RemoteFile(f"http://127.0.0.1:{port}/x", "x", 1, "0" * 64)], tmp_path)
    assert time.monotonic() - start < 3
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("flax_densenet.data.download._SILENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DownloadFailed, match=f"^127.0.0.1:{port} did not answer in time"):
            download("mine", [RemoteFile(f"http://127.0.0.1:{port}/x", "x", 1, "0" * 64)], tmp_path)


def test_file_in_the_place_of_the_directory(server: http.server.HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadFailed, match=f"^{tmp_path}/file cannot be written to: "):
        download("mine", [remote(server, "good")], tmp_path / "file")


def test_addresses_and_checksums_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "socket")
    monkeypatch.delattr(socket, "getaddrinfo")
    (file,) = remote_files("cifar10")
    assert file == (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cifar-10-binary.tar.gz",
        170052171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )


@pytest.fixture
def offered(
    server: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[RemoteFile]:
    """What is offered for MNIST; home and download directory are empty."""
    packed = {name: gzip.compress(content, mtime=0) for name, content in contents().items()}
    files = [remote(server, f"{name}.gz", packed[name]) for name in NAMES]
    monkeypatch.setattr(find, "remote_files", lambda tfds_name: files)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return files


def test_data_set_is_downloaded_once_and_read(
    offered: list[RemoteFile],
    server: http.server.ThreadingHTTPServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        data = load_dataset("mnist", None)
        assert (len(data.train), len(data.test)) == (3, 2)
    assert len(server.asked) == 4  # type: ignore[attr-defined]
    directory = tmp_path / "cache" / "flax-densenet" / "datasets" / "mnist"
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        file.name for file in offered
    )
    assert capsys.readouterr().out.count("downloading mnist: 4 file(s)") == 1


def test_download_goes_on_after_a_fault(
    offered: list[RemoteFile], server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    right = offered[2]
    offered[2] = right._replace(sha256="0" * 64)
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
    assert len(server.asked) == 5  # type: ignore[attr-defined]


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
