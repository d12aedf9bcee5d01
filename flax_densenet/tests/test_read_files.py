"""What is no weight file is refused in one line that says what it is."""

import os
import pickle
import zipfile
from pathlib import Path

import flax.serialization
import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.weights.files import read_weights, write_safetensors

_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"\(0 bytes\) is empty"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 123\n",
        "git-LFS pointer.*git lfs pull",
    ),
    "html": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "json": (b'{"architectures": ["DenseNet"]}', "is JSON, not weights"),
    "json with { as the ninth byte": (b'[       {"a": 1}]', "is JSON, not weights"),
    "text": ("Größe: 3\n".encode() * 1000, "is text, not weights.*'Größe"),
    "pickle": (pickle.dumps({"params": np.ones(3)}), "is a pickle that torch.save did not make"),
    "protocol 2": (pickle.dumps({"params": 3}, 2), "is a pickle that torch.save did not make"),
    "msgpack": (
        flax.serialization.msgpack_serialize({"params": {"conv0": {"kernel": np.ones((3, 3))}}}),
        "MessagePack.*PyTorch .*safetensors",
    ),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(100), "compressed with gzip; decompress"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.13\xff", "no known format .*08 07 12 07 70"),
    "zeros": (bytes(1000), "no known format .*00 00"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "tar archive, perhaps of PyTorch before"),
    "cut zip": (b"PK\x03\x04" + bytes(1000), r"\(1,004 bytes\) is damaged or cut off"),
    "cut HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(1000), "is damaged or cut off"),
    "one byte": (b"\x80", "no known format"),
}


@pytest.mark.parametrize("name", _FILES)
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "h5"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    content, message = _FILES[name]
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_weights(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("arr_0.npy", "a zip archive of arr_0.npy"),
        ("model.weights.h5", "is a .keras archive"),
        (
            "archive/constants.pkl",
            "is a TorchScript program, .* save its weights alone",
        ),
    ],
)
def test_another_zip_archive_is_named(tmp_path: Path, member: str, message: str) -> None:
    file = tmp_path / "x.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, b"abc")
    with pytest.raises(InputError, match=message):
        read_weights(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_bombs_are_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(InputError, match="compressed or encrypted members"):
        read_weights(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"abc")
        archive.writestr("archive/data.pkl", b"abc")
    with pytest.raises(InputError, match="two members of one name"):
        read_weights(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"abc")
        archive.infolist()[0].file_size = 2**40
    with pytest.raises(InputError, match="claims members larger than itself"):
        read_weights(file)


def test_without_torch_a_pytorch_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    file = tmp_path / "x.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"abc")
    with pytest.raises(InputError, match=r"needs torch; install flax-densenet\[torch\], or give"):
        read_weights(file)


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "x.pth")
    (tmp_path / "link").symlink_to(tmp_path / "x.pth")
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "link")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    for special in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(InputError, match="is neither a file nor a directory"):
            read_weights(special)


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "x.pth"
    file.write_bytes(b"abc")
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InputError, match=r"\(3 bytes\) cannot be read \(Permission denied\)"):
        read_weights(file)


def test_a_link_is_followed(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x", {"a": np.ones(2)}, {}, overwrite=False)
    (tmp_path / "link.pth").symlink_to("x")
    assert read_weights(tmp_path / "link.pth").arrays.keys() == {("a",)}
