"""Tests of flax_densenet/data/readers/cifar.py, archive.py and batch_pickle.py on files written here."""

import gzip
import io
import os
import pickle
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data import ArraySplit
from flax_densenet.data.readers.archive import read_archive, read_directory
from flax_densenet.data.readers.cifar import (
    CIFAR10_BINARY,
    CIFAR10_PICKLED,
    CIFAR100_BINARY,
    CIFAR100_PICKLED,
    Layout,
    read_cifar,
)
from flax_densenet.data.readers.originals import Splits

Files = dict[str, bytes]
TRAIN_LABELS = [[3, 9], [0], [1, 1, 4], [8], [7]]  # batch by batch
TEST_LABELS = [5, 2]
NAMES = {10: [f"animal{i}" for i in range(10)], 100: [f"thing_{i}" for i in range(100)]}


def pixel(number: int, channel: int, row: int, column: int) -> int:
    return (number * 83 + channel * 71 + row * 3 + column * 37) % 256


def planes(number: int) -> bytes:
    """An image as the authors' files have it: all red values row by row, then green, then blue."""
    return bytes(
        pixel(number, channel, row, column)
        for channel in range(3)
        for row in range(32)
        for column in range(32)
    )


def python2_string(text: bytes) -> bytes:
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def python2_list(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def python2_array(rows: list[bytes]) -> bytes:
    """What Python 2 and its numpy wrote for an array [N, 3072] of uint8."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    shape = b"(K" + bytes([len(rows)]) + b"M\x00\x0ct"
    content = python2_string(b"".join(rows))
    return empty + b"(K\x01" + shape + dtype + b"K\x00tb\x89" + content + b"tb"


def python2_dict(**items: bytes) -> bytes:
    content = b"".join(python2_string(key.encode()) + value for key, value in items.items())
    return b"\x80\x02}(" + content + b"u."


def python2_batch(label_key: str, numbers: range, label: list[int]) -> bytes:
    return python2_dict(
        batch_label=python2_string(b"a batch"),
        data=python2_array([planes(number) for number in numbers]),
        filenames=python2_list([python2_string(b"a.png") for _ in numbers]),
        **{label_key: python2_list([b"K" + bytes([number]) for number in label])},
    )


def python3_batch(label_key: str, numbers: range, label: list[int]) -> bytes:
    """A batch as it is when a newer Python has pickled it again, in the old protocol."""
    data = np.array([np.frombuffer(planes(number), np.uint8) for number in numbers])
    return pickle.dumps({b"data": data, label_key.encode(): label}, protocol=2)


def labels_of_files(layout: Layout) -> list[tuple[str, list[int]]]:
    train = TRAIN_LABELS
    if len(layout.train) == 1:
        train = [[number for label in TRAIN_LABELS for number in label]]
    return list(zip((*layout.train, layout.test), (*train, TEST_LABELS), strict=True))


def pickled(layout: Layout, write: Callable[[str, range, list[int]], bytes]) -> Files:
    names, first = NAMES[layout.num_classes], 0
    keys = ("labels", "label_names") if len(names) == 10 else ("fine_labels", "fine_label_names")
    files = {}
    for name, label in labels_of_files(layout):
        files[name] = write(keys[0], range(first, first + len(label)), label)
        first += len(label)
    words = python2_list([python2_string(name.encode()) for name in names])
    return files | {layout.class_names: python2_dict(num_vis=b"M\x00\x0c", **{keys[1]: words})}


def binary(layout: Layout) -> Files:
    coarse = b"\x13" if layout.num_classes == 100 else b""
    number = 0
    files = {}
    for name, label in labels_of_files(layout):
        files[name] = b""
        for fine in label:
            files[name] += coarse + bytes([fine]) + planes(number)
            number += 1
    text = "\n".join(NAMES[layout.num_classes]) + "\n\n"  # with an empty line, as the authors'
    return files | {layout.class_names: text.encode()}


VERSIONS: dict[str, tuple[Layout, Callable[[], Files]]] = {
    "10-python2": (CIFAR10_PICKLED, lambda: pickled(CIFAR10_PICKLED, python2_batch)),
    "10-python3": (CIFAR10_PICKLED, lambda: pickled(CIFAR10_PICKLED, python3_batch)),
    "10-binary": (CIFAR10_BINARY, lambda: binary(CIFAR10_BINARY)),
    "100-python2": (CIFAR100_PICKLED, lambda: pickled(CIFAR100_PICKLED, python2_batch)),
    "100-python3": (CIFAR100_PICKLED, lambda: pickled(CIFAR100_PICKLED, python3_batch)),
    "100-binary": (CIFAR100_BINARY, lambda: binary(CIFAR100_BINARY)),
}


def pack(path: Path, files: Files, folder: str = "cifar/") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read_packed(directory: Path, layout: Layout, files: Files, folder: str = "cifar/") -> Splits:
    return read_cifar((pack(directory / "x.tar.gz", files, folder),), layout, read_archive)


def assert_as_written(split: ArraySplit, first: int, label: list[int]) -> None:
    assert (split.image.shape, split.image.dtype) == ((len(label), 32, 32, 3), np.uint8)
    assert split.label.dtype == np.int32
    assert split.label.tolist() == label
    i, row, column, channel = np.indices(split.image.shape)
    expected = np.vectorize(pixel)(first + i, channel, row, column)
    np.testing.assert_array_equal(split.image, expected)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "directory"])
@pytest.mark.parametrize("version", VERSIONS)
def test_written_pixels_labels_and_names_are_read(
    version: str, packed: bool, tmp_path: Path
) -> None:
    layout, write = VERSIONS[version]
    if packed:
        train, test, class_names = read_packed(tmp_path, layout, write())
    else:
        for name, content in write().items():
            (tmp_path / name).write_bytes(content)
        train, test, class_names = read_cifar((tmp_path,), layout, read_directory)
    assert_as_written(train, 0, [3, 9, 0, 1, 1, 4, 8, 7])
    assert_as_written(test, 8, [5, 2])
    assert class_names == tuple(NAMES[layout.num_classes])


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_both_names_of_numpys_module_are_read(module: str, tmp_path: Path) -> None:
    files = pickled(CIFAR100_PICKLED, python2_batch)
    old = b"numpy.core.multiarray"
    assert files["test"].count(old) == 1
    files["test"] = files["test"].replace(old, module.encode())
    assert_as_written(read_packed(tmp_path, CIFAR100_PICKLED, files).test, 8, TEST_LABELS)


def test_fortran_order_newer_protocol_and_an_array_of_labels_are_read(tmp_path: Path) -> None:
    files = pickled(CIFAR100_PICKLED, python2_batch)
    data = np.asfortranarray([np.frombuffer(planes(8 + i), np.uint8) for i in (0, 1)])
    batch = {"data": data, "fine_labels": np.array(TEST_LABELS, ">i8")}
    files["test"] = pickle.dumps(batch, protocol=4)
    assert_as_written(read_packed(tmp_path, CIFAR100_PICKLED, files).test, 8, TEST_LABELS)


@pytest.mark.parametrize("folder", ["", "./cifar-100-binary/", "/data/", "../", "a/b/c/"])
def test_folder_of_a_member_does_not_matter(folder: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    train, test, _ = read_packed(tmp_path, CIFAR100_BINARY, binary(CIFAR100_BINARY), folder)
    assert (len(train), len(test)) == (8, 2)
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, tmp_path / "x.tar.gz"])


def test_windows_path_of_a_member_is_refused(tmp_path: Path) -> None:
    message = r"holds no train\.bin, test\.bin, fine_label_names\.txt; wanted"
    with pytest.raises(InputError, match=message):
        read_packed(tmp_path, CIFAR100_BINARY, binary(CIFAR100_BINARY), "C:\\")


def test_files_of_macos_beside_the_members_are_passed_over(tmp_path: Path) -> None:
    files = pickled(CIFAR10_PICKLED, python2_batch)
    beside = {f"._{name}": b"\x00\x05\x16\x07" for name in files}
    assert len(read_packed(tmp_path, CIFAR10_PICKLED, beside | files).train) == 8


def test_link_in_the_place_of_a_member_is_refused(tmp_path: Path) -> None:
    archive_file = tmp_path / "x.tar.gz"
    with tarfile.open(archive_file, "w:gz") as archive:
        link = tarfile.TarInfo("train.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match=r"holds no train\.bin, .*; wanted an archive of train"):
        read_cifar((archive_file,), CIFAR100_BINARY, read_archive)


def test_member_in_two_folders_is_refused(tmp_path: Path) -> None:
    files = binary(CIFAR100_BINARY)
    with pytest.raises(InputError, match=r"x.tar.gz holds several files test.bin; wanted one"):
        read_packed(tmp_path, CIFAR100_BINARY, files | {"other/test.bin": b"x"})


class Marker:
    """Creates a file when it is unpickled without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("member", ["data_batch_3", "batches.meta"])
def test_malicious_pickle_is_refused_and_not_run(member: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    files = pickled(CIFAR10_PICKLED, python2_batch)
    files[member] = pickle.dumps({"data": Marker(marker)}, protocol=2)
    message = (
        rf"^{member} in .*x\.tar\.gz is a pickle that names posix\.mkdir; wanted numbers, names "
        "and numpy arrays alone; nothing in it was run; get the file again"
    )
    with pytest.raises(InputError, match=message):
        read_packed(tmp_path, CIFAR10_PICKLED, files)
    assert not marker.exists()
    pickle.loads(files[member])
    assert marker.exists()  # so the pickle was one that does harm


@pytest.mark.parametrize(
    "name", ["builtins eval", "__builtin__ getattr", "codecs encode", "numpy fromfile", "os system"]
)
def test_every_other_global_is_refused(name: str, tmp_path: Path) -> None:
    files = binary(CIFAR10_BINARY) | pickled(CIFAR10_PICKLED, python2_batch)
    files["test_batch"] = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."
    with pytest.raises(InputError, match=f"names {name.replace(' ', '.')}; "):
        read_packed(tmp_path, CIFAR10_PICKLED, files)


# numpy's own classes read memory that is not theirs when they are called like this.
FORGED_ARRAY = b"cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\nU\x01O\x85RU\x08AAAAAAAAtR"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (b"", r"cannot be unpickled \(EOFError: Ran out of input\); wanted a whole pickle"),
        (b"no pickle", "cannot be unpickled"),
        (python2_batch("labels", range(2), [1, 2])[:-700], "cannot be unpickled .*truncated"),
        (b"\x80\x02].", "holds a list; wanted a pickled dictionary"),
        (python2_dict(data=b"N"), r"has the keys \['data'\]; wanted 'labels' among them"),
        (python2_dict(labels=b"]"), r"has the keys \['labels'\]; wanted 'data' among them"),
        (python2_dict(data=b"N", labels=b"]"), r"else under 'data'; wanted an array uint8 \[N"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "labels": [1]}, 2), "ValueError: array of f8"),
        (pickle.dumps({"data": np.array([None]), "labels": [1]}, 2), "ValueError: array of O8"),
        (python2_dict(data=FORGED_ARRAY, labels=b"]"), "cannot be unpickled"),
        (
            pickle.dumps({"data": np.zeros((1, 3072), int), "labels": [1]}, 2),
            "else under 'data'; wanted an array uint8",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, 2),
            "else under 'data'",
        ),
        (python2_dict(data=python2_array([planes(0)]), labels=b"N"), "else under 'labels'; wanted"),
        (
            python2_dict(data=python2_array([planes(0)]), labels=python2_list([b"N"])),
            "else under 'labels'; wanted a list of integers",
        ),
        (
            python2_batch("labels", range(2), [1, 2, 3]),
            "has 2 images and 3 labels; wanted the same",
        ),
        (
            python2_batch("labels", range(2), [1, 10]),
            "has 1 labels outside the 10 classes, first label 10 of image 1; wanted 0 to 9",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [-(2**80)]}, 2),
            "first label -1208925819614629174706176 of image 0",
        ),
    ],
)
def test_damaged_batch_is_refused(batch: bytes, message: str, tmp_path: Path) -> None:
    files = pickled(CIFAR10_PICKLED, python2_batch) | {"data_batch_2": batch}
    start = f"data_batch_2 in {tmp_path}/x.tar.gz"
    with pytest.raises(InputError, match=f"^{start} .*{message}.*; get the file again$"):
        read_packed(tmp_path, CIFAR10_PICKLED, files)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (python2_dict(fine_label_names=b"]"), r"\['fine_label_names'\]; wanted 'label_names'"),
        (python2_dict(label_names=b"]"), "names 0 classes; wanted 10"),
        (python2_dict(label_names=b"K\x01"), "else under 'label_names'; wanted a list of names"),
        (python2_dict(label_names=python2_list([b"K\x01"])), "wanted a list of names"),
    ],
)
def test_damaged_names_are_refused(meta: bytes, message: str, tmp_path: Path) -> None:
    files = pickled(CIFAR10_PICKLED, python2_batch) | {"batches.meta": meta}
    with pytest.raises(InputError, match=rf"^batches\.meta in .*{message}"):
        read_packed(tmp_path, CIFAR10_PICKLED, files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train.bin": b"\x00\x01" + planes(0)[:-1]},
            r"^train\.bin in .* has 3073 bytes; wanted a multiple of 3074, which is 2 for labels",
        ),
        ({"test.bin": b"\x00\x64" + planes(0)}, "outside the 100 classes, first label 100 of"),
        ({"fine_label_names.txt": b"a\r\nb\r\n"}, "names 2 classes; wanted 100"),
    ],
)
def test_damaged_binary_version_is_refused(changed: Files, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_packed(tmp_path, CIFAR100_BINARY, binary(CIFAR100_BINARY) | changed)


def test_missing_member_is_refused(tmp_path: Path) -> None:
    files = binary(CIFAR10_BINARY)
    del files["data_batch_4.bin"]
    with pytest.raises(InputError, match=r"x\.tar\.gz holds no data_batch_4\.bin; wanted an arc"):
        read_packed(tmp_path, CIFAR10_BINARY, files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"/data_batch_4\.bin cannot be read: No such file"):
        read_cifar((tmp_path,), CIFAR10_BINARY, read_directory)


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = pack(tmp_path / "x.tar.gz", binary(CIFAR100_BINARY)).read_bytes()
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # in the checksum
    contents = {
        "empty": b"",
        "text": b"<html>not found</html>",
        "not tar": gzip.compress(b"text" * 999),
        "head": whole[:5],
        "half": whole[: len(whole) // 2],
        "nearly whole": whole[:-1],
        "no end": gzip.compress(gzip.decompress(whole)[:5000]),
        "flipped": bytes(flipped),
    }
    for what, content in contents.items():
        file = tmp_path / f"{what}.tar.gz"
        file.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"^{file} cannot be unpacked \(.*\.tar\.gz file; get"
        ):
            read_cifar((file,), CIFAR100_BINARY, read_archive)


def test_flipped_bytes_never_give_a_traceback(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    files = pickled(CIFAR100_PICKLED, python2_batch)
    plain = gzip.decompress(pack(tmp_path / "x.tar.gz", files).read_bytes())
    heads = [match.start() for match in re.finditer(b"cifar/", plain)]
    for _ in range(200):
        damaged = bytearray(plain)
        for place in draw.choice(heads, 2):
            damaged[place + draw.integers(0, 700)] = draw.integers(0, 256)
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(damaged), 1))
        try:
            read_cifar((tmp_path / "x.tar.gz",), CIFAR100_PICKLED, read_archive)
        except InputError as error:
            assert "get the file again" in str(error)


def test_directory_and_forbidden_file_in_the_place_of_an_archive_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path} cannot be read: Is a directory; wanted"):
        read_cifar((tmp_path,), CIFAR10_PICKLED, read_archive)
    file = pack(tmp_path / "x.tar.gz", {})
    with pytest.raises(InputError, match=r"x\.tar\.gz/train\.bin cannot be read: Not a directory"):
        read_cifar((file,), CIFAR100_BINARY, read_directory)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=f"^{file} cannot be read: Permission denied; wanted"):
        read_cifar((file,), CIFAR10_PICKLED, read_archive)
