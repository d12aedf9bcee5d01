"""In the manner of gpleiss/efficient_densenet_pytorch: layers take all maps, some run twice."""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth_rate: int, efficient: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 4 * growth_rate, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)
        self.efficient = efficient

    def forward(self, *features: Tensor) -> Tensor:
        def bottleneck(*inputs: Tensor) -> Tensor:
            return self.conv1(self.relu1(self.norm1(torch.cat(inputs, 1))))

        if self.efficient and any(feature.requires_grad for feature in features):
            output: Any = checkpoint(bottleneck, *features, use_reentrant=False)
        else:
            output = bottleneck(*features)
        return self.conv2(self.relu2(self.norm2(output)))


class _DenseBlock(nn.Module):
    def __init__(self, count: int, channels: int, growth_rate: int, efficient: bool) -> None:
        super().__init__()
        for i in range(count):
            layer = _DenseLayer(channels + i * growth_rate, growth_rate, efficient)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.children():
            features.append(layer(*features))
        return torch.cat(features, 1)


class _Transition(nn.Sequential):
    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.add_module("norm", nn.BatchNorm2d(channels))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("conv", nn.Conv2d(channels, kept, kernel_size=1, bias=False))
        self.add_module("pool", nn.AvgPool2d(kernel_size=2, stride=2))


class DenseNet(nn.Module):
    """A DenseNet-BC of two blocks."""

    def __init__(self, growth_rate: int = 4, efficient: bool = False) -> None:
        super().__init__()
        channels = 2 * growth_rate
        stem = nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)
        self.features = nn.Sequential(OrderedDict([("conv0", stem)]))
        for block in (1, 2):
            name, dense = f"denseblock{block}", _DenseBlock(2, channels, growth_rate, efficient)
            self.features.add_module(name, dense)
            channels += 2 * growth_rate
            if block == 1:
                self.features.add_module("transition1", _Transition(channels, channels // 2))
                channels //= 2
        self.features.add_module("norm_final", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        return self.classifier(torch.flatten(out, 1))


def checkpointed() -> DenseNet:
    """Returns the network that computes its bottlenecks twice, running statistics included."""
    return DenseNet(efficient=True)
