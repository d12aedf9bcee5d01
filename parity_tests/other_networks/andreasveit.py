"""In the manner of andreasveit/densenet-pytorch: layers that concatenate, dropout as a function."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """BN-ReLU-Conv(3x3), put behind its input."""

    def __init__(self, channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps."""
        out = self.conv1(self.relu(self.bn1(x)))
        if self.drop_rate > 0:
            out = F.dropout(out, p=self.drop_rate, training=self.training)
        return torch.cat([x, out], 1)


class Block(nn.Module):
    """Layers, one after another."""

    def __init__(self, count: int, channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(Layer(channels + i * growth_rate, growth_rate, drop_rate) for i in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps."""
        return self.layer(x)


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1), dropout and pooling."""

    def __init__(self, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns smaller maps."""
        out = self.conv1(self.relu(self.bn1(x)))
        if self.drop_rate > 0:
            out = F.dropout(out, p=self.drop_rate, inplace=True, training=self.training)
        return F.avg_pool2d(out, 2)


class Net(nn.Module):
    """A plain DenseNet of three blocks."""

    def __init__(self, count: int, growth_rate: int, classes: int, drop_rate: float) -> None:
        super().__init__()
        channels, added = 2 * growth_rate, count * growth_rate
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1 = Block(count, channels, growth_rate, drop_rate)
        self.trans1 = Transition(channels + added, drop_rate)
        self.block2 = Block(count, channels + added, growth_rate, drop_rate)
        self.trans2 = Transition(channels + 2 * added, drop_rate)
        self.block3 = Block(count, channels + 2 * added, growth_rate, drop_rate)
        self.bn1 = nn.BatchNorm2d(channels + 3 * added)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels + 3 * added, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of 32x32 images."""
        out = self.trans1(self.block1(self.conv1(x)))
        out = self.block3(self.trans2(self.block2(out)))
        out = F.avg_pool2d(self.relu(self.bn1(out)), 8)
        return self.fc(out.view(out.size(0), -1))


def densenet() -> Net:
    """Returns DenseNet (L=10, k=4) with a stem of 2k and dropout."""
    return Net(count=2, growth_rate=4, classes=10, drop_rate=0.2)
