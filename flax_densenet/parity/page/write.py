"""The whole page, written from a report."""

import importlib.resources
import string
from pathlib import Path

from flax_densenet.parity.differences import DECISIVE, ROUNDING_FACTOR
from flax_densenet.parity.page.drawing import plot_depth, plot_loss_differences, plot_losses
from flax_densenet.parity.page.stages import Stage, find_stages
from flax_densenet.parity.page.tables import check_table, definitions, escape, layer_table, tag
from flax_densenet.parity.report import Layer, Report, Section, first_to_differ
from flax_densenet.parity.tolerances import TOLERANCES


def write_page(report: Report, file: Path) -> None:
    """Writes the page.

    Args:
      report: What was found.
      file: File to write; its directory is made if need be.

    Raises:
      OSError: It cannot be written.
    """
    image = Layer("image", "input", report.image_shape, 0, 0)
    stages = find_stages([image, *report.layers])
    result, _, finding = report.verdict.partition(": ")
    text = string.Template(_resource("page.html")).substitute(
        title=escape(report.title),
        style=_resource("page.css"),
        result=escape(result.upper()),
        result_class="equal" if report.agrees else "different" if report.differs else "undecided",
        finding=escape(finding),
        counts=definitions(_counts(report)),
        subject=definitions(_subject(report)),
        sections="\n".join(_section(report, section, stages) for section in report.sections),
        factor=ROUNDING_FACTOR,
        decisive=f"{DECISIVE:g}",
        floor=f"{TOLERANCES['float32'].gradient_floor:.0%}",
        environment=definitions(
            {"command": tag("code", escape(report.command))}
            | {heading: escape(text) for heading, text in report.environment.items()}
        ),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _counts(report: Report) -> dict[str, str]:
    network = report.layers[-1]
    flax, torch = network.flax_parameters, network.torch_parameters
    same = all(layer.flax_parameters == layer.torch_parameters for layer in report.layers)
    counts = {
        "parameters": f"{flax:,} in both, the same in every layer"
        if same
        else f"{flax:,} in Flax, {torch:,} in PyTorch"
    }
    for section in report.sections:
        agreeing = sum(check.agrees for check in section.checks)
        undecided = sum(bool(check.undecided) and not check.differs for check in section.checks)
        left = f", {undecided} not decided" if undecided else ""
        counts[section.precision] = f"{agreeing} of {len(section.checks)} checks equal{left}"
    return counts


def _subject(report: Report) -> dict[str, str]:
    notes = {"notes": "<br>".join(map(escape, report.notes))} if report.notes else {}
    shape = " &times; ".join(map(str, report.image_shape))
    return {
        "network": escape(report.title),
        "with": escape(report.against),
        "weights": escape(report.weights),
        "images": f"{shape} (images, channels, height, width)",
        "training": f"{report.num_steps} steps" if report.num_steps else "left out",
    } | notes


def _section(report: Report, section: Section, stages: list[Stage]) -> str:
    setting = tag("small", escape(section.setting))
    parts = (
        tag("h2", f"{escape(section.precision)} {setting}"),
        check_table(report, section),
        tag("h3", "Differences over depth"),
        tag("div", "\n".join(_depth_figures(section, stages)), ["plots"]),
        *_training(section),
        tag("h3", "Layer by layer"),
        layer_table(section, stages),
    )
    return tag("section", "\n".join(parts))


def _depth_figures(section: Section, stages: list[Stage]) -> list[str]:
    figures = []
    for check in section.checks:
        if check.rung.quantity in ("activations", "gradients"):
            title = f"{check.rung.title}, {section.precision}"
            first = first_to_differ(check)
            parts = f": first to differ is {first.removeprefix('features.')}" if first else ""
            figures.append(_figure(title + parts, plot_depth(check, stages, title)))
    return figures


def _training(section: Section) -> list[str]:
    for check in section.checks:
        if check.rung.quantity == "losses":
            curves = f"training loss, {section.precision}"
            apart = f"difference of the training losses, {section.precision}"
            figures = (
                _figure(curves, plot_losses(check, curves)),
                _figure(apart, plot_loss_differences(check, apart)),
            )
            return [tag("h3", "Training"), tag("div", "\n".join(figures), ["plots"])]
    return []


def _figure(title: str, picture: str) -> str:
    return tag("figure", f"{tag('figcaption', escape(title))}\n{picture}")
