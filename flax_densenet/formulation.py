"""The two ways to compute a network, which have the same result."""

from typing import Literal

Formulation = Literal["auto", "plain", "cache_blocked"]
