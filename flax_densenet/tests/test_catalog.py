"""Tests of flax_densenet/data/catalog.py against tensorflow-datasets and the authors' code."""

from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from flax_densenet.data import describe_dataset
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.download import remote_files

NAMES = pytest.mark.parametrize("name", CATALOG)


@NAMES
def test_description_fits_that_of_tensorflow_datasets(name: str, tmp_path: Path) -> None:
    builder = tfds.builder(CATALOG[name].tfds_name, data_dir=tmp_path, file_format="array_record")
    features = builder.info.features
    assert describe_dataset(name, None) == (
        features["label"].num_classes,
        features["image"].shape[2],
    )


@NAMES
@pytest.mark.parametrize("data_dir", [None, "/nowhere"])
def test_description_needs_no_files(
    name: str, data_dir: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Path, "open")
    monkeypatch.delattr(Path, "glob")
    expected = (100 if name == "cifar100" else 10, 1 if "mnist" in name else 3)
    assert describe_dataset(name, data_dir) == expected


@NAMES
def test_one_form_can_be_downloaded(name: str) -> None:
    offered = {file.name for file in remote_files(CATALOG[name].tfds_name)}
    forms = CATALOG[name].forms
    assert any(
        all(any(part + ending in offered for ending in form.endings) for part in form.names)
        for form in forms
    )


def test_published_statistics() -> None:
    cifar10, cifar100 = CATALOG["cifar10"], CATALOG["cifar100"]
    assert cifar10.published_statistics == ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
    assert cifar100.published_statistics == ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4))
    for name in ("svhn", "svhn_without_extra"):
        assert CATALOG[name].published_statistics == ((0, 0, 0), (255, 255, 255))
    assert CATALOG["mnist"].published_statistics is None
    assert CATALOG["fashion_mnist"].published_statistics is None
