"""The ways to compute a network, which have the same result."""

from typing import Literal

ChosenFormulation = Literal["plain", "cache_blocked", "native", "shared_statistics"]
Formulation = Literal["auto", ChosenFormulation]
