"""The report as text: a row for each layer, a line for each check."""

import numpy as np

from flax_densenet.parity.differences import Difference, worst
from flax_densenet.parity.ladder import Check
from flax_densenet.parity.report import Layer, Report, Section, by_layer, first_to_differ

# Losses belong to no layer; the average follows from the weights of every step.
_COLUMNS = {
    ("evaluation", "activations"): "out eval",
    ("evaluation", "gradients"): "grad eval",
    ("training", "activations"): "out train",
    ("training", "gradients"): "grad train",
    ("training", "statistics"): "statistics",
    ("steps", "weights"): "weights",
    ("steps", "momentum"): "momentum",
}
_CELL = 12


def render(report: Report) -> str:
    """Returns the whole report as text."""
    lines = [f"{'network':<14}{report.title}, weights: {report.weights}"]
    lines += [f"{'against':<14}{report.against}"]
    shape = "x".join(map(str, report.image_shape))
    lines += [f"{'images':<14}{shape}, {report.num_steps} training steps"]
    lines += [f"{heading:<14}{text}" for heading, text in report.environment.items()]
    lines += [f"{'note':<14}{note}" for note in report.notes]
    for section in report.sections:
        lines += ["", *_layer_table(report, section), "", *_check_lines(report, section)]
    return "\n".join([*lines, "", report.verdict])


def _layer_table(report: Report, section: Section) -> list[str]:
    checks = {
        title: check
        for check in section.checks
        if (title := _COLUMNS.get((check.rung.phase, check.rung.quantity)))
    }
    columns = {title: by_layer(check) for title, check in checks.items()}
    first = {title: first_to_differ(check) for title, check in checks.items()}
    image = Layer("image", "input", report.image_shape, 0, 0)
    layers = [image, *report.layers]
    width = max(len(layer.name.removeprefix("features.")) for layer in layers)
    is_decided = not any(check.undecided for check in section.checks)
    marks_used = "" if is_decided else "; ! differs, ? not decided"
    heading = [
        f"{section.precision} ({section.setting}): largest difference, absolute/relative"
        + marks_used,
        f"{'layer':<{width}}  {'operation':<11}  {'output':<15} {'torch':>11} {'Flax':>11}"
        + "".join(f" {title:>{_CELL}}" for title in columns),
    ]
    rows = []
    for layer in layers:
        found = {title: column.get(layer.name) for title, column in columns.items()}
        marks = [title for title, name in first.items() if name == layer.name]
        if layer.torch_parameters != layer.flax_parameters:
            marks = ["parameters", *marks]
        row = (
            f"{layer.name.removeprefix('features.'):<{width}}  {layer.operation:<11}  "
            f"{'x'.join(map(str, layer.shape)):<15} {layer.torch_parameters:>11,} "
            f"{layer.flax_parameters:>11,}{''.join(map(_cell, found.values()))}"
        )
        rows.append(f"{row}  <- first to differ: {', '.join(marks)}" if marks else row.rstrip())
    return [*heading, *rows]


def _cell(row: Difference | None) -> str:
    if row is None:
        return " " * (_CELL + 1)
    text = f"{row.absolute:.0e}/{row.relative:.0e}"
    mark = "!" if row.differs else "?" if row.is_undecided else ""
    return f" {mark + text:>{_CELL}}"


def _check_lines(report: Report, section: Section) -> list[str]:
    lines = [
        f"{'check':<26} {'arrays':>6}  {'absolute':>8}  {'relative':>8}  {'allowed':>8}  result"
    ]
    return lines + [
        f"{_check_numbers(check)}  {report.describe_result(section, check)}"
        for check in section.checks
    ]


def _check_numbers(check: Check) -> str:
    furthest = worst(check.rows)
    absolute = np.max([row.absolute for row in check.rows])
    return (
        f"{check.rung.title:<26}{len(check.rows):>8} {absolute:>8.1e} {furthest.relative:>8.1e} "
        f"{furthest.allowed:>8.0e}"
    )
