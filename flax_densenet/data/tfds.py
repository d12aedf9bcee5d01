"""Data sets prepared by tensorflow-datasets as array_record, read without TensorFlow.

Nothing here touches the network: what is not on the disk is an error at once, where the library
itself would retry for minutes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet.data.dataset import ArraySplit, Dataset
from flax_densenet.errors import InputError

_DEFAULT_DIRECTORY = "~/tensorflow_datasets"


def load_tfds(name: str, data_dir: str | None) -> Dataset:
    """Reads a prepared data set into memory.

    Args:
      name: The library's name, such as "cifar10" or "cifar10:3.0.2".
      data_dir: Directory that holds `<name>/<version>`; None is the library's own default.

    Returns:
      The splits "train" and "test" (or "validation" where there is no "test").

    Raises:
      InputError: The data set is unknown, not prepared there, in another file format, or its
        examples are not images of one size with one label each.
    """
    builder = _prepared_builder(name, data_dir)
    label = builder.info.features["label"]
    test_split = "test" if "test" in builder.info.splits else "validation"
    return Dataset(
        name=f"tfds:{name}",
        train=_read(builder, name, "train"),
        test=_read(builder, name, test_split),
        class_names=tuple(label.names),
    )


def describe_tfds(name: str, data_dir: str | None) -> tuple[int, int]:
    """Returns the number of classes and of image channels, without reading the images.

    Raises:
      InputError: As `load_tfds`.
    """
    features = _prepared_builder(name, data_dir).info.features
    return features["label"].num_classes, features["image"].shape[-1]


def _prepared_builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    directory = Path(data_dir or _DEFAULT_DIRECTORY).expanduser().absolute()
    try:
        builder = tfds.builder(name, data_dir=directory, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InputError(
            f"dataset tfds:{name}: tensorflow-datasets knows no such name and {directory} holds no "
            "prepared data set of that name; check the spelling and --data_dir"
        ) from error
    except ImportError as error:
        raise InputError(
            f"dataset tfds:{name}: its code in tensorflow-datasets needs a package that is not "
            f"installed ({_first_line(error)}); use another data set"
        ) from error
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"dataset tfds:{name}: {_first_line(error)}; wanted tfds:<name> or "
            "tfds:<name>:<version> in the array_record format; if it is prepared in another one, "
            "prepare it again with file_format='array_record'"
        ) from error
    splits = set(builder.info.splits or ())
    if not splits:
        raise InputError(
            f"dataset tfds:{name}: nothing is prepared in {builder.data_path}; give the directory "
            "that holds it with --data_dir, prepare it there with tensorflow-datasets "
            "(file_format='array_record'), or use --dataset digits, which needs no files"
        )
    if "train" not in splits or not splits & {"test", "validation"}:
        raise InputError(
            f"dataset tfds:{name}: has the splits {sorted(splits)}; "
            "wanted train, and test or validation"
        )
    _check_features(name, builder.info.features)
    return builder


def _check_features(name: str, features: Any) -> None:
    import tensorflow_datasets as tfds

    image, label = (features[key] if key in features else None for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise InputError(
            f"dataset tfds:{name}: has the features {sorted(features)}; "
            "wanted an image under 'image' and a class under 'label'"
        )


def _read(builder: Any, name: str, split: str) -> ArraySplit:
    image, label = [], []
    for example in builder.as_data_source(split=split):
        image.append(example["image"])
        label.append(example["label"])
    shapes = {array.shape for array in image}
    if len(shapes) > 1:
        raise InputError(
            f"dataset tfds:{name}, split {split}: images have {len(shapes)} different sizes, such "
            f"as {sorted(shapes)[:2]} [H, W, C]; wanted one size; resize them when preparing"
        )
    return ArraySplit(np.stack(image), np.asarray(label, np.int32))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
