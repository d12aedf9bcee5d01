"""Prepared data sets of tensorflow-datasets, decoded when needed."""

import dataclasses
from pathlib import Path
from typing import Any

from flax_densenet.data.dataset import ChannelStatistics, Dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.streamed import EncodedExample, OnBroken, StreamedSplit
from flax_densenet.data.tfds import DEFAULT_DIRECTORY, choose_splits, prepared_builder
from flax_densenet.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedImages:
    """One split of a prepared data set, as `EncodedImages`.

    Attributes:
      records: The library's data source, with images as encoded bytes.
      where: Name of data set and split, for messages.
      num_classes: Number of classes; labels are below it.
    """

    records: Any
    where: str
    num_classes: int

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> EncodedExample:
        """Returns an image's bytes and label.

        Raises:
          InputError: The label is outside the classes, for example in a split without labels.
        """
        record = self.records[index]
        label = int(record["label"])
        if not 0 <= label < self.num_classes:
            raise InputError(
                f"{self.where}: label {label} of image {index} is outside the {self.num_classes} "
                f"classes; wanted 0 to {self.num_classes - 1}"
            )
        return EncodedExample(record["image"], label)

    def name(self, index: int) -> str:
        """Returns the image's file name where the data set keeps it, or its number."""
        file_name = self.records[index].get("file_name")
        if file_name is None:
            return f"{self.where}, image {index}"
        return f"{self.where}, {file_name.decode() if isinstance(file_name, bytes) else file_name}"


def load_tfds_streamed(
    name: str,
    data_dir: str | None,
    image_format: ImageFormat,
    *,
    num_workers: int = 0,
    on_broken: OnBroken = "stop",
    test_split: str | None = None,
    shown_name: str | None = None,
    published_statistics: ChannelStatistics | None = None,
) -> Dataset:
    """Opens a prepared data set; its images may have different sizes.

    Args:
      name: The library's name, such as "imagenette".
      data_dir: Directory that holds `<name>/<version>`; None is the library's own default.
      image_format: Format of every image.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: Treatment of broken images, as in `StreamedSplit`.
      test_split: Split to report the error on; None is what `choose_splits` says, which may find
        validation images, too.
      shown_name: The data set's name; None is "tfds:<name>".
      published_statistics: As `Dataset`.

    Raises:
      InputError: As `load_tfds`, but for images of different sizes.
    """
    import tensorflow_datasets as tfds

    builder = prepared_builder(name, data_dir)
    shown = shown_name or f"tfds:{name}"
    splits = set(builder.info.splits)
    names, notes = choose_splits(builder)
    if test_split is not None:
        names, notes = {"train": "train", "test": test_split}, ()
    if names["test"] not in splits:
        raise InputError(
            f"dataset {shown}: has the splits {sorted(splits)}; wanted {names['test']}"
        )
    label = builder.info.features["label"]
    decoders = {"image": tfds.decode.SkipDecoding()}
    streamed = {
        name: StreamedSplit(
            PreparedImages(
                builder.as_data_source(split=split, decoders=decoders),
                f"dataset {shown}, split {split}",
                label.num_classes,
            ),
            image_format,
            num_workers,
            on_broken,
        )
        for name, split in names.items()
    }
    return Dataset(
        name=shown,
        class_names=tuple(label.names),
        published_statistics=published_statistics,
        notes=notes,
        **streamed,
    )


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Returns whether a directory holds a data set of this name, prepared or begun."""
    return (Path(data_dir or DEFAULT_DIRECTORY).expanduser() / name).is_dir()
