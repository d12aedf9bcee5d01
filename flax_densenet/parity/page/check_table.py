"""The table of a page with one row for each check."""

import numpy as np

from flax_densenet.parity.differences import ROUNDING_FACTOR, worst
from flax_densenet.parity.divergence import describe_result
from flax_densenet.parity.ladder import Check
from flax_densenet.parity.page.markup import escape, number, scrolling, tag
from flax_densenet.parity.report import Section

# Heading, explanation, and whether numbers stand below it.
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


def check_table(section: Section) -> str:
    """Returns the table of a precision's checks as HTML.

    Args:
      section: The ladder in that precision.
    """
    title = f"Checks in {section.precision}"
    headings = [tag("th", "check", ["corner"], scope="col")]
    for heading, explanation, is_number in _COLUMNS:
        text = heading + (tag("small", explanation) if explanation else "")
        headings.append(tag("th", text, ["number" if is_number else ""], scope="col"))
    head = tag("thead", tag("tr", "".join(headings)))
    body = tag("tbody", "\n".join(map(_row, section.checks)))
    caption = tag("caption", tag("span", escape(title), ["wrapped"]))
    return scrolling(tag("table", f"{caption}\n{head}\n{body}"), title)


def _row(check: Check) -> str:
    furthest = worst(check.rows)
    absolute = float(np.max([row.absolute for row in check.rows]))
    mark = "" if check.agrees else "differs"
    numbers = ["number"]
    result = describe_result(check)
    cells = (
        tag("th", escape(check.rung.title), scope="row"),
        tag("td", "equal" if check.agrees else "DIFFERENT", [mark]),
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
        told = tag("td", sentence, ["told", mark], colspan=len(cells))
        rows += "\n" + tag("tr", told)
    return rows
