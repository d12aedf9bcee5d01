"""In the manner of bamos/densenet.pytorch: everything inline, log-softmax at the end."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """BN-ReLU-Conv(1x1)-BN-ReLU-Conv(3x3), put behind its input."""

    def __init__(self, channels: int, growth_rate: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth_rate, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat((x, out), 1)


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1) and pooling."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, kept, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns fewer, smaller maps."""
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """A DenseNet-BC of three blocks."""

    def __init__(self, growth_rate: int = 4, count: int = 2, classes: int = 10) -> None:
        super().__init__()
        channels = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.dense1 = _block(count, channels, growth_rate)
        channels += count * growth_rate
        self.trans1 = Transition(channels, channels // 2)
        channels //= 2
        self.dense2 = _block(count, channels, growth_rate)
        channels += count * growth_rate
        self.trans2 = Transition(channels, channels // 2)
        channels //= 2
        self.dense3 = _block(count, channels, growth_rate)
        channels += count * growth_rate
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logarithms of the probabilities for 32x32 images."""
        out = self.trans1(self.dense1(self.conv1(x)))
        out = self.dense3(self.trans2(self.dense2(out)))
        out = torch.squeeze(F.avg_pool2d(F.relu(self.bn1(out)), 8))
        return F.log_softmax(self.fc(out), dim=1)


def _block(count: int, channels: int, growth_rate: int) -> nn.Sequential:
    layers = (Bottleneck(channels + i * growth_rate, growth_rate) for i in range(count))
    return nn.Sequential(*layers)
