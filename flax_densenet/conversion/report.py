"""The mapping of a conversion as a table, one row for each array."""

import csv
import hashlib
from pathlib import Path

import numpy as np

from flax_densenet.conversion.checkpoint import Checkpoint
from flax_densenet.layouts import LAYOUTS, Layout
from flax_densenet.training.workdir import writing
from flax_densenet.weights import correspondence, to_arrays

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
    """Writes where each array came from and went to, with a checksum of what was written.

    Args:
      file: CSV file to write.
      source: What was read.
      adapted: What was written.
      target_layout: How the target names its arrays.

    Raises:
      SavingFailed: Writing failed.
    """
    rows = zip(
        correspondence(adapted.config, LAYOUTS[source.layout]),
        correspondence(adapted.config, target_layout),
        strict=True,
    )
    written = to_arrays(adapted.variables, adapted.config, target_layout)
    with writing(file), file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(_COLUMNS)
        for ours, theirs in rows:
            before, after = source.source_arrays[ours.key], written[theirs.key]
            table.writerow(
                [
                    ours.key,
                    theirs.key,
                    "x".join(map(str, before.shape)),
                    "x".join(map(str, after.shape)),
                    before.dtype,
                    after.dtype,
                    f"{ours.leaf.axes}->{theirs.leaf.axes}",
                    hashlib.sha256(np.ascontiguousarray(after).tobytes()).hexdigest(),
                ]
            )
