"""A study of a trained network: which earlier layers each layer reads (paper, Figure 5)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.conversion.checkpoint import Checkpoint
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.result import Columns, StudyResult
from flax_densenet.study.reuse_figure import draw_reuse
from flax_densenet.study.source_weights import source_weights


class ReuseRow(NamedTuple):
    """What one layer reads.

    Attributes:
      block: Number of the block, from 1.
      target: The layer that reads: "layer 2", "transition" or "classifier".
      weights: Mean absolute weight of each source: the block's input, layer 1, ....
    """

    block: int
    target: str
    weights: tuple[float, ...]

    @property
    def strongest(self) -> str:
        """The source with the largest weight."""
        return source_name(self.weights.index(max(self.weights)))

    @property
    def evenness(self) -> float:
        """The smallest weight as a share of the largest; 1 if all sources count alike."""
        return min(self.weights) / max(self.weights)


def source_name(number: int) -> str:
    """Returns what to call a source: the block's input is number 0."""
    return f"layer {number}" if number else "block input"


_COLUMNS: Columns = {
    "block": lambda row: str(row.block),
    "reads": lambda row: row.target,
    "sources": lambda row: str(len(row.weights)),
    "mean absolute weight, of the block's input": lambda row: f"{row.weights[0]:.4f}",
    "of the nearest source": lambda row: f"{row.weights[-1]:.4f}",
    "strongest source": lambda row: row.strongest,
    "smallest / largest": lambda row: f"{row.evenness:.2f}",
}


@dataclasses.dataclass(frozen=True)
class ReusePlan:
    """Which earlier layers the layers of a trained network read.

    Attributes:
      path: Whatever `flax-densenet convert` reads, or a work directory of `train`.
      checkpoint: What is in it.
    """

    path: Path
    checkpoint: Checkpoint

    @property
    def settings(self) -> dict[str, Any]:
        """The checkpoint."""
        return {"study": "feature_reuse", "source": {"checkpoint": str(self.path)}}

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Reads the weights and compares them.

        Args:
          directory: Where results are kept.
        """
        config, variables = self.checkpoint.config, self.checkpoint.variables
        rows = tuple(ReuseRow(*target) for target in source_weights(config, variables))
        for row in rows:
            identity = {"block": row.block, "target": row.target}
            if not directory.find(identity):
                directory.add(identity, [{"mean_absolute_weights": row.weights}])
        return StudyResult(
            name="feature_reuse",
            title=f"Feature reuse: {config.title}",
            method=_method(self.path.name),
            columns=_COLUMNS,
            rows=rows,
            recommendation=_conclusion(rows),
            draw=draw_reuse,
        )


def _method(name: str) -> str:
    return (
        f"Weights of `{name}`. For each layer of a dense block, and for the transition or "
        "classifier behind it: the mean absolute weight of its (first) convolution, over the maps "
        "of each source. The picture shows each weight as a share of the target's largest, since "
        "layers of different kernels and widths have weights of different size; the paper's Figure "
        "5 has a scale from 0 to 1, too, and does not say of what."
    )


def _conclusion(rows: Sequence[ReuseRow]) -> str:
    read = [row for row in rows if len(row.weights) > 1]
    if not read:
        return "No layer has more than one source."
    nearest = sum(row.weights[-1] == max(row.weights) for row in read)
    last = rows[-1]
    even = sum(row.evenness for row in read) / len(read)
    return (
        f"Of the {len(read)} layers with several sources, {nearest} read the nearest one most. On "
        f"average the weakest source has {100 * even:.0f} % of the strongest one's weight. The "
        f"classifier reads {last.strongest} of the last block most. In an untrained network all "
        "sources have the same weight, but for chance."
    )
