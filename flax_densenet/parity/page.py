"""A comparison as a page that needs no other file."""

import html
from pathlib import Path

from flax_densenet.parity.report import Report
from flax_densenet.parity.table import render


def write_page(report: Report, file: Path) -> None:
    """Writes the report as HTML.

    Args:
      report: The comparison.
      file: The page; its directory is made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    title = html.escape(f"Parity of {report.title}")
    file.write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<h1>{title}</h1>\n<pre>\n{html.escape(render(report))}\n</pre>\n</html>\n"
    )
