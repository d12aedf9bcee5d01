"""Placeholder."""

from pathlib import Path

from flax_densenet.parity.report import Report


def write_page(report: Report, file: Path) -> None: ...
