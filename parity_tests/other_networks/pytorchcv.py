"""In the manner of pytorchcv's CIFAR nets: a transition at the start of the next stage."""

import torch
from torch import Tensor, nn


class PreConv(nn.Module):
    """BN-ReLU-Conv."""

    def __init__(self, channels: int, outputs: int, size: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.activ = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(channels, outputs, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns new maps."""
        return self.conv(self.activ(self.bn(x)))


class Unit(nn.Module):
    """A dense layer with a bottleneck."""

    def __init__(self, channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.conv1 = PreConv(channels, 4 * growth_rate, 1)
        self.conv2 = PreConv(4 * growth_rate, growth_rate, 3)
        self.dropout = nn.Dropout(p=drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps."""
        return torch.cat((x, self.dropout(self.conv2(self.conv1(x)))), dim=1)


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1) and pooling."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.conv = PreConv(channels, kept, 1)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Returns fewer, smaller maps."""
        return self.pool(self.conv(x))


class PostActivation(nn.Module):
    """BN-ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.activ = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns its input, normalized and rectified."""
        return self.activ(self.bn(x))


class CIFARDenseNet(nn.Module):
    """A DenseNet-BC of three blocks."""

    def __init__(self, growth_rate: int = 4, drop_rate: float = 0.2) -> None:
        super().__init__()
        channels = 2 * growth_rate
        self.features = nn.Sequential()
        self.features.add_module("init_block", nn.Conv2d(3, channels, 3, padding=1, bias=False))
        for number in (1, 2, 3):
            stage = nn.Sequential()
            if number > 1:
                stage.add_module(f"trans{number}", Transition(channels, channels // 2))
                channels //= 2
            for unit in (1, 2):
                stage.add_module(f"unit{unit}", Unit(channels, growth_rate, drop_rate))
                channels += growth_rate
            self.features.add_module(f"stage{number}", stage)
        self.features.add_module("post_activ", PostActivation(channels))
        self.features.add_module("final_pool", nn.AvgPool2d(kernel_size=8, stride=1))
        self.output = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of 32x32 images."""
        x = self.features(x)
        return self.output(x.view(x.size(0), -1))
