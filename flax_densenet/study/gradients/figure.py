"""Picture of the gradient in each layer."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flax_densenet.pictures import literal
from flax_densenet.study.gradients.report import CONNECTIONS, GradientRow
from flax_densenet.study.result import StudyResult
from flax_densenet.study.styles import LINES, MARKER_SIZE, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW_LAYERS = 30  # that still can have a marker each


def draw_gradients(result: StudyResult) -> "Figure":
    """Draws the norms over the layers, before and after the training, and their span over epochs.

    Args:
      result: A study whose rows are `GradientRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    rows: tuple[GradientRow, ...] = result.rows
    last = max(row.epoch for row in rows)
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    number = len(rows[0].test_error)
    figure.suptitle(f"{literal(result.title)}; mean and range, n = {number}", fontsize=11)
    start, end, course = figure.subplots(1, 3)
    end.sharey(start)
    for axes, epoch, title in (
        (start, 0, "at initialization"),
        (end, last, f"after {last} epochs"),
    ):
        for row, style in zip((r for r in rows if r.epoch == epoch), LINES, strict=False):
            _draw_layers(axes, row, style)
        _mark_blocks(axes, rows[0].layers)
        axes.set(
            title=title,
            xlabel="dense layer, in forward order",
            ylabel="norm of the gradient (nats)",
        )
    for name, style in zip(CONNECTIONS, LINES, strict=False):
        own = [row for row in rows if row.connections == name]
        epochs = [row.epoch for row in own]
        means = [row.spans.mean for row in own]
        course.plot(epochs, means, label=CONNECTIONS[name], markersize=MARKER_SIZE, **style)
        course.fill_between(
            epochs,
            [min(row.spans) for row in own],
            [max(row.spans) for row in own],
            color=style["color"],
            alpha=0.2,
            linewidth=0,
        )
    course.set(
        title="over the training",
        xlabel="epochs done",
        ylabel="largest / smallest norm of a layer",
    )
    for axes in (start, end, course):
        logarithmic(axes)
        axes.grid(alpha=0.3)
    start.legend(fontsize="small")
    return figure


def _draw_layers(axes: "Axes", row: GradientRow, style: dict[str, Any]) -> None:
    numbers = range(1, len(row.norms) + 1)
    axes.plot(
        numbers,
        [norm.mean for norm in row.norms],
        label=CONNECTIONS[row.connections],
        markersize=MARKER_SIZE,
        markevery=1 if len(row.norms) <= _FEW_LAYERS else 3,
        **style,
    )
    axes.fill_between(
        numbers,
        [min(norm) for norm in row.norms],
        [max(norm) for norm in row.norms],
        color=style["color"],
        alpha=0.2,
        linewidth=0,
    )


def _mark_blocks(axes: "Axes", layers: tuple[str, ...]) -> None:
    """Draws a line between two blocks."""
    blocks = [name.partition(".")[0] for name in layers]
    for number, (block, following) in enumerate(pairwise(blocks), start=1):
        if block != following:
            axes.axvline(number + 0.5, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
            axes.annotate(
                "transition ",
                (number + 0.5, 1),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize="x-small",
                color="0.4",
                ha="right",
                va="top",
            )
