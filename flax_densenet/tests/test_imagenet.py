"""Tests of flax_densenet/data/images/imagenet.py and tfds_streamed.py on data written here."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flax_densenet import InputError
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.imagenet import load_imagenet
from flax_densenet.data.images.tfds_streamed import load_tfds_streamed

FORMAT = ImageFormat(4)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def png(value: int) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("RGB", (5 + value % 3, 4), (value, value, value)).save(file, "PNG")
    file.seek(0)
    return file


def prepare(directory: Path, name: str, num_classes: int, **splits: list[int]) -> None:
    """Writes a data set whose images have several sizes; label = value modulo classes, or -1."""
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=num_classes),
        "file_name": tfds.features.Text(),
    }
    with tfds.core.registered.skip_registration():

        class Written(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("5.1.0")  # of imagenet2012, whose code reads it back

            def _info(self) -> Any:
                features_dict = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features_dict)

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                return {name: self._generate_examples(part) for name, part in splits.items()}

            def _generate_examples(self, part: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
                for i, value in enumerate(part):
                    label = value % num_classes if value < 200 else -1
                    yield i, {"image": png(value), "label": label, "file_name": f"{value}.JPEG"}

        Written.name = name
        Written(data_dir=directory, file_format="array_record").download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )


def contents(split: Any) -> list[tuple[int, int]]:
    (examples,) = split.read([np.arange(len(split))])
    return sorted(zip(examples.image[:, 0, 0, 0].tolist(), examples.label.tolist(), strict=True))


def test_prepared_images_of_different_sizes(tmp_path: Path) -> None:
    prepare(tmp_path, "shapes", 3, train=[1, 2, 3, 4], test=[5, 6])
    data = load_tfds_streamed("shapes", str(tmp_path), FORMAT)
    assert (data.name, data.num_classes, data.image_shape) == ("tfds:shapes", 3, (4, 4, 3))
    assert contents(data.train) == [(1, 1), (2, 2), (3, 0), (4, 1)]
    assert contents(data.test) == [(5, 2), (6, 0)]
    assert data.published_statistics is None
    in_processes = load_tfds_streamed("shapes", str(tmp_path), FORMAT, num_workers=1)
    assert contents(in_processes.train) == contents(data.train)


def test_prepared_imagenet_takes_validation_for_test(tmp_path: Path) -> None:
    prepare(tmp_path, "imagenet2012", 1000, train=[1, 2], validation=[3], test=[200])
    data = load_imagenet("imagenet2012", str(tmp_path), FORMAT)
    assert (data.name, data.num_classes) == ("imagenet2012", 1000)
    assert contents(data.test) == [(3, 3)]
    assert data.channel_statistics() == (MEAN, STD)
    assert data.train.source.name(0).endswith(".JPEG")  # type: ignore[attr-defined]


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    prepare(tmp_path, "shapes", 3, train=[1], test=[200])
    data = load_tfds_streamed("shapes", str(tmp_path), FORMAT)
    with pytest.raises(InputError, match=r"split test: label -1 of image 0 is outside the 3 clas"):
        contents(data.test)


def unpack(directory: Path, num_classes: int) -> None:
    for split in ("train", "val"):
        for i in range(num_classes):
            path = directory / split / f"n{i:08d}" / "x.JPEG"
            path.parent.mkdir(parents=True)
            path.write_bytes(png(i).read())


@pytest.mark.parametrize(("name", "num_classes"), [("imagenet2012", 1000), ("imagenette", 10)])
def test_unpacked_archives_are_read(name: str, num_classes: int, tmp_path: Path) -> None:
    unpack(tmp_path, num_classes)
    data = load_imagenet(name, str(tmp_path), FORMAT)
    assert (data.name, data.num_classes) == (name, num_classes)
    assert data.class_names[7] == "n00000007"
    assert data.channel_statistics() == (MEAN, STD)
    (examples,) = data.test.read([np.array([7])])
    assert (examples.label.tolist(), examples.image[0, 0, 0].tolist()) == ([7], [7, 7, 7])


def test_other_number_of_classes_is_refused(tmp_path: Path) -> None:
    unpack(tmp_path, 10)
    message = r"imagenet2012: \S+ has folders for 10 classes; wanted 1000; .*--dataset folder:"
    with pytest.raises(InputError, match=message):
        load_imagenet("imagenet2012", str(tmp_path), FORMAT)


@pytest.mark.parametrize("name", ["imagenet2012", "imagenette"])
def test_absent_data_set_is_refused_with_the_ways_out(name: str, tmp_path: Path) -> None:
    message = (
        f"^dataset {name}: found neither train/ and val/ .* nor {name}/ as prepared .* in "
        f"{tmp_path}; unpack .* --data_dir, prepare .*array_record.*, or use --dataset digits"
    )
    with pytest.raises(InputError, match=message):
        load_imagenet(name, str(tmp_path), FORMAT)


def test_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="imagenette: has 3 channels; got channels 1"):
        load_imagenet("imagenette", str(tmp_path), ImageFormat(4, channels=1))
