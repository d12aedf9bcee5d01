"""The studies by name, and what each takes unless a flag says otherwise.

The defaults are small enough for ten minutes on two cores. Importing this module does not import
JAX, so that the help of `flax-densenet study` does not wait for it.
"""

import dataclasses
from typing import Any, NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.config import Augment, RunConfig
from flax_densenet.training.recipes import default_run


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

# The others, and what each shows.
ANALYSES: dict[str, str] = {
    "gradient_flow": "gradient of each layer, with and without the direct connections",
    "feature_reuse": "which earlier layers a trained network's layers read (paper, Figure 5)",
    "memory": "memory of a training step over depth, with and without remat",
}

STUDIES: dict[str, str] = {
    **{name: f"vary {name}: error, size, time and memory" for name in FIELD_STUDIES},
    **ANALYSES,
}

SEEDS = 3

# Four layers in each of three blocks; with bottlenecks, two at the same depth.
_NETWORK = DenseNetConfig(depth=16, growth_rate=12)
_NETWORKS = {"gradient_flow": DenseNetConfig(depth=40, growth_rate=12)}
_EPOCHS = 20
# Of the 1,442 training digits 500 are left: with more, all networks make almost no errors, and with
# fewer validation images one image decides.
_DIGITS_HELD_OUT = 942
_HELD_OUT = 5000  # as the paper's authors did (section 4.1, CIFAR)

# Of the study of memory, which needs no images.
MEMORY_NETWORK = DenseNetConfig(growth_rate=12, bottleneck=True, compression=0.5)
DEPTHS = (10, 16, 22, 28)
BATCH_SIZE = 64
IMAGE_SIZE = 32


def baseline_run(
    study: str,
    dataset: str,
    data_dir: str | None = None,
    network: DenseNetConfig | None = None,
    augment: Augment | None = None,
) -> RunConfig:
    """Returns the run whose network a study changes; as `default_run`, with validation images.

    Args:
      study: Key of `STUDIES`.
      dataset: What `--dataset` says.
      data_dir: What `--data_dir` says.
      network: The network; None is a small one for the digits, and the recipe's for other images.
      augment: What `--augment` says; None is the data set's default.

    Raises:
      InputError: There is no such data set.
    """
    is_digits = dataset == "digits"
    if network is None and is_digits:
        network = _NETWORKS.get(study, _NETWORK)
    run = default_run(dataset, data_dir, network, augment)
    held_out = _DIGITS_HELD_OUT if is_digits else run.data.validation_images or _HELD_OUT
    epochs = _EPOCHS if is_digits else run.optimization.epochs
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, validation_images=held_out),
        optimization=dataclasses.replace(run.optimization, epochs=epochs),
    )
