"""In the manner of torchvision in 2018: a dense layer is a Sequential that returns everything."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _DenseLayer(nn.Sequential):
    def __init__(self, channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.add_module("norm1", nn.BatchNorm2d(channels))
        self.add_module("relu1", nn.ReLU(inplace=True))
        self.add_module("conv1", nn.Conv2d(channels, 4 * growth_rate, 1, bias=False))
        self.add_module("norm2", nn.BatchNorm2d(4 * growth_rate))
        self.add_module("relu2", nn.ReLU(inplace=True))
        conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.add_module("conv2", conv2)
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        new_features = super().forward(x)
        if self.drop_rate > 0:
            new_features = F.dropout(new_features, p=self.drop_rate, training=self.training)
        return torch.cat([x, new_features], 1)


class DenseNet(nn.Module):
    """A DenseNet-BC of two blocks with the ImageNet stem."""

    def __init__(self, growth_rate: int = 4, drop_rate: float = 0.1) -> None:
        super().__init__()
        channels = 2 * growth_rate
        stem = [
            ("conv0", nn.Conv2d(3, channels, kernel_size=7, stride=2, padding=3, bias=False)),
            ("norm0", nn.BatchNorm2d(channels)),
            ("relu0", nn.ReLU(inplace=True)),
            ("pool0", nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
        ]
        self.features = nn.Sequential(OrderedDict(stem))
        for block in (1, 2):
            dense = nn.Sequential()
            for layer in (1, 2):
                name = f"denselayer{layer}"
                dense.add_module(name, _DenseLayer(channels, growth_rate, drop_rate))
                channels += growth_rate
            self.features.add_module(f"denseblock{block}", dense)
            if block == 1:
                self.features.add_module("transition1", _transition(channels, channels // 2))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        features = F.relu(self.features(x), inplace=True)
        out = F.adaptive_avg_pool2d(features, 1).view(features.size(0), -1)
        return self.classifier(out)


def _transition(channels: int, kept: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            [
                ("norm", nn.BatchNorm2d(channels)),
                ("relu", nn.ReLU(inplace=True)),
                ("conv", nn.Conv2d(channels, kept, kernel_size=1, bias=False)),
                ("pool", nn.AvgPool2d(kernel_size=2, stride=2)),
            ]
        )
    )
