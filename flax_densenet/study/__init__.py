"""The questions that people ask about DenseNet, each answered by a table and a picture.

`study.growth_rate(values=(4, 8))` or `study.run("growth_rate", (4, 8))`; every key of `STUDIES` is
such a function.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from flax_densenet.lazy_names import lazy_names
from flax_densenet.study.catalog import FIELD_STUDIES, STUDIES

if TYPE_CHECKING:
    from flax_densenet.study.functions import feature_reuse, gradient_flow, memory, run, study_field
    from flax_densenet.study.result import StudyResult

    def __getattr__(name: str) -> Callable[..., StudyResult]: ...
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"functions": ("run", "study_field", *STUDIES), "result": ("StudyResult",)},
    )

__all__ = [
    "FIELD_STUDIES",
    "STUDIES",
    "StudyResult",
    "feature_reuse",
    "gradient_flow",
    "memory",
    "run",
    "study_field",
]
