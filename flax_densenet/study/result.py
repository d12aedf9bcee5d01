"""The result of a study: a table, a recommendation and a picture."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from flax_densenet.files import write_text
from flax_densenet.pictures import draw_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
      columns: Headings of the table, each with the function that makes the cell of a row.
      rows: One NamedTuple for each line of the table.
      recommendation: The conclusion in a paragraph, with its rule.
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
        return [table, *(plot for plot in plots if draw_picture(plot, self._draw))]

    def _draw(self, file: Path) -> None:
        self.figure().savefig(file, dpi=_DOTS_PER_INCH)
        if file.suffix == ".png":
            _shrink(file)


def _shrink(picture: Path) -> None:
    """Saves a bitmap with few colors, which is all that a drawing has."""
    with Image.open(picture) as image:
        fewer = image.convert("RGB").quantize(_COLORS, method=Image.Quantize.MAXCOVERAGE)
    fewer.save(picture, optimize=True)
