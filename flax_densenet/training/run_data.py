"""The data set of a run, as its configuration says."""

from flax_densenet.data import Dataset
from flax_densenet.data.image_files import ImageFormat
from flax_densenet.data.load import FileReading, load_dataset
from flax_densenet.data.validation import hold_out
from flax_densenet.errors import InputError
from flax_densenet.training.run_config import RunConfig

_CROPPED = ("crop", "crop_color")


def load_run_data(run: RunConfig, *, num_workers: int) -> Dataset:
    """Opens the data set of a run, with its validation images held out.

    Args:
      run: What it says of its data and of the channels of its network.
      num_workers: Processes that read and decode images in files.

    Raises:
      InputError: The data set cannot be used, or not in this way.
    """
    data, image_format = run.data, run_image_format(run)
    reading = None
    if image_format is not None:
        reading = FileReading(image_format, num_workers, data.broken_images)
    elif data.augment in _CROPPED:
        raise InputError(
            f"augment (={data.augment!r}) cuts images in files to image_size, which is not given; "
            "give it, or use --augment shift or none"
        )
    return hold_out(load_dataset(data.dataset, data.data_dir, reading), data.validation_images)


def run_image_format(run: RunConfig) -> ImageFormat | None:
    """Returns what images in files become in a run; None if they have one size already."""
    data = run.data
    if data.image_size is None:
        return None
    crops = data.augment in _CROPPED
    return ImageFormat(data.image_size, run.network.in_channels, random_crop=crops)
