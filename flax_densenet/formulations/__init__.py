"""The ways to compute everything but the classifier, all with one result.

`model.py` has the plain one. `native` and `cache_blocked` are made for the CPU (the second
needs no C++ compiler), `shared_statistics` for the GPU.
"""

from flax_densenet.formulations.apply import apply
from flax_densenet.formulations.choice import choose_formulation

__all__ = ["apply", "choose_formulation"]
