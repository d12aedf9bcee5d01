"""The studies by name; each that varies a field of the configuration is a row of one table.

It imports no framework, so that help does not wait for one.
"""

from typing import Any, NamedTuple


class FieldStudy(NamedTuple):
    """The same training with several values of one field of `DenseNetConfig`.

    Attributes:
      values: Values that are compared unless others are given.
      label: What the field is, for the axis of a picture.
      is_numeric: Whether the values are points of a scale; otherwise they are names.
    """

    values: tuple[Any, ...]
    label: str
    is_numeric: bool


FIELD_STUDIES: dict[str, FieldStudy] = {
    "growth_rate": FieldStudy((4, 8, 12, 24, 40), "growth rate k (maps per layer)", True),
    "depth": FieldStudy((7, 10, 13, 16, 22), "depth L (convolutions and classifier)", True),
    "blocks": FieldStudy(
        ((2, 2, 2), (4, 4, 4), (6, 6, 6), (2, 4, 6), (6, 4, 2)),
        "dense layers in each block",
        False,
    ),
    "compression": FieldStudy((1.0, 0.75, 0.5, 0.25), "compression θ (share of maps kept)", True),
    "bottleneck": FieldStudy((False, True), "bottleneck (1x1 before 3x3)", False),
    "activation": FieldStudy(
        ("relu", "leaky_relu", "prelu", "sigmoid", "tanh"), "activation", False
    ),
    "transition_pool": FieldStudy(("avg", "max"), "pooling in transitions", False),
    "order": FieldStudy(("norm-act-conv", "conv-norm-act"), "order of the operations", False),
    "attention": FieldStudy(("none", "se"), "attention (squeeze-and-excitation)", False),
    "dropout_rate": FieldStudy((0.0, 0.1, 0.2, 0.3, 0.5), "dropout rate (probability)", True),
}

# The other studies, and what each shows.
ANALYSES: dict[str, str] = {
    "gradient_flow": "gradient of each layer, with and without the direct connections",
    "feature_reuse": "which earlier layers a trained network's layers read (paper, Figure 5)",
    "memory": "memory of a training step over depth, with and without remat",
}

STUDIES: dict[str, str] = {
    **{name: f"vary {name}: error, size, time and memory" for name in FIELD_STUDIES},
    **ANALYSES,
}
