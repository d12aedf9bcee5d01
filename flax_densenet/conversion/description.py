"""What a user should know of a checkpoint, in words."""

from flax_densenet.conversion.checkpoint import Checkpoint, flat
from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.preprocessing import Preprocessing
from flax_densenet.errors import listed
from flax_densenet.layouts import LAYOUTS


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns what a user should know of a checkpoint, by heading."""
    config = checkpoint.config
    dtypes = sorted({str(array.dtype) for array in flat(checkpoint.variables).values()})
    rows = {
        "format": checkpoint.format,
        "layout": LAYOUTS[checkpoint.layout].title
        + (f", under {checkpoint.where}" if checkpoint.where else ""),
        "network": f"{config.title}, blocks {', '.join(map(str, config.block_sizes))}, "
        f"{config.stem} stem, {config.in_channels} channels, {config.num_classes} classes",
        "epsilon": f"{config.batch_norm_epsilon:g} in batch normalization",
        "images": _describe_size(checkpoint.preprocessing),
        "pixels": _describe_statistics(checkpoint.statistics),
        "dtype": ", ".join(dtypes),
    }
    if checkpoint.unneeded:
        rows["not taken"] = listed(checkpoint.unneeded)
    return rows


def _describe_size(preprocessing: Preprocessing) -> str:
    size, interpolation = preprocessing.size, preprocessing.interpolation
    if size is None:
        return "size not told by the file"
    return (
        f"{size}x{size} from the middle, shorter side {preprocessing.shorter_side}, {interpolation}"
    )


def _describe_statistics(statistics: ChannelStatistics | None) -> str:
    if statistics is None:
        return (
            "not told by the file; say with --mean and --std what the images were normalized with"
        )
    mean, std = (", ".join(f"{value:g}" for value in values) for values in statistics)
    return f"mean {mean}, standard deviation {std} (of 0 to 255)"
