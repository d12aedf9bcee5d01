"""Placeholder."""

from typing import Any


def find_counterpart(against: str, config: Any) -> Any: ...


Counterpart = Any
