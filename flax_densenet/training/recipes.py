"""How each data set is trained unless a flag says otherwise."""

import dataclasses
from typing import NamedTuple

from flax_densenet.config import DenseNetConfig
from flax_densenet.data import describe_dataset
from flax_densenet.training.optimization_config import OptimizationConfig
from flax_densenet.training.run_config import Augment, DataConfig, RunConfig
from flax_densenet.variants import VARIANTS


class Recipe(NamedTuple):
    """What differs between data sets; everything else has its default.

    Attributes:
      epochs: Passes over the training images.
      batch_size: Images per step.
      drops: Shares of the training after which the learning rate is divided by 10.
      dropout_rate: Probability of dropping an activation.
      validation_images: Training images held out.
      image_size: Pixels, for images in files.
      network: The network if no flag describes one.
    """

    epochs: int
    batch_size: int = 64
    drops: tuple[float, ...] = (1 / 2, 3 / 4)
    dropout_rate: float = 0.0
    validation_images: int = 0
    image_size: int | None = None
    network: DenseNetConfig = DenseNetConfig()


# Paper, section 4: dropout where images are not augmented; SVHN's 6,000 choose the epoch.
_AUGMENTED, _PLAIN = Recipe(epochs=300), Recipe(epochs=300, dropout_rate=0.2)
_SVHN = Recipe(epochs=40, dropout_rate=0.2, validation_images=6000)
_IMAGENET = Recipe(
    epochs=90, batch_size=256, drops=(1 / 3, 2 / 3), image_size=224, network=VARIANTS["densenet121"]
)

# A data set's first row is what it is trained with by default.
RECIPES: dict[tuple[str, Augment], Recipe] = {
    # Mirrored digits are other characters, and 4 pixels are half of an 8x8 image.
    ("digits", "none"): Recipe(epochs=10),
    ("cifar10", "shift"): _AUGMENTED,
    ("cifar10", "none"): _PLAIN,
    ("cifar100", "shift"): _AUGMENTED,
    ("cifar100", "none"): _PLAIN,
    ("svhn", "none"): _SVHN,
    ("svhn_without_extra", "none"): _SVHN,
    ("mnist", "none"): Recipe(epochs=40, dropout_rate=0.2),
    ("fashion_mnist", "shift"): _AUGMENTED,
    ("fashion_mnist", "none"): _PLAIN,
    ("imagenet2012", "crop_color"): _IMAGENET,
    ("imagenette", "crop"): _IMAGENET._replace(batch_size=64),
}
# Images of one's own: as CIFAR with the cifar stem, as ImageNet with the imagenet stem.
_FOLDERS: dict[str, tuple[Augment, Recipe]] = {
    "cifar": ("shift", _AUGMENTED._replace(image_size=32)),
    "imagenet": ("crop", _IMAGENET._replace(batch_size=64)),
}


def find_recipe(
    dataset: str, augment: Augment | None, network: DenseNetConfig | None
) -> tuple[Augment, Recipe]:
    """Returns how a data set is trained.

    Args:
      dataset: What `--dataset` says.
      augment: What `--augment` says; None is the data set's default.
      network: The network, if one is asked for.
    """
    name = dataset.removeprefix("tfds:")
    rows = {
        row_augment: row for (row_name, row_augment), row in RECIPES.items() if row_name == name
    }
    if not rows and dataset.startswith("folder:"):
        rows = dict([_FOLDERS[network.stem if network else "cifar"]])
    elif not rows:
        rows = {"shift": _AUGMENTED}
    default = next(iter(rows))
    chosen = default if augment is None else augment
    return chosen, rows.get(chosen, rows[default])


def default_run(
    dataset: str,
    data_dir: str | None,
    network: DenseNetConfig | None,
    augment: Augment | None = None,
) -> RunConfig:
    """Returns the run that a data set and a network imply.

    Args:
      dataset: What `--dataset` says.
      data_dir: What `--data_dir` says.
      network: The network; its classes, channels and dropout are replaced by the data set's. None
        is the recipe's.
      augment: What `--augment` says; None is the data set's default.

    Raises:
      InputError: There is no such data set.
    """
    augment, recipe = find_recipe(dataset, augment, network)
    description = describe_dataset(dataset, data_dir)._asdict()
    if network is not None and dataset.startswith("folder:"):
        del description["in_channels"]  # images in files become what the network takes
    return RunConfig(
        network=dataclasses.replace(
            network or recipe.network,
            dropout_rate=recipe.dropout_rate,
            **description,
        ),
        data=DataConfig(
            dataset=dataset,
            data_dir=data_dir,
            augment=augment,
            validation_images=recipe.validation_images,
            image_size=recipe.image_size,
        ),
        optimization=OptimizationConfig(
            epochs=recipe.epochs, batch_size=recipe.batch_size, drops=recipe.drops
        ),
    )
