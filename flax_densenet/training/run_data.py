"""The data of a run: loading, normalization and the check against the network."""

from flax_densenet.data import ChannelStatistics, Dataset
from flax_densenet.data.dataset import hold_out
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.load import FileReading, load_dataset
from flax_densenet.data.preparation import CROPPED, trained_format
from flax_densenet.errors import InputError, require
from flax_densenet.training.config import RunConfig


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
    elif data.pixel_range is not None:
        raise InputError(
            f"pixel_range (={data.pixel_range}) is for images in files, and {data.dataset} is read "
            "without image_size; leave it out"
        )
    elif data.augment in CROPPED:
        raise InputError(
            f"augment (={data.augment!r}) cuts images in files to image_size, which is not given; "
            "give it, or use --augment shift or none"
        )
    return hold_out(load_dataset(data.dataset, data.data_dir, reading), data.validation_images)


def run_image_format(run: RunConfig) -> ImageFormat | None:
    """Returns what images in files become in a run; None if they have one size already."""
    data = run.data
    return trained_format(
        data.image_size, data.augment, run.network.in_channels, pixel_range=data.pixel_range
    )


def channel_statistics(run: RunConfig, dataset: Dataset) -> ChannelStatistics:
    """Returns what the images are normalized with: what the run says, or else the data set.

    Raises:
      InputError: Only one of mean and deviation is given, or not one number for each channel.
    """
    mean, std = run.data.mean, run.data.std
    if mean is None and std is None:
        return dataset.channel_statistics()
    channels = dataset.image_shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        require(
            values is not None and len(values) == channels,
            name,
            values,
            f"{channels} numbers, one for each channel of {dataset.name}, beside the other of mean "
            "and std",
        )
    return ChannelStatistics(mean, std)  # type: ignore[arg-type]


def check_dataset(run: RunConfig, dataset: Dataset) -> None:
    """Checks that the network can be trained on the images.

    Raises:
      InputError: Classes, channels or image size differ.
    """
    from flax_densenet.network.initialization import check_x64  # JAX

    check_x64(run.network)
    if run.network.num_classes != dataset.num_classes:
        raise InputError(
            f"num_classes (={run.network.num_classes}) must be {dataset.num_classes}, the number "
            f"of classes of {dataset.name}; leave the flag out"
        )
    height, width, channels = dataset.image_shape
    run.network.check_image(height=height, width=width, channels=channels)
