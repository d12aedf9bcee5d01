"""Picture of the study of a field: six quantities over its values."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flax_densenet.pictures import literal
from flax_densenet.sample import Sample
from flax_densenet.study.catalog import FIELD_STUDIES
from flax_densenet.study.fields.report import FieldRow
from flax_densenet.study.fields.values import Candidate, decide
from flax_densenet.study.result import StudyResult
from flax_densenet.study.styles import EMPHASIS, LINES, MARKER_SIZE, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND: dict[str, Any] = {
    "ncols": 3,
    "fontsize": "small",
    "frameon": False,
    "handlelength": 1.2,
    "handletextpad": 0.5,
    "columnspacing": 0.7,
}
_ROOM = 1.08  # above the highest point
_FAR = 4
# Between lines of one panel, whose bars would hide each other: in widths, and between two names.
_SHIFT, _SHIFT_OF_NAMES = 0.015, 0.12
_LONG_NAMES = 30  # characters of all names together that still fit side by side


class Quantity(NamedTuple):
    """A line in a panel.

    Attributes:
      name: What the legend calls it.
      of: Its value in a row.
    """

    name: str
    of: Callable[[FieldRow], Sample | float | None]


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
      label: Quantity and unit.
      quantities: Its lines.
      may_be_logarithmic: Whether the scale is logarithmic if the values differ by a large factor.
    """

    label: str
    quantities: tuple[Quantity, ...]
    may_be_logarithmic: bool = False


def _percent(sample: Sample | None) -> Sample | None:
    return sample and Sample(100 * value for value in sample)


PANELS = (
    Panel(
        "error (%)",
        (
            Quantity("validation", lambda row: _percent(row.validation_error)),
            Quantity("test", lambda row: _percent(row.test_error)),
        ),
    ),
    Panel("training loss (nats)", (Quantity("", lambda row: row.train_loss),), True),
    Panel("parameters (thousands)", (Quantity("", lambda row: row.parameters / 1e3),)),
    Panel("MFLOPs per image", (Quantity("", lambda row: row.flops / 1e6),)),
    Panel(
        "time of a step (ms)",
        (Quantity("", lambda row: Sample(1e3 * value for value in row.step_seconds)),),
    ),
    Panel(
        "memory of a step (MiB)",
        (
            Quantity("XLA", lambda row: row.step_bytes / 2**20),
            Quantity("estimate (plain)", lambda row: row.estimated_bytes / 2**20),
        ),
    ),
)


def draw_field(result: StudyResult) -> "Figure":
    """Draws all panels.

    Args:
      result: A study whose rows are `FieldRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    rows: Sequence[FieldRow] = result.rows
    field = FIELD_STUDIES[result.name]
    figure = Figure(figsize=(10, 6), layout="constrained")
    number = len(rows[0].test_error)
    figure.suptitle(
        f"{literal(result.title)}; mean and standard deviation, n = {number}", fontsize=11
    )
    places = [float(row.value) for row in rows] if field.is_numeric else list(range(len(rows)))
    decision = decide([Candidate(row.parameters, row.deciding_error) for row in rows])
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        _draw_panel(axes, panel, rows, places, connects=field.is_numeric)
        label = "recommended" if panel is PANELS[0] else None
        axes.axvline(places[decision.chosen], label=label, **EMPHASIS)
        axes.set(xlabel=field.label, ylabel=panel.label)
        if field.is_numeric:
            axes.set_xticks(places, [row.value for row in rows])
        else:
            names = [row.value for row in rows]
            turned = sum(map(len, names)) > _LONG_NAMES
            axes.set_xticks(places, names, rotation=20 if turned else 0, fontsize="small")
            axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.grid(alpha=0.3)
        if len(panel.quantities) > 1:  # above the axes, where it hides nothing
            axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), **_LEGEND)
    return figure


def _draw_panel(
    axes: "Axes",
    panel: Panel,
    rows: Sequence[FieldRow],
    places: Sequence[float],
    *,
    connects: bool,
) -> None:
    top, width = 0.0, max(places) - min(places)
    means: list[float] = []
    for number, (quantity, style) in enumerate(zip(panel.quantities, LINES, strict=False)):
        values = [quantity.of(row) for row in rows]
        samples = [v if isinstance(v, Sample) else Sample([v]) for v in values if v is not None]
        if not samples:
            continue
        shift = (_SHIFT * width if connects else _SHIFT_OF_NAMES) * (
            number - (len(panel.quantities) - 1) / 2
        )
        axes.errorbar(
            [place + shift for place in places],
            [sample.mean for sample in samples],
            [sample.deviation for sample in samples],
            label=quantity.name,
            capsize=3,
            markersize=MARKER_SIZE,
            **(style if connects else style | {"linestyle": "none"}),
        )
        top = max(top, *(sample.mean + sample.deviation for sample in samples))
        means += [sample.mean for sample in samples]
    if panel.may_be_logarithmic and max(means) > _FAR * min(means):
        logarithmic(axes)
    else:
        axes.set_ylim(0, _ROOM * top)
