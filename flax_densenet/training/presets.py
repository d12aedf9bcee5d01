"""The rows of the paper's result tables, each as one named run.

Errors in percent: paper, Table 2 (CIFAR and SVHN; "+" is with augmentation) and Table 3 (ImageNet,
single crop; DenseNet-161 from the authors' repository, https://github.com/liuzhuang13/DenseNet).
"""

from typing import NamedTuple

from flax_densenet.training.run_config import Augment

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
