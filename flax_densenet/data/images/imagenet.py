"""ImageNet and Imagenette, in folders or prepared by tensorflow-datasets."""

from pathlib import Path

from flax_densenet.data.dataset import ChannelStatistics, Dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.folder import HELD_OUT_FOLDERS, describe_folder, load_folder
from flax_densenet.data.images.streamed import OnBroken
from flax_densenet.data.images.tfds_streamed import is_prepared, load_tfds_streamed
from flax_densenet.errors import InputError

NUM_CLASSES = {"imagenet2012": 1000, "imagenette": 10}
STATISTICS = ChannelStatistics((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def load_imagenet(
    name: str,
    data_dir: str | None,
    image_format: ImageFormat,
    *,
    num_workers: int = 0,
    on_broken: OnBroken = "stop",
) -> Dataset:
    """Finds ImageNet or Imagenette, without reading the images and without the network.

    Args:
      name: "imagenet2012" or "imagenette".
      data_dir: Directory with `train/` and `val/`, as the archives unpack, or with a data set
        prepared by tensorflow-datasets; None is that library's own default.
      image_format: Format of every image; 3 channels.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: Treatment of broken images, as in `StreamedSplit`.

    Returns:
      The data set, whose test images are ImageNet's validation images.

    Raises:
      InputError: Neither is there, or it has another number of classes.
    """
    if image_format.channels != 3:
        raise InputError(f"dataset {name}: has 3 channels; got channels {image_format.channels}")
    if _is_unpacked(data_dir):
        assert data_dir is not None
        found = describe_folder(data_dir)
        if found != NUM_CLASSES[name]:
            raise InputError(
                f"dataset {name}: {data_dir} has folders for {found} classes; wanted "
                f"{NUM_CLASSES[name]}; complete it, or use --dataset folder:{data_dir}"
            )
        return load_folder(
            data_dir,
            image_format,
            num_workers=num_workers,
            on_broken=on_broken,
            name=name,
            published_statistics=STATISTICS,
        )
    if not is_prepared(name, data_dir):
        raise InputError(
            f"dataset {name}: found neither train/ and val/ with a folder for each class nor "
            f"{name}/ as prepared by tensorflow-datasets in "
            f"{data_dir or '~/tensorflow_datasets'}; unpack the archives to train/ and val/ and "
            "give their directory with --data_dir, prepare it with tensorflow-datasets "
            "(file_format='array_record'), or use --dataset digits, which needs no files"
        )
    return load_tfds_streamed(
        name,
        data_dir,
        image_format,
        num_workers=num_workers,
        on_broken=on_broken,
        test_split="validation",  # the split "test" has no labels
        shown_name=name,
        published_statistics=STATISTICS,
    )


def _is_unpacked(data_dir: str | None) -> bool:
    if data_dir is None:
        return False
    directory = Path(data_dir).expanduser()
    return (directory / "train").is_dir() and any(
        (directory / f).is_dir() for f in HELD_OUT_FOLDERS
    )
