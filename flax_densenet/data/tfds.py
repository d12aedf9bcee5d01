"""Data sets prepared by tensorflow-datasets, read without TensorFlow.

Nothing here uses the network. A data set that is not on the disk is an error at once; the library
itself would retry for minutes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet.data.dataset import ArraySplit, Dataset
from flax_densenet.data.readers.originals import Splits
from flax_densenet.errors import InputError

DEFAULT_DIRECTORY = "~/tensorflow_datasets"


def load_tfds(name: str, data_dir: str | None) -> Dataset:
    """Reads a prepared data set into memory.

    Args:
      name: The library's name, such as "cifar10" or "cifar10:3.0.2".
      data_dir: Directory that holds `<name>/<version>`; None is the library's own default.

    Returns:
      The splits "train", "test" and "validation", as `choose_splits` says.

    Raises:
      InputError: The data set is unknown, not prepared there, in another file format, or its
        examples are not images of one size with one label each.
    """
    builder = prepared_builder(name, data_dir)
    names, notes = choose_splits(builder)
    splits: dict[str, Any] = {
        split: _read(builder, name, [found]) for split, found in names.items()
    }
    return Dataset(
        name=f"tfds:{name}",
        class_names=tuple(builder.info.features["label"].names),
        notes=notes,
        **splits,
    )


def choose_splits(builder: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns which split of the library serves as which of ours, and notes on it.

    Of "validation" and "test" one alone is the test split. So is "validation" if the labels of
    "test" are not public, which the library marks by -1.

    Args:
      builder: What `prepared_builder` returns.
    """
    import tensorflow_datasets as tfds

    names, notes = {"train": "train", "test": "test"}, tuple[str, ...]()
    if "test" not in builder.info.splits:
        names["test"] = "validation"
    elif "validation" in builder.info.splits:
        decoders = {"image": tfds.decode.SkipDecoding()}
        first = builder.as_data_source(split="test", decoders=decoders)[0]
        if int(first["label"]) < 0:
            names["test"] = "validation"
            notes = ("the split test is left out: it has no labels",)
        else:
            names["validation"] = "validation"
    return names, notes


def read_tfds(name: str, data_dir: str | None, train_splits: Sequence[str] = ("train",)) -> Splits:
    """Reads the splits of a prepared data set into memory.

    Args:
      name: As for `load_tfds`.
      data_dir: As for `load_tfds`.
      train_splits: The splits to train on, one after the other.

    Returns:
      The images of `train_splits`, and of "test" (or "validation" where there is no "test").

    Raises:
      InputError: As `load_tfds`.
    """
    builder = prepared_builder(name, data_dir, train_splits)
    test_split = "test" if "test" in builder.info.splits else "validation"
    return Splits(
        train=_read(builder, name, train_splits),
        test=_read(builder, name, [test_split]),
        class_names=tuple(builder.info.features["label"].names),
    )


def prepared_version(name: str, directory: Path) -> str | None:
    """Returns the newest version of a data set that is prepared as array_record, if there is one.

    Args:
      name: The library's name, such as "cifar10".
      directory: Directory that holds `<name>/<version>`.
    """
    files = (directory / name).glob("*/dataset_info.json")
    versions = [file.parent.name for file in files if _is_array_record(file)]
    return max(versions, key=_version_number, default=None)


def describe_tfds(name: str, data_dir: str | None) -> tuple[int, int]:
    """Returns the number of classes and of image channels, without reading the images.

    Raises:
      InputError: As `load_tfds`.
    """
    features = prepared_builder(name, data_dir).info.features
    return features["label"].num_classes, features["image"].shape[-1]


def _is_array_record(info_file: Path) -> bool:
    try:
        info = json.loads(info_file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and info.get("fileFormat") == "array_record"


def _version_number(version: str) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in version.split(".")]


def prepared_builder(
    name: str, data_dir: str | None, train_splits: Sequence[str] = ("train",)
) -> Any:
    """Returns the library's builder of a data set that is prepared, without the network.

    Args:
      name: As for `load_tfds`.
      data_dir: As for `load_tfds`.
      train_splits: Splits that must exist, besides "test" or "validation".

    Raises:
      InputError: As `load_tfds`, but for the images' sizes.
    """
    import tensorflow_datasets as tfds

    directory = Path(data_dir or DEFAULT_DIRECTORY).expanduser().absolute()
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
    if not splits.issuperset(train_splits) or not splits & {"test", "validation"}:
        raise InputError(
            f"dataset tfds:{name}: has the splits {sorted(splits)}; "
            f"wanted {', '.join(train_splits)}, and test or validation"
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


def _read(builder: Any, name: str, splits: Sequence[str]) -> ArraySplit:
    image, label = [], []
    for split in splits:
        for example in builder.as_data_source(split=split):
            image.append(example["image"])
            label.append(example["label"])
    shapes = {array.shape for array in image}
    if len(shapes) > 1:
        raise InputError(
            f"dataset tfds:{name}, split {'+'.join(splits)}: images have {len(shapes)} different "
            f"sizes, such as {sorted(shapes)[:2]} [H, W, C]; wanted one size; resize them when "
            "preparing"
        )
    return ArraySplit(np.stack(image), np.asarray(label, np.int32))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
