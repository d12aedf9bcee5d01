"""The named networks of the paper, one row each.

CIFAR nets: paper, Table 2 (parameters there are rounded). ImageNet nets: paper, Table 1, and
DenseNet-161 from the authors' code. The counts are trainable parameters with 10 and 1000 classes.
"""

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import Stem

# Height and width in pixels of the images that each stem is made for (paper, section 4.1).
IMAGE_SIZES: dict[Stem, int] = {"cifar": 32, "imagenet": 224}


def _imagenet(*blocks: int, growth_rate: int = 32) -> DenseNetConfig:
    return DenseNetConfig(
        blocks=blocks,
        growth_rate=growth_rate,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        num_classes=1000,
    )


def _cifar(depth: int, growth_rate: int) -> DenseNetConfig:
    return DenseNetConfig(depth=depth, growth_rate=growth_rate)


def _cifar_bc(depth: int, growth_rate: int) -> DenseNetConfig:
    return DenseNetConfig(depth=depth, growth_rate=growth_rate, bottleneck=True, compression=0.5)


VARIANTS: dict[str, DenseNetConfig] = {
    "densenet-40-12": _cifar(40, 12),  #       1,019,722
    "densenet-100-12": _cifar(100, 12),  #     6,979,642
    "densenet-100-24": _cifar(100, 24),  #    27,249,082
    "densenet-bc-100-12": _cifar_bc(100, 12),  # 769,162
    "densenet-bc-250-24": _cifar_bc(250, 24),  # 15,324,406
    "densenet-bc-190-40": _cifar_bc(190, 40),  # 25,624,430
    "densenet121": _imagenet(6, 12, 24, 16),  # 7,978,856
    "densenet169": _imagenet(6, 12, 32, 32),  # 14,149,480
    "densenet201": _imagenet(6, 12, 48, 32),  # 20,013,928
    "densenet161": _imagenet(6, 12, 36, 24, growth_rate=48),  # 28,681,000
    # The paper's Table 1 calls these blocks 264; by its own way of counting they are 265.
    "densenet264": _imagenet(6, 12, 64, 48),  # 33,337,704
}
