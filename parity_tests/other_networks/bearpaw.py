"""In the manner of bearpaw/pytorch-classification: modules reused, trained under DataParallel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """BN-ReLU-Conv(1x1)-BN-ReLU-Conv(3x3), put behind its input; one ReLU for both."""

    def __init__(self, channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth_rate, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps."""
        out = self.relu(self.bn1(x))
        out = self.conv1(out)
        out = self.relu(self.bn2(out))
        out = self.conv2(out)
        if self.drop_rate > 0:
            out = F.dropout(out, p=self.drop_rate, training=self.training)
        return torch.cat((x, out), 1)


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1) and pooling."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, kept, kernel_size=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns fewer, smaller maps."""
        out = self.conv1(self.relu(self.bn1(x)))
        return F.avg_pool2d(out, 2)


class DenseNet(nn.Module):
    """A DenseNet-BC of three blocks."""

    def __init__(self, depth: int, growth_rate: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        count = (depth - 4) // 6
        self.channels, self.growth_rate, self.drop_rate = 2 * growth_rate, growth_rate, drop_rate
        self.conv1 = nn.Conv2d(3, self.channels, kernel_size=3, padding=1, bias=False)
        self.dense1 = self._block(count)
        self.trans1 = self._transition()
        self.dense2 = self._block(count)
        self.trans2 = self._transition()
        self.dense3 = self._block(count)
        self.bn = nn.BatchNorm2d(self.channels)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(self.channels, num_classes)

    def _block(self, count: int) -> nn.Sequential:
        layers = []
        for _ in range(count):
            layers.append(Bottleneck(self.channels, self.growth_rate, self.drop_rate))
            self.channels += self.growth_rate
        return nn.Sequential(*layers)

    def _transition(self) -> Transition:
        channels, self.channels = self.channels, self.channels // 2
        return Transition(channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of 32x32 images."""
        x = self.conv1(x)
        x = self.trans1(self.dense1(x))
        x = self.trans2(self.dense2(x))
        x = self.relu(self.bn(self.dense3(x)))
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


def densenet() -> nn.Module:
    """Returns DenseNet-BC (L=16, k=4), wrapped as for training on several GPUs."""
    return nn.DataParallel(DenseNet(depth=16, growth_rate=4, num_classes=10, drop_rate=0.1))
