"""Tables of a report, as HTML: its checks, and its layers."""

import html
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from flax_densenet.parity.differences import ROUNDING_FACTOR, Difference, worst
from flax_densenet.parity.ladder import Check
from flax_densenet.parity.page.stages import Stage
from flax_densenet.parity.report import Layer, Report, Section, by_layer, first_to_differ


def escape(text: object) -> str:
    """Returns the text as it is written in HTML."""
    return html.escape(str(text))


def tag(name: str, content: str, classes: Iterable[str] = (), **attributes: object) -> str:
    """Returns an element.

    Args:
      name: Name of the element.
      content: HTML.
      classes: Its classes; empty ones are left out.
      **attributes: Other attributes, as text.
    """
    given = {"class": " ".join(filter(None, classes)), **attributes}
    written = "".join(f' {key}="{escape(value)}"' for key, value in given.items() if value != "")
    return f"<{name}{written}>{content}</{name}>"


def definitions(rows: Mapping[str, str]) -> str:
    """Returns a list of headings (text) and what belongs to them (HTML)."""
    items = (f"{tag('dt', escape(key))}\n{tag('dd', value)}" for key, value in rows.items())
    return tag("dl", "\n".join(items))


def scrolling(table: str, label: str, classes: Iterable[str] = ()) -> str:
    """Returns a region of the page that scrolls a wide table, by keyboard too.

    Args:
      table: HTML.
      label: What it is, as text.
      classes: Its classes besides "scroll".
    """
    names = {"role": "region", "aria-label": label}
    return tag("div", table, ["scroll", *classes], tabindex=0, **names)


