"""Opens the data set that `--dataset` names."""

from typing import NamedTuple, NoReturn

from flax_densenet.data import tfds
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.dataset import Dataset
from flax_densenet.data.find import find_source
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.folder import describe_folder, load_folder
from flax_densenet.data.images.imagenet import NUM_CLASSES, load_imagenet
from flax_densenet.data.images.streamed import OnBroken
from flax_densenet.data.images.tfds_streamed import load_tfds_streamed
from flax_densenet.data.readers import digits
from flax_densenet.errors import InputError, nearest

_TFDS_PREFIX = "tfds:"
_FOLDER_PREFIX = "folder:"
_NAMES = ("digits", *CATALOG, *NUM_CLASSES)
_RGB = 3


class Description(NamedTuple):
    """Properties of a data set that decide the shape of a network."""

    num_classes: int
    in_channels: int


class FileReading(NamedTuple):
    """Settings for images that stay in their files.

    Attributes:
      image_format: Format of every image.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: What to do with an image that cannot be decoded.
    """

    image_format: ImageFormat
    num_workers: int = 0
    on_broken: OnBroken = "stop"


def describe_dataset(name: str, data_dir: str | None = None) -> Description:
    """Returns classes and channels of a data set, without reading the images.

    Raises:
      InputError: There is no such data set.
    """
    if name == "digits":
        return Description(digits.NUM_CLASSES, digits.NUM_CHANNELS)
    if name in CATALOG:
        return Description(CATALOG[name].num_classes, CATALOG[name].in_channels)
    if name in NUM_CLASSES:
        return Description(NUM_CLASSES[name], _RGB)
    if (folder := _rest(name, _FOLDER_PREFIX)) is not None:
        return Description(describe_folder(folder), _RGB)  # as many channels as one asks for
    if (prepared := _rest(name, _TFDS_PREFIX)) is not None:
        return Description(*tfds.describe_tfds(prepared, data_dir))
    _refuse(name)


def load_dataset(
    name: str, data_dir: str | None = None, reading: FileReading | None = None
) -> Dataset:
    """Opens a data set; downloads it if it is not on the disk.

    Args:
      name: "digits", one of `CATALOG`, "imagenet2012", "imagenette", "folder:<dir>" or
        "tfds:<name>".
      data_dir: Where the files are; not needed for digits and folder. For a name of `CATALOG`,
        None looks in the usual places and then downloads.
      reading: Settings for images that stay in their files. Folders, ImageNet and Imagenette need
        it; "tfds:<name>" stays in files if it is given. All others are read into memory and
        refuse it.

    Raises:
      InputError: There is no such data set, or it cannot be trained on.
    """
    if reading is None:
        if stays_in_files(name):
            raise InputError(
                f"dataset {name} needs --image_size, to which its images are brought; 224 is usual "
                "for ImageNet nets, 32 for CIFAR nets"
            )
        return _load_into_memory(name, data_dir)
    image_format, workers, on_broken = reading
    if name in NUM_CLASSES:
        return load_imagenet(name, data_dir, image_format, num_workers=workers, on_broken=on_broken)
    if (folder := _rest(name, _FOLDER_PREFIX)) is not None:
        return load_folder(folder, image_format, num_workers=workers, on_broken=on_broken)
    if (prepared := _rest(name, _TFDS_PREFIX)) is not None:
        return load_tfds_streamed(
            prepared, data_dir, image_format, num_workers=workers, on_broken=on_broken
        )
    raise InputError(
        f"dataset {name} has images of one size, which are read into memory; leave out --image_size"
    )


def stays_in_files(name: str) -> bool:
    """Returns whether the images of a data set are always read when needed."""
    return name in NUM_CLASSES or _rest(name, _FOLDER_PREFIX) is not None


def _load_into_memory(name: str, data_dir: str | None) -> Dataset:
    if name == "digits":
        return digits.load_digits()
    if name in CATALOG:
        train, test, class_names = find_source(name, data_dir).read()
        statistics = CATALOG[name].published_statistics
        return Dataset(name, train, test, class_names, published_statistics=statistics)
    if (prepared := _rest(name, _TFDS_PREFIX)) is not None:
        return tfds.load_tfds(prepared, data_dir)
    _refuse(name)


def _rest(name: str, prefix: str) -> str | None:
    """Returns the text after a prefix, or None without prefix or text."""
    return name.removeprefix(prefix) if name.startswith(prefix) and name != prefix else None


def _refuse(name: str) -> NoReturn:
    raise InputError(
        f"dataset (={name!r}) must be {', '.join(_NAMES)}, folder:<dir> or tfds:<name>, such as "
        f"tfds:cifar10{nearest(name.lower().replace('-', '_'), _NAMES)}"
    )
