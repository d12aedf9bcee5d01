"""Data sets as tensorflow-datasets prepares them, written without TensorFlow."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

Examples = list[tuple[np.ndarray, int]]


def examples(n: int, *, seed: int = 0, height: int = 8) -> Examples:
    """Random images of 8 columns, with labels 0, 1, 2, 0, 1, 2..."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(0, 256, (height, 8, 3), np.uint8), i % 3) for i in range(n)]


def _png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def prepare(
    directory: Path,
    *,
    name: str = "tiny_images",
    version: str = "1.0.0",
    label_key: str = "label",
    **splits: Examples,
) -> None:
    """Writes a data set with three classes; images are PNG bytes: encoding takes TensorFlow.

    Args:
      directory: Gets `<name>/<version>`.
      name: What the library calls it; may be that of one of its own.
      version: Its version.
      label_key: Feature under which the labels are.
      **splits: The examples.
    """
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        label_key: tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
    }
    builder_name, builder_version = name, version
    with tfds.core.registered.skip_registration():

        class TinyImages(tfds.core.GeneratorBasedBuilder):
            name = builder_name
            VERSION = tfds.core.Version(builder_version)

            def _info(self) -> Any:
                features_dict = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features_dict)

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                return {name: self._generate_examples(part) for name, part in splits.items()}

            def _generate_examples(self, part: Examples) -> Iterator[tuple[int, dict[str, Any]]]:
                for i, (pixels, label) in enumerate(part):
                    yield i, {"image": _png(pixels), label_key: label}

        builder = TinyImages(data_dir=directory, file_format="array_record")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
