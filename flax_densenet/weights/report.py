"""Describes a checkpoint for people: in words, and array by array as CSV."""

import csv
import hashlib
from pathlib import Path

import numpy as np

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import listed
from flax_densenet.files import written_whole
from flax_densenet.weights.checkpoint import Checkpoint
from flax_densenet.weights.layouts import LAYOUTS, Layout
from flax_densenet.weights.published.catalog import PUBLISHED
from flax_densenet.weights.table import correspondence, to_arrays


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns what a user should know about a checkpoint, by heading."""
    config = checkpoint.config
    dtypes = sorted({str(row.dtype) for row in checkpoint.source_arrays.values() if row.ndim})
    rows = {}
    if checkpoint.published is not None:
        published = PUBLISHED[checkpoint.published]
        rows["source"] = f"{checkpoint.published}, {published.licence}: {published.accuracy}"
    rows |= {
        "format": checkpoint.format,
        "layout": LAYOUTS[checkpoint.layout].title
        + (f", under {checkpoint.where}" if checkpoint.where else ""),
        "network": f"{config.title}, blocks {', '.join(map(str, config.block_sizes))}, "
        f"{config.stem} stem, {config.in_channels} channels, "
        + (f"{config.num_classes} classes" if checkpoint.has_head else "no classifier"),
        "epsilon": f"{config.batch_norm_epsilon:g} in batch normalization",
        "images": _describe_size(checkpoint.preparation),
        "pixels": _describe_statistics(checkpoint.statistics),
        "dtype": ", ".join(dtypes),
    }
    if checkpoint.outputs.has_several_labels:
        rows["outputs"] = checkpoint.outputs.description
    # A run of ours is known to have what its training needs, an entry for every parameter.
    is_run = checkpoint.format == "Orbax"
    names = [n for n in checkpoint.unneeded if not (is_run and n.startswith("training/"))]
    if names:
        rows["not taken"] = listed(names)
    return rows


def _describe_size(preparation: Preparation) -> str:
    size, interpolation = preparation.size, preparation.interpolation
    if size is None:
        return "size not in the file"
    return (
        f"{size}x{size} from the middle, shorter side {preparation.shorter_side}, {interpolation}"
    )


def _describe_statistics(statistics: ChannelStatistics | None) -> str:
    if statistics is None:
        return "not in the file; say with --mean and --std what the images were normalized with"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in statistics)
    return f"mean {mean}, standard deviation {std} (of 0 to 255)"


_COLUMNS = (
    "source_key",
    "target_key",
    "source_shape",
    "target_shape",
    "source_dtype",
    "target_dtype",
    "axes",
    "sha256",
)


def write_report(
    file: Path, source: Checkpoint, adapted: Checkpoint, target_layout: Layout
) -> None:
    """Writes a table of all arrays: their names in source and target, and checksums.

    Args:
      file: CSV file to write.
      source: The checkpoint that was read.
      adapted: The checkpoint that was written.
      target_layout: The target's names.

    Raises:
      InputError: The file's directory is missing.
      SavingFailed: Writing failed.
    """
    rows = zip(
        correspondence(adapted.config, LAYOUTS[source.layout]),
        correspondence(adapted.config, target_layout),
        strict=True,
    )
    written = to_arrays(adapted.variables, adapted.config, target_layout)
    with written_whole(file) as unfinished, unfinished.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(_COLUMNS)
        for ours, theirs in rows:
            before, after = source.source_arrays.get(ours.key), written[theirs.key]
            table.writerow(
                [
                    ours.key,
                    theirs.key,
                    "x".join(map(str, before.shape)) if before is not None else "",
                    "x".join(map(str, after.shape)),
                    before.dtype if before is not None else "",
                    after.dtype,
                    f"{ours.leaf.axes}->{theirs.leaf.axes}",
                    hashlib.sha256(np.ascontiguousarray(after).tobytes()).hexdigest(),
                ]
            )
