"""torchvision's `memory_efficient` for the reference: its modules, another order of work.

Axes: B batch, C channels, H height, W width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torch_reference import DenseBlock, DenseLayer, DenseNet
from torch_reference.densenet import composite


class EfficientBlock(nn.Module):
    """Computes concatenation, norm1, ReLU and conv1 of each layer again in the backward pass.

    As in torchvision the second time updates the running statistics of norm1 again
    (https://github.com/pytorch/vision/blob/v0.22.0/torchvision/models/densenet.py).
    """

    def __init__(self, block: DenseBlock) -> None:
        super().__init__()
        self.layers = nn.ModuleList(block.children())

    def forward(self, x: Tensor) -> Tensor:
        """Returns input and new maps: [B, C, H, W] -> [B, C + num_layers growth_rate, H, W]."""
        features = [x]
        for layer in self.layers:
            assert isinstance(layer, DenseLayer)
            y = checkpoint(_concatenated(layer), *features, use_reentrant=False)
            if layer.config.bottleneck:
                y = composite(layer, "2", y)
            features.append(y)
        return torch.cat(features, dim=1)


def make_efficient(model: DenseNet) -> None:
    """Puts efficient blocks in the place of the network's own; there must be no dropout."""
    for name, module in model.features.named_children():
        if isinstance(module, DenseBlock):
            setattr(model.features, name, EfficientBlock(module))


def _concatenated(layer: DenseLayer) -> Callable[..., Tensor]:
    def first_convolution(*features: Tensor) -> Tensor:
        return composite(layer, "1", torch.cat(features, dim=1))

    return first_convolution
