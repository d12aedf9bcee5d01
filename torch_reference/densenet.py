"""DenseNet (https://arxiv.org/abs/1608.06993) in PyTorch.

To be read beside flax_densenet/network/model.py. Every submodule has torchvision's name, so that
state dicts load into torchvision's models and back with `strict=True`.

Axes: B batch, C channels, H height, W width; images are [B, C, H, W].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flax_densenet.network.config import DenseNetConfig
from torch_reference.activation import ACTIVATIONS
from torch_reference.attention import SqueezeExcitation


class DenseLayer(nn.Module):
    """BN-ReLU-Conv(3x3), with a bottleneck BN-ReLU-Conv(1x1) before it (paper, section 3)."""

    def __init__(self, config: DenseNetConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        if config.bottleneck:
            _add_composite(self, "1", _conv(channels, config.bottleneck_channels, 1))
            channels = config.bottleneck_channels
        conv = _conv(channels, config.growth_rate, config.kernel_size, groups=config.groups)
        _add_composite(self, str(config.convolutions_per_layer), conv)
        if config.attention == "se":
            self.attention = SqueezeExcitation(config, config.growth_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's new feature maps: [B, C, H, W] -> [B, growth_rate, H, W]."""
        cfg = self.config
        last, y = str(cfg.convolutions_per_layer), x
        if cfg.bottleneck:
            y = composite(self, "1", y)
            if cfg.drops_every_convolution:
                y = F.dropout(y, cfg.dropout_rate, self.training)
        y = composite(self, last, y)
        if cfg.attention == "se":
            y = self.attention(y)
        return F.dropout(y, cfg.dropout_rate, self.training)


class DenseBlock(nn.Module):
    """Dense layers; each sees the feature maps of all layers before it (paper, equation 2)."""

    def __init__(self, config: DenseNetConfig, num_layers: int, channels: int) -> None:
        super().__init__()
        for layer in range(1, num_layers + 1):
            self.add_module(f"denselayer{layer}", DenseLayer(config, channels))
            channels += config.growth_rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps: [B, C, H, W] -> [B, C + num_layers growth_rate, H, W]."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1) and 2x2 average pooling, between two blocks (paper, section 3)."""

    def __init__(self, config: DenseNetConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        _add_composite(self, "", _conv(channels, config.transition_channels(channels), 1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns fewer, smaller maps: [B, C, H, W] -> [B, floor(theta C), H // 2, W // 2]."""
        cfg = self.config
        x = composite(self, "", x)
        if cfg.drops_every_convolution:
            x = F.dropout(x, cfg.dropout_rate, self.training)
        pool = F.max_pool2d if cfg.transition_pool == "max" else F.avg_pool2d
        return pool(x, kernel_size=2, stride=2)


class DenseNet(nn.Module):
    """The whole network: stem, dense blocks with transitions between them, classifier.

    flax_densenet/network/model.py describes stem and head in the order "conv-norm-act".

    The configuration's `dtype` does not matter here: PyTorch computes in the type of the weights
    (`model.double()`).
    """

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.stem_channels
        self.features = nn.Sequential()
        if config.stem == "imagenet":
            self.features.add_module("conv0", _conv(config.in_channels, channels, 7, stride=2))
        else:
            self.features.add_module("conv0", _conv(config.in_channels, channels, 3))
        if config.normalizes_stem:
            _add_norm_act(self.features, "0", config, channels)
        if config.stem == "imagenet":
            self.features.add_module("pool0", nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        last_block = len(config.block_sizes)
        for block, num_layers in enumerate(config.block_sizes, start=1):
            self.features.add_module(f"denseblock{block}", DenseBlock(config, num_layers, channels))
            channels += num_layers * config.growth_rate
            if block != last_block:
                self.features.add_module(f"transition{block}", Transition(config, channels))
                channels = config.transition_channels(channels)
        if config.normalizes_head:
            _add_norm_act(self.features, "5", config, channels)
        self.classifier = nn.Linear(channels, config.num_classes)
        self._initialize()

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits of a batch of normalized images.

        Args:
          image: [B, in_channels, H, W].

        Returns:
          [B, num_classes].

        Raises:
          InputError: The image's shape does not suit the network.
        """
        _, channels, height, width = image.shape
        self.config.check_image(height=height, width=width, channels=channels)
        x = self.features(image)
        x = torch.mean(x, dim=(2, 3))  # [B, C]
        return self.classifier(x)

    def _initialize(self) -> None:
        """Draws the authors' initial weights (see flax_densenet/network/initialization.py).

        `nn.Linear` already draws its weight from U(-1/sqrt(I), 1/sqrt(I)).
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


def _add_composite(module: DenseLayer | Transition, number: str, conv: nn.Conv2d) -> None:
    """Adds BN, ReLU and convolution in the order of their computation (see `composite`)."""
    if module.config.order == "conv-norm-act":
        module.add_module(f"conv{number}", conv)
        _add_norm_act(module, number, module.config, conv.out_channels)
    else:
        _add_norm_act(module, number, module.config, conv.in_channels)
        module.add_module(f"conv{number}", conv)


def _add_norm_act(module: nn.Module, number: str, config: DenseNetConfig, channels: int) -> None:
    module.add_module(f"norm{number}", _norm(config, channels))
    module.add_module(f"{config.activation}{number}", ACTIVATIONS[config.activation]())


def composite(module: DenseLayer | Transition, number: str, x: Tensor) -> Tensor:
    """BN, ReLU and convolution (the paper's "composite function"), or in the order asked for.

    Args:
      module: The layer or transition that holds them.
      number: End of their names.
      x: [B, C, H, W].
    """
    names = ("norm", module.config.activation, "conv")
    norm, activation, conv = (getattr(module, f"{name}{number}") for name in names)
    if module.config.order == "conv-norm-act":
        return activation(norm(conv(x)))
    return conv(activation(norm(x)))


def _conv(
    channels: int, features: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = size // 2
    return nn.Conv2d(channels, features, size, stride, padding, groups=groups, bias=False)


def _norm(config: DenseNetConfig, channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, config.batch_norm_epsilon, config.batch_norm_momentum)
