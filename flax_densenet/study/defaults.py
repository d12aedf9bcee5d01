"""Defaults of the studies: small enough for some ten minutes on two cores.

It imports no framework, so that help does not wait for one.
"""

import dataclasses

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.config import Augment, RunConfig
from flax_densenet.training.recipes import default_run

SEEDS = 3

# Four layers in each of three blocks; with bottlenecks, two at the same depth.
_NETWORK = DenseNetConfig(depth=16, growth_rate=12)
_NETWORKS = {"gradient_flow": DenseNetConfig(depth=40, growth_rate=12)}
_EPOCHS = 20
# Of the 1,442 training digits 500 are left: with more, all networks make almost no errors, and with
# fewer validation images one image decides.
_DIGITS_HELD_OUT = 942
_HELD_OUT = 5000  # as the paper's authors did (section 4.1, CIFAR)

# The study of memory needs no images.
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
    """Returns the run whose network a study changes: `default_run`, with validation images.

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
