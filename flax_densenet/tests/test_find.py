"""Tests of flax_densenet/data/find.py: which files are taken, and what is said without any."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import InputError
from flax_densenet.data import find, load_dataset
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.find import find_source
from flax_densenet.tests import test_cifar, test_idx, test_svhn
from flax_densenet.tests.prepared import examples, prepare


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and no way to download."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delattr(find, "download")
    return home


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def write_idx(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    test_idx.write(directory, test_idx.contents())


def write_cifar(version: str, unpacked: str, packed: str | None = None) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        files = test_cifar.VERSIONS[version][1]()
        if packed is not None:
            test_cifar.pack(directory / packed, files, f"{unpacked}/")
            return
        (directory / unpacked).mkdir()
        for name, content in files.items():
            (directory / unpacked / name).write_bytes(content)

    return write


def write_svhn(directory: Path, *, extra: bool = True) -> None:
    for i, part in enumerate(("train", "test", "extra")[: 2 + extra]):
        test_svhn.write(directory / f"{part}_32x32.mat", i, [1, 10, 2])


CIFAR10 = {
    "cifar-10-python.tar.gz": write_cifar(
        "10-python2", "cifar-10-batches-py", "cifar-10-python.tar.gz"
    ),
    "cifar-10-batches-py": write_cifar("10-python2", "cifar-10-batches-py"),
    "cifar-10-binary.tar.gz": write_cifar(
        "10-binary", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
    ),
    "cifar-10-batches-bin": write_cifar("10-binary", "cifar-10-batches-bin"),
}
CIFAR100 = {
    "cifar-100-python.tar.gz": write_cifar(
        "100-python2", "cifar-100-python", "cifar-100-python.tar.gz"
    ),
    "cifar-100-python": write_cifar("100-python2", "cifar-100-python"),
    "cifar-100-binary.tar.gz": write_cifar(
        "100-binary", "cifar-100-binary", "cifar-100-binary.tar.gz"
    ),
    "cifar-100-binary": write_cifar("100-binary", "cifar-100-binary"),
}


@pytest.mark.parametrize(
    ("name", "form", "write"),
    [("cifar10", *item) for item in CIFAR10.items()]
    + [("cifar100", *item) for item in CIFAR100.items()],
)
def test_every_form_of_cifar_is_read(
    name: str, form: str, write: Callable[[Path], None], data_dir: Path
) -> None:
    write(data_dir)
    data = load_dataset(name, str(data_dir))
    assert (data.name, len(data.train), len(data.test)) == (name, 8, 2)
    classes = 10 if name == "cifar10" else 100
    assert data.class_names == tuple(test_cifar.NAMES[classes])
    assert data.channel_statistics() == CATALOG[name].published_statistics
    itself = data_dir / form
    if itself.is_dir():
        assert find_source(name, str(itself)).paths == (itself,)


def test_first_form_is_taken(data_dir: Path) -> None:
    for write in reversed(CIFAR10.values()):
        write(data_dir)
    prepare(data_dir, name="cifar10", version="3.0.2", train=examples(4), test=examples(3))
    for form in CIFAR10:
        assert find_source("cifar10", str(data_dir)).paths == (data_dir / form,)
        os.rename(data_dir / form, data_dir / f"not-{form}")
    assert find_source("cifar10", str(data_dir)).paths == (data_dir / "cifar10" / "3.0.2",)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "."),
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion-mnist"),
    ],
)
def test_usual_places_of_idx_files_are_looked_in(name: str, place: str, data_dir: Path) -> None:
    write_idx(data_dir / place)
    data = load_dataset(name, str(data_dir))
    assert (data.name, len(data.train), len(data.test)) == (name, 3, 2)
    assert data.class_names[9] == ("9" if name == "mnist" else "Ankle boot")
    assert data.published_statistics is None


def test_mnist_and_fashion_mnist_lie_beside_each_other(data_dir: Path) -> None:
    for place in ("MNIST/raw", "FashionMNIST/raw"):
        write_idx(data_dir / place)
    for name, place in (("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")):
        assert find_source(name, str(data_dir)).paths[0].parent == data_dir / place


def test_svhn_trains_on_extra_images_unless_they_are_left_out(data_dir: Path) -> None:
    write_svhn(data_dir)
    svhn, smaller = (load_dataset(name, str(data_dir)) for name in ("svhn", "svhn_without_extra"))
    assert (len(svhn.train), len(smaller.train)) == (6, 3)
    assert svhn.channel_statistics() == ((0, 0, 0), (255, 255, 255))
    assert svhn.class_names == tuple("0123456789")


def test_prepared_data_set_gets_name_and_statistics(data_dir: Path) -> None:
    parts: Any = {"train": examples(4), "extra": examples(5), "test": examples(3)}
    prepare(data_dir, name="svhn_cropped", version="3.1.0", **parts)
    for name, n in (("svhn", 9), ("svhn_without_extra", 4)):
        data = load_dataset(name, str(data_dir))
        assert (data.name, len(data.train), len(data.test)) == (name, n, 3)
        assert data.published_statistics == ((0, 0, 0), (255, 255, 255))


def test_prepared_svhn_without_extra_is_refused_for_svhn(data_dir: Path) -> None:
    prepare(data_dir, name="svhn_cropped", version="3.1.0", train=examples(4), test=examples(3))
    with pytest.raises(
        InputError, match=r"splits \['test', 'train'\]; wanted train, extra, and te"
    ):
        load_dataset("svhn", str(data_dir))


def test_newest_prepared_version_is_taken_even_if_it_is_old(data_dir: Path) -> None:
    for version, n in (("2.9.0", 5), ("2.10.0", 6)):
        prepare(data_dir, name="mnist", version=version, train=examples(n), test=examples(3))
    assert len(load_dataset("mnist", str(data_dir)).train) == 6


@pytest.mark.parametrize("info", ['{"fileFormat": "tfrecord"}', "[]", "{", "\x00"])
def test_prepared_in_another_format_is_not_taken(info: str, data_dir: Path) -> None:
    file = data_dir / "mnist" / "3.0.1" / "dataset_info.json"
    file.parent.mkdir(parents=True)
    file.write_text(info)
    message = r"^dataset mnist was not found; .*mnist/<version> as .* prepares it \(array_record\)"
    with pytest.raises(InputError, match=message):
        load_dataset("mnist", str(data_dir))


def test_order_of_the_usual_places(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system"
    row = CATALOG["fashion_mnist"]
    assert row.system_directories == ("/usr/share/datasets/fashion-mnist",)
    monkeypatch.setitem(CATALOG, "fashion_mnist", row._replace(system_directories=(str(system),)))
    places = [home / ".cache/flax-densenet/datasets/fashion_mnist", system]
    for place in places:
        write_idx(place)
        paths = find_source("fashion_mnist", None).paths
        assert paths == tuple(place / name for name in test_idx.NAMES)
    prepare(
        home / "tensorflow_datasets",
        name="fashion_mnist",
        version="3.0.1",
        train=examples(4),
        test=examples(3),
    )
    prepared = home / "tensorflow_datasets" / "fashion_mnist" / "3.0.1"
    assert find_source("fashion_mnist", None).paths == (prepared,)
    assert len(load_dataset("fashion_mnist", None).train) == 4


def test_nothing_found_says_what_where_and_the_ways_out(data_dir: Path) -> None:
    message = (
        "dataset cifar10 was not found; looked for cifar-10-python.tar.gz, or "
        "cifar-10-batches-py, or cifar-10-binary.tar.gz, or cifar-10-batches-bin, or "
        "cifar10/<version> as tensorflow-datasets prepares it (array_record), in "
        f"{data_dir}, {data_dir}/cifar10, {data_dir}/CIFAR10; leave out --data_dir to download it, "
        "which needs a network, put such files in a directory and give it with --data_dir, or use "
        "--dataset digits, which needs no files"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        load_dataset("cifar10", str(data_dir))


@pytest.mark.parametrize("name", ["cifar100", "svhn_without_extra", "mnist", "fashion_mnist"])
def test_nothing_found_of_every_data_set(name: str, data_dir: Path) -> None:
    with pytest.raises(InputError, match=f"^dataset {name} was not found; .*--dataset digits"):
        load_dataset(name, str(data_dir))


def test_missing_extra_images_are_named_and_the_way_without_them(data_dir: Path) -> None:
    write_svhn(data_dir, extra=False)
    message = (
        rf"; {data_dir} lacks extra_32x32\.mat; leave out --data_dir .*, use --dataset "
        r"svhn_without_extra, which needs train_32x32\.mat and test_32x32\.mat alone, or use"
    )
    with pytest.raises(InputError, match=message):
        load_dataset("svhn", str(data_dir))
    assert len(load_dataset("svhn_without_extra", str(data_dir)).train) == 3


def test_damaged_file_is_refused_though_another_form_is_whole(data_dir: Path) -> None:
    CIFAR10["cifar-10-batches-bin"](data_dir)
    (data_dir / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz cannot be unpacked"):
        load_dataset("cifar10", str(data_dir))


def test_unusable_data_dir_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent, file = str(data_dir / "absent"), data_dir / "file"
    file.write_bytes(b"")
    with pytest.raises(InputError, match=rf"^data_dir \(='{absent}'\) is missing; wanted the dir"):
        load_dataset("mnist", absent)
    with pytest.raises(InputError, match=rf"^data_dir \(='{file}'\) is a file; wanted the direct"):
        load_dataset("mnist", str(file))

    def refuse(*args: Any) -> bool:  # root may read whatever the mode says
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(InputError, match=rf"^data_dir \(='{data_dir}'\) may not be read; change"):
        load_dataset("mnist", str(data_dir))


def test_home_in_data_dir_is_expanded(home: Path) -> None:
    write_idx(home / "data")
    assert len(load_dataset("mnist", "~/data").train) == 3
