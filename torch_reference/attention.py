"""Squeeze-and-excitation (https://arxiv.org/abs/1709.01507, section 3) in PyTorch.

To be read beside flax_densenet/network/attention.py.

Axes: B batch, C channels, H height, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flax_densenet.network.config import DenseNetConfig


class SqueezeExcitation(nn.Module):
    """Multiplies each feature map by a number in (0, 1), computed from the means of all.

    With s the mean of each map, the numbers are sigmoid(W2 relu(W1 s + b1) + b2).
    """

    def __init__(self, config: DenseNetConfig, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, config.attention_channels)
        self.fc2 = nn.Linear(config.attention_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the weighed maps: [B, C, H, W] -> [B, C, H, W]."""
        weights = torch.mean(x, dim=(2, 3))  # [B, C]
        weights = F.relu(self.fc1(weights))
        weights = torch.sigmoid(self.fc2(weights))
        return x * weights[:, :, None, None]
