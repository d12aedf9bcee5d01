"""One frozen, hashable, validated description of every DenseNet.

"The paper" is Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional
Networks" (CVPR 2017), https://arxiv.org/abs/1608.06993.
"""

import dataclasses
import math
from typing import Any

from flax_densenet.errors import InputError, require
from flax_densenet.network.fields import (
    OPTIONS,
    Activation,
    Attention,
    ComputeType,
    Order,
    Stem,
    TransitionPool,
    check_fields,
)

_NUM_CIFAR_BLOCKS = 3
_DEFAULT_DEPTH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """Describes one DenseNet completely; equal configurations build equal networks.

    Attributes:
      depth: Depth (L) of a net with three equal blocks: 3n+4, or 6n+4 with bottleneck. 40 if
        neither depth nor blocks is given.
      blocks: Dense layers in each block, instead of depth. 6,12,24,16 is DenseNet-121.
      growth_rate: Feature maps that each dense layer adds (k).
      bottleneck: Put a 1x1 convolution before each 3x3 one (the "B" of DenseNet-B and -BC).
      bottleneck_factor: Width of that 1x1 convolution, in multiples of growth_rate.
      compression: Share of the feature maps that a transition keeps (theta), in (0, 1]. Below 1 it
        is the "C" of DenseNet-C and -BC.
      stem: "cifar" is one 3x3 convolution; "imagenet" is 7x7/2, BN, ReLU and 3x3/2 max pooling.
      stem_width: Output channels of the first convolution. None is the paper's rule: 16 for a plain
        cifar net, otherwise 2k. (The authors' code uses 2k everywhere.)
      num_classes: Number of classes.
      in_channels: Channels of the image.
      activation: Non-linearity after every batch normalization. The slope of leaky_relu is 0.01,
        that of each prelu one parameter.
      order: Of normalization, activation and convolution. "norm-act-conv" is the paper's;
        "conv-norm-act" has BN and activation after every convolution, the first included, and none
        before the classifier.
      transition_pool: 2x2 pooling of a transition, average or maximum.
      kernel_size: Height and width of a dense layer's 3x3 convolution, odd.
      groups: Groups of the channels in that convolution.
      attention: "se" weighs each dense layer's new feature maps by squeeze-and-excitation.
      attention_reduction: Its hidden layer has growth_rate // attention_reduction units (r), at
        least 1.
      dropout_rate: Probability of dropping an activation, in [0, 1). With the cifar stem dropout
        follows every convolution but the first (the paper), with the imagenet stem the 3x3 ones
        (torchvision).
      batch_norm_momentum: Weight of the new batch in the running statistics (PyTorch's meaning), in
        (0, 1].
      batch_norm_epsilon: Added to the variance. Keras-trained nets have 1.001e-5.
      dtype: Type of the computation. Parameters, statistics and loss are at least float32.

    Raises:
      InputError: A value is out of range, or the depth is not one that the blocks can have.
    """

    depth: int | None = None
    blocks: tuple[int, ...] | None = None
    growth_rate: int = 12
    bottleneck: bool = False
    bottleneck_factor: int = 4
    compression: float = 1.0
    stem: Stem = "cifar"
    stem_width: int | None = None
    num_classes: int = 10
    in_channels: int = 3
    activation: Activation = "relu"
    order: Order = "norm-act-conv"
    transition_pool: TransitionPool = "avg"
    kernel_size: int = 3
    groups: int = 1
    attention: Attention = "none"
    attention_reduction: int = 16
    dropout_rate: float = 0.0
    batch_norm_momentum: float = 0.1
    batch_norm_epsilon: float = 1e-5
    dtype: ComputeType = "float32"

    def __post_init__(self) -> None:
        if isinstance(self.blocks, list):  # which would not be hashable
            object.__setattr__(self, "blocks", tuple(self.blocks))
        check_fields(vars(self))
        self._check_depth()
        self._check_options()

    @property
    def depth_step(self) -> int:
        """Weight layers that one more dense layer in each of three blocks adds to the depth."""
        return _NUM_CIFAR_BLOCKS * self.convolutions_per_layer

    @property
    def convolutions_per_layer(self) -> int:
        """Convolutions in one dense layer: 2 with bottleneck, else 1."""
        return 2 if self.bottleneck else 1

    # What follows from other fields is computed, never stored, so that
    # `dataclasses.replace(config, growth_rate=24)` changes every width that depends on it.

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Number of dense layers in each block."""
        if self.blocks is not None:
            return self.blocks
        layers = ((self.depth or _DEFAULT_DEPTH) - 4) // self.depth_step
        return (layers,) * _NUM_CIFAR_BLOCKS

    @property
    def num_weight_layers(self) -> int:
        """Convolutions plus the classifier, which is how the paper counts depth (L)."""
        transitions = len(self.block_sizes) - 1
        return 1 + sum(self.block_sizes) * self.convolutions_per_layer + transitions + 1

    @property
    def stem_channels(self) -> int:
        """Output channels of the first convolution (paper, section 3)."""
        if self.stem_width is not None:
            return self.stem_width
        is_plain = self.stem == "cifar" and not self.bottleneck
        return 16 if is_plain else 2 * self.growth_rate

    @property
    def bottleneck_channels(self) -> int:
        """Output channels of the 1x1 convolution in a bottleneck layer (4k in the paper)."""
        return self.bottleneck_factor * self.growth_rate

    @property
    def attention_channels(self) -> int:
        """Width of the hidden layer of squeeze-and-excitation (k / r in its paper)."""
        return max(1, self.growth_rate // self.attention_reduction)

    def transition_channels(self, channels: int) -> int:
        """Returns how many of `channels` feature maps a transition keeps: floor(theta m)."""
        return max(1, math.floor(self.compression * channels))

    @property
    def drops_every_convolution(self) -> bool:
        """Whether dropout follows the 1x1 convolutions too (paper), or only the 3x3."""
        return self.stem == "cifar"

    @property
    def normalizes_stem(self) -> bool:
        """Whether normalization and activation follow the first convolution."""
        return self.stem == "imagenet" or self.order == "conv-norm-act"

    @property
    def normalizes_head(self) -> bool:
        """Whether normalization and activation follow the last block."""
        return self.order == "norm-act-conv"

    @property
    def options(self) -> dict[str, Any]:
        """Extensions that are on, {field: value}; the paper's networks have none."""
        default = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value != default[name]}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What `DenseNet.features` calls its outputs, in forward order."""
        blocks = (f"denseblock{block}" for block in range(1, len(self.block_sizes) + 1))
        head = ("norm5",) if self.normalizes_head else ()
        return (*blocks, *head, "last", "pooled", "logits")

    @property
    def min_image_size(self) -> int:
        """Smallest height and width in pixels that leave one pixel in the last block."""
        size = 2 ** (len(self.block_sizes) - 1)  # each transition halves, rounding down
        if self.stem == "imagenet":
            size = 2 * (2 * size - 1) - 1  # convolution and pool halve, rounding up
        return size

    @property
    def title(self) -> str:
        """The paper's way to write the net, such as "DenseNet-BC (L=100, k=12)", and options."""
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        return f"{self._family} (L={self.num_weight_layers}, k={self.growth_rate}{options})"

    @property
    def slug(self) -> str:
        """The same for file names, such as "densenet-bc-100-12"."""
        options = "".join(f"-{name}-{value}" for name, value in self.options.items())
        name = f"{self._family.lower()}-{self.num_weight_layers}-{self.growth_rate}{options}"
        return name.replace("_", "-")

    @property
    def _family(self) -> str:
        letters = ("B" if self.bottleneck else "") + ("C" if self.compression < 1 else "")
        return f"DenseNet-{letters}" if letters else "DenseNet"

    def check_image(self, *, height: int, width: int, channels: int) -> None:
        """Checks that the network can take images of this size.

        Args:
          height: Image height in pixels.
          width: Image width in pixels.
          channels: Image channels.

        Raises:
          InputError: The image is too small or has other channels than `in_channels`.
        """
        if channels != self.in_channels:
            raise InputError(
                f"image has {channels} channels but in_channels is {self.in_channels}; "
                f"convert the image, or build the network with in_channels={channels}"
            )
        minimum = self.min_image_size
        if height < minimum or width < minimum:  # min() would not take symbolic sizes
            raise InputError(
                f"image is {height}x{width} pixels, but {self.title} with the {self.stem} stem and "
                f"{len(self.block_sizes)} blocks needs at least {minimum}x{minimum}; "
                "use larger images or fewer blocks"
            )

    def _check_depth(self) -> None:
        if self.depth is None:
            require(
                self.blocks is not None or self.stem == "cifar",
                "blocks",
                None,
                "the number of layers of each block, which the imagenet stem does not imply; "
                "(6, 12, 24, 16) is DenseNet-121",
            )
            return
        if self.blocks is not None:
            raise InputError(
                f"depth (={self.depth}) and blocks (={self.blocks}) are both given; "
                "give one of them, since blocks alone fixes the depth"
            )
        if self.stem == "imagenet":
            raise InputError(
                f"depth (={self.depth}) cannot describe a net with the imagenet stem, whose blocks "
                "differ in size; give blocks, such as (6, 12, 24, 16) for DenseNet-121"
            )
        step = self.depth_step
        if self.depth < step + 4 or (self.depth - 4) % step:
            below = max(step + 4, self.depth - (self.depth - 4) % step)
            nearest = f"{below} and {below + step}" if below < self.depth else f"{below}"
            kind = "a bottleneck (-B, -BC)" if self.bottleneck else "a plain"
            raise InputError(
                f"depth (={self.depth}) must be {step}n+4 for {kind} net of three equal blocks; "
                f"nearest valid: {nearest}"
            )

    def _check_options(self) -> None:
        if self.attention == "none" and "attention_reduction" in self.options:
            raise InputError(
                f"attention_reduction (={self.attention_reduction}) has no effect without "
                "attention; leave it out, or choose attention se"
            )
        groups, growth_rate = self.groups, self.growth_rate
        convolution = f"conv{self.convolutions_per_layer}"
        if growth_rate % groups:
            raise InputError(
                f"groups (={groups}) must divide growth_rate (={growth_rate}), the output channels "
                f"of denseblock1.denselayer1.{convolution}"
            )
        if self.bottleneck:
            return  # the input channels are a multiple of growth_rate
        channels = self.stem_channels
        for block, num_layers in enumerate(self.block_sizes, start=1):
            if channels % groups:
                raise InputError(
                    f"groups (={groups}) must divide the {channels} input channels of "
                    f"denseblock{block}.denselayer1.{convolution}; choose stem_width and "
                    "compression accordingly, or a bottleneck, whose width is always a multiple of "
                    "growth_rate"
                )
            channels = self.transition_channels(channels + num_layers * growth_rate)
