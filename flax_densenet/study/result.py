"""Several runs of the same thing: mean and spread."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from flax_densenet.files import write_text, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sample(tuple[float, ...]):
    """The values of runs that differ in their seed alone, at least one."""

    __slots__ = ()

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self)

    @property
    def deviation(self) -> float:
        """Their standard deviation, with n - 1; 0 for a single run, which has no spread."""
        return statistics.stdev(self) if len(self) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for a single run."""
        return self.deviation / math.sqrt(len(self))

    def text(self, factor: float = 1, decimals: int = 2) -> str:
        """Returns mean and standard deviation, such as "1.20 ± 0.15".

        Args:
          factor: What both are multiplied by, such as 100 for per cent.
          decimals: Their decimals.
        """
        text = f"{factor * self.mean:.{decimals}f}"
        return f"{text} ± {factor * self.deviation:.{decimals}f}" if len(self) > 1 else text


TABLE_FILE = "table.md"
_DOTS_PER_INCH = 110  # of a bitmap
_COLORS = 128

# Heading of a column, and the text of its cell in a row.
Columns = Mapping[str, Callable[[Any], str]]


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes:
      name: Key of `STUDIES`.
      title: What was studied, in a line.
      method: How, in Markdown.
      columns: Headings of the table, and what they show of a row.
      rows: One for each line of the table; each is a NamedTuple.
      recommendation: What follows, in a paragraph, and by which rule.
      draw: Draws the picture of such a result.
    """

    name: str
    title: str
    method: str
    columns: Columns
    rows: tuple[Any, ...]
    recommendation: str
    draw: Callable[["StudyResult"], "Figure"]

    def to_markdown(self) -> str:
        """Returns the table."""
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "|" + "---|" * len(self.columns),
            *(
                "| " + " | ".join(text(row) for text in self.columns.values()) + " |"
                for row in self.rows
            ),
        ]
        return "\n".join(lines)

    def figure(self) -> "Figure":
        """Returns the picture, as a new figure of matplotlib."""
        return self.draw(self)

    def save(self, directory: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
        """Writes table.md and the picture.

        Args:
          directory: Where to.
          formats: Endings of the picture's files, such as "png", "svg" and "pdf".

        Returns:
          The files.

        Raises:
          SavingFailed: They cannot be written.
        """
        table = directory / TABLE_FILE
        plots = [directory / f"plot.{ending}" for ending in formats]
        parts = [f"# {self.title}", self.method, self.to_markdown(), self.recommendation]
        write_text(table, "\n\n".join([*parts, f"![{self.title}]({plots[0].name})"]) + "\n")
        figure = self.figure()
        for plot in plots:
            with written_whole(plot) as unfinished:
                figure.savefig(unfinished, dpi=_DOTS_PER_INCH)
                if plot.suffix == ".png":
                    _shrink(unfinished)
        return [table, *plots]


def _shrink(picture: Path) -> None:
    """Saves a bitmap with few colors, which is all that a drawing has."""
    with Image.open(picture) as image:
        fewer = image.convert("RGB").quantize(_COLORS, method=Image.Quantize.MAXCOVERAGE)
    fewer.save(picture, optimize=True)