def number(value: float | None) -> str:
    """Returns a difference with two digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:.1e}" if value else "0"


# Heading, explanation, and whether the column holds numbers.
_COLUMNS = (
    ("result", "", False),
    ("arrays", "compared", True),
    ("absolute", "largest difference", True),
    ("relative", "largest difference", True),
    ("in", "this array", False),
    ("tolerance", "fixed", True),
    ("rounding", "PyTorch from itself", True),
    ("allowed", f"or {ROUNDING_FACTOR} &times; rounding", True),
)


def check_table(report: Report, section: Section) -> str:
    """Returns the table of a precision's checks as HTML.

    Args:
      report: What was found.
      section: The ladder in that precision.
    """
    title = f"Checks in {section.precision}"
    headings = [tag("th", "check", ["corner"], scope="col")]
    for heading, explanation, is_number in _COLUMNS:
        text = heading + (tag("small", explanation) if explanation else "")
        headings.append(tag("th", text, ["number" if is_number else ""], scope="col"))
    head = tag("thead", tag("tr", "".join(headings)))
    body = tag(
        "tbody",
        "\n".join(_row(check, report.describe_result(section, check)) for check in section.checks),
    )
    caption = tag("caption", tag("span", escape(title), ["wrapped"]))
    return scrolling(tag("table", f"{caption}\n{head}\n{body}"), title)


def _row(check: Check, result: str) -> str:
    furthest = worst(check.rows)
    absolute = float(np.max([row.absolute for row in check.rows]))
    mark = _mark(check.differs, bool(check.undecided))
    numbers = ["number"]
    cells = (
        tag("th", escape(check.rung.title), scope="row"),
        tag("td", {"differs": "DIFFERENT", "undecided": "not decided"}.get(mark, "equal"), [mark]),
        tag("td", f"{len(check.rows):,}", numbers),
        tag("td", number(absolute), numbers),
        tag("td", number(furthest.relative), [*numbers, mark]),
        tag("td", escape(furthest.name.removeprefix("features."))),
        tag("td", f"{furthest.tolerance:.0e}", numbers),
        tag("td", number(furthest.rounding), numbers),
        tag("td", f"{furthest.allowed:.0e}", numbers),
    )
    rows = tag("tr", "".join(cells))
    if result != "equal":
        sentence = tag("span", escape(result.removeprefix("DIFFERENT: ")), ["wrapped"])
        reason = tag("td", sentence, ["told", mark], colspan=len(cells))
        rows += "\n" + tag("tr", reason)
    return rows


# Losses belong to no layer.
_WITHOUT_LAYERS = ("loss", "losses")
# A table of at most so many layers is shown unfolded.
_SHORT = 100


def layer_table(section: Section, stages: list[Stage]) -> str:
    """Returns the table of a precision's differences, layer by layer, as HTML.

    Args:
      section: The ladder in that precision.
      stages: The parts of the network.
    """
    columns = [
        _Column(check.rung.title, by_layer(check), first_to_differ(check))
        for check in section.checks
        if check.rung.quantity not in _WITHOUT_LAYERS
    ]
    is_short = stages[-1].stop <= _SHORT
    title = f"Layers in {section.precision}"
    explanation = (
        f"{escape(title)}: largest difference of their arrays. Framed: the first to differ, in the "
        "order of computation. &asymp;: above the tolerance, but not above "
        f"{ROUNDING_FACTOR} &times; rounding. ?: not decided, since a fault could hide in that."
    )
    switches = "".join(
        tag("label", f'<input type="checkbox" class="{name}"> {text}')
        for name, text in (("all", "all layers"), ("differing", "only layers that differ"))
    )
    bodies = "\n".join(_stage(stage, columns, is_short) for stage in stages)
    caption = tag("caption", tag("span", explanation, ["wrapped"]))
    table = tag("table", f"{caption}\n{_head(columns)}\n{bodies}")
    folded = f"{tag('p', switches, ['switch'])}\n{scrolling(table, title, ['tall'])}"
    return tag("div", folded, ["layers"])


class _Column(NamedTuple):
    """A check, by layer."""

    title: str
    found: dict[str, Difference]
    first: str | None

    def stage(self, stage: Stage) -> Difference | None:
        rows = [self.found[layer.name] for layer in stage.layers if layer.name in self.found]
        return worst(rows) if rows else None


def _head(columns: list[_Column]) -> str:
    headings = [
        tag("th", "#", ["number"], rowspan=2, scope="col"),
        tag("th", "layer", ["corner"], rowspan=2, scope="col"),
        tag("th", "operation", rowspan=2, scope="col"),
        tag("th", "output", rowspan=2, scope="col"),
        tag("th", "parameters", ["pair"], colspan=2, scope="colgroup"),
    ]
    pairs = [("torch", "Flax")]
    for column in columns:
        headings.append(tag("th", escape(column.title), ["pair"], colspan=2, scope="colgroup"))
        pairs.append(("absolute", "relative"))
    below = [
        tag("th", left, ["number", "pair"], scope="col") + tag("th", right, ["number"], scope="col")
        for left, right in pairs
    ]
    rows = f"{tag('tr', ''.join(headings))}\n{tag('tr', ''.join(below))}"
    return tag("thead", rows)


def _stage(stage: Stage, columns: list[_Column], is_short: bool) -> str:
    has_first = any(column.first == layer.name for column in columns for layer in stage.layers)
    checked = " checked" if is_short or has_first else ""
    title = f'<input type="checkbox"{checked}> {escape(stage.title)}'
    cells = [
        tag("td", ""),
        tag("th", tag("label", title), scope="rowgroup"),
        tag("td", f"{len(stage.layers)} rows"),
        tag("td", _shape(stage.layers[-1])),
        *_parameters(stage.torch_parameters, stage.flax_parameters),
    ]
    for column in columns:
        cells += _pair(column.stage(stage), is_first=False)
    rows = [tag("tr", "".join(cells), ["stage"])]
    for position, layer in enumerate(stage.layers, stage.start):
        rows.append(_layer(position, layer, columns))
    return tag("tbody", "\n".join(rows))


def _layer(position: int, layer: Layer, columns: list[_Column]) -> str:
    found = [column.found.get(layer.name) for column in columns]
    differs = layer.torch_parameters != layer.flax_parameters or any(
        row is not None and row.differs for row in found
    )
    path, _, name = layer.name.removeprefix("features.").rpartition(".")
    above = tag("span", escape(f"{path}."), ["muted"]) if path else ""
    depth = len(path.split(".")) if path else 0
    cells = [
        tag("td", str(position), ["number", "muted"]),
        tag("th", above + escape(name), [f"depth{depth}"], scope="row"),
        tag("td", escape(layer.operation)),
        tag("td", _shape(layer)),
        *_parameters(layer.torch_parameters, layer.flax_parameters),
    ]
    for column, row in zip(columns, found, strict=True):
        cells += _pair(row, is_first=column.first == layer.name)
    return tag("tr", "".join(cells), ["layer", "differing" if differs else ""])


def _pair(row: Difference | None, *, is_first: bool) -> list[str]:
    if row is None:
        return [tag("td", "", ["pair"]), "<td></td>"]
    marks = [_mark(row.differs, row.is_undecided), "first" if is_first else ""]
    nearly = "&asymp; " if row.agrees and row.relative > row.tolerance else ""
    nearly = "? " if row.is_undecided else nearly
    return [
        tag("td", number(row.absolute), ["number", "pair", *marks]),
        tag("td", nearly + number(row.relative), ["number", *marks]),
    ]


def _mark(differs: bool, is_undecided: bool) -> str:
    """Returns the class of a result."""
    return "differs" if differs else "undecided" if is_undecided else ""


def _parameters(torch: int, flax: int) -> list[str]:
    mark = "" if torch == flax else "differs"
    return [
        tag("td", f"{torch:,}" if torch else "", ["number", "pair", mark]),
        tag("td", f"{flax:,}" if flax else "", ["number", mark]),
    ]


def _shape(layer: Layer) -> str:
    return " &times; ".join(map(str, layer.shape))
