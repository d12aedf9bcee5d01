"""How each data set is trained unless a flag says otherwise."""

import dataclasses
from typing import NamedTuple

from flax_densenet.config import DenseNetConfig
from flax_densenet.data import describe_dataset
from flax_densenet.training.run_config import DataConfig, OptimizationConfig, RunConfig


class Recipe(NamedTuple):
    """Epochs, and whether training images are augmented."""

    epochs: int
    augment: bool


RECIPES: dict[str, Recipe] = {
    # Mirrored digits are other characters, and 4 pixels are half of an 8x8 image.
    "digits": Recipe(epochs=10, augment=False),
}
_CIFAR = Recipe(epochs=300, augment=True)  # paper, section 4.2


def default_run(dataset: str, data_dir: str | None, network: DenseNetConfig) -> RunConfig:
    """Returns the run that a data set and a network imply.

    Args:
      dataset: What `--dataset` says.
      data_dir: What `--data_dir` says.
      network: The network; its classes and channels are replaced by the data set's.

    Raises:
      InputError: There is no such data set.
    """
    recipe = RECIPES.get(dataset, _CIFAR)
    description = describe_dataset(dataset, data_dir)
    return RunConfig(
        network=dataclasses.replace(network, **description._asdict()),
        data=DataConfig(dataset=dataset, data_dir=data_dir, augment=recipe.augment),
        optimization=OptimizationConfig(epochs=recipe.epochs),
    )
