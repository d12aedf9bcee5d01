"""The paper's recipes and the cells of its result tables.

Errors in percent: paper, Table 2 (CIFAR and SVHN; "+" is with augmentation) and Table 3 (ImageNet,
single crop; DenseNet-161 from the authors' repository, https://github.com/liuzhuang13/DenseNet).
"""

import dataclasses
from typing import NamedTuple

from flax_densenet.data import describe_dataset
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import VARIANTS
from flax_densenet.training.config import Augment, DataConfig, OptimizationConfig, RunConfig


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


_COLUMNS: dict[str, tuple[str, Augment]] = {
    "cifar10": ("cifar10", "none"),
    "cifar10+": ("cifar10", "shift"),
    "cifar100": ("cifar100", "none"),
    "cifar100+": ("cifar100", "shift"),
    "svhn": ("svhn", "none"),
    "imagenet2012": ("imagenet2012", "crop_color"),
}
_CIFAR_COLUMNS = ("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn")
_PUBLISHED: dict[str, dict[str, float]] = {
    "densenet-40-12": dict(zip(_CIFAR_COLUMNS, (7.00, 5.24, 27.55, 24.42, 1.79), strict=True)),
    "densenet-100-12": dict(zip(_CIFAR_COLUMNS, (5.77, 4.10, 23.79, 20.20, 1.67), strict=True)),
    "densenet-100-24": dict(zip(_CIFAR_COLUMNS, (5.83, 3.74, 23.42, 19.25, 1.59), strict=True)),
    "densenet-bc-100-12": dict(zip(_CIFAR_COLUMNS, (5.92, 4.51, 24.15, 22.27, 1.76), strict=True)),
    "densenet-bc-250-24": dict(zip(_CIFAR_COLUMNS, (5.19, 3.62, 19.64, 17.60, 1.74), strict=True)),
    "densenet-bc-190-40": {"cifar10+": 3.46, "cifar100+": 17.18},
    "densenet121": {"imagenet2012": 25.02},
    "densenet169": {"imagenet2012": 23.80},
    "densenet201": {"imagenet2012": 22.58},
    "densenet264": {"imagenet2012": 22.15},
    "densenet161": {"imagenet2012": 22.2},
}


class Preset(NamedTuple):
    """One published result.

    Attributes:
      variant: Name of the network.
      dataset: Name of the data set.
      augment: Whether and how it is augmented.
      published_error: Test error in percent.
    """

    variant: str
    dataset: str
    augment: Augment
    published_error: float


PRESETS: dict[str, Preset] = {
    f"{variant}-{column}": Preset(variant, *_COLUMNS[column], error)
    for variant, row in _PUBLISHED.items()
    for column, error in row.items()
}
