"""A PyTorch network as one of the two halves that are compared (`flax_densenet.parity`).

Axes: B batch, C channels, H height, W width.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import swa_utils

from flax_densenet.config import DenseNetConfig
from flax_densenet.layouts import TORCHVISION, Layout
from flax_densenet.parity.half import (
    EMA_DECAY,
    LEARNING_RATE,
    PIXEL_MEAN,
    PIXEL_STD,
    STATISTICS,
    WEIGHT_DECAY,
    Batch,
    Observation,
    Trained,
)
from flax_densenet.weights import Variables, correspondence, to_arrays
from torch_reference.densenet import DenseBlock, DenseLayer, DenseNet, Transition

_COUNTER = "num_batches_tracked"


class TorchHalf:
    """A PyTorch DenseNet (see `flax_densenet.parity.half.Half`), observed on copies of itself.

    Attributes:
      model: The network.
      names: The reference's name of every module that is observed and of every parameter and
        buffer, by the network's own name.
    """

    def __init__(
        self,
        model: nn.Module,
        config: DenseNetConfig,
        variables: Variables,
        layout: Layout = TORCHVISION,
        device: str | torch.device = "cpu",
    ) -> None:
        """Gives the network its weights.

        Args:
          model: The network; its weights are replaced.
          config: What it is.
          variables: {"params", "batch_stats"}, in the type of the configuration.
          layout: How it names its layers.
          device: Where it is computed.

        Raises:
          RuntimeError: The weights are not those of the network.
        """
        self.config = config
        self.device = torch.device(device)
        self.dtype = getattr(torch, config.dtype)
        self.model = copy.deepcopy(model).to(self.device, self.dtype)
        arrays = to_arrays(variables, config, layout)
        counted = self.model.state_dict()
        state = {key: torch.from_numpy(array) for key, array in arrays.items() if key in counted}
        self.model.load_state_dict(state, strict=True)
        self.names = _names(self.model, config, layout)
        self.notes: list[str] = []

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns its trainable parameters, under the reference's names."""
        return {self.names[key]: _array(value) for key, value in self.model.named_parameters()}

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the activations of images [B, C, H, W] in evaluation."""
        model = copy.deepcopy(self.model).eval()
        activations = self._record_activations(model)
        with torch.no_grad():
            model(self._tensor(image))
        return activations

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        """Returns all that one pass shows."""
        model = copy.deepcopy(self.model).train(train)
        activations = self._record_activations(model)
        image = self._tensor(batch.image).requires_grad_()
        logits = model(image)
        loss = F.cross_entropy(logits, torch.from_numpy(batch.label).long().to(self.device))
        loss.backward()
        differentiated = {"image": image} | {
            self.names[key]: parameter for key, parameter in model.named_parameters()
        }
        statistics = {
            self.names[key]: _array(value)
            for key, value in model.state_dict().items()
            if key.endswith(STATISTICS)
        }
        return Observation(
            activations,
            {"loss": _array(loss)},
            {name: _gradient(tensor) for name, tensor in differentiated.items()},
            statistics,
        )

    def train(self, batches: Sequence[Batch]) -> Trained:
        """Trains by one step on each batch."""
        model = copy.deepcopy(self.model).train()
        optimizer = torch.optim.SGD(
            model.parameters(),
            LEARNING_RATE,
            momentum=0.9,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        milestones = [math.ceil(share * len(batches)) for share in (0.5, 0.75)]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        average_step = swa_utils.get_ema_multi_avg_fn(EMA_DECAY)
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=average_step)
        losses = {}
        for number, (pixels, label) in enumerate(batches, start=1):
            logits = model(self._tensor((pixels - PIXEL_MEAN) / PIXEL_STD))
            loss = F.cross_entropy(logits, torch.from_numpy(label).long().to(self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            averaged.update_parameters(model)
            losses[f"loss of step {number}"] = _array(loss)
        momentum = {
            self.names[key]: _array(optimizer.state[parameter]["momentum_buffer"])
            for key, parameter in model.named_parameters()
        }
        return Trained(losses, self._weights(model), momentum, self._weights(averaged.module))

    def _tensor(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(image).to(self.device, self.dtype)

    def _weights(self, model: nn.Module) -> dict[str, np.ndarray]:
        return {
            self.names[key]: _array(value)
            for key, value in model.state_dict().items()
            if not key.endswith(_COUNTER)
        }

    def _record_activations(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Returns a dict that every later forward pass of the model fills, in forward order."""
        activations: dict[str, np.ndarray] = {}

        def hook_for(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                # A copy, since an activation may work in place.
                activations[name] = _array(output.clone())

            return hook

        for name, module in model.named_modules():
            if name in self.names:
                module.register_forward_hook(hook_for(self.names[name]))
        return activations


def reference_half(
    config: DenseNetConfig, variables: Variables, device: str | torch.device = "cpu"
) -> TorchHalf:
    """Returns the reference with the given weights.

    Args:
      config: The network.
      variables: {"params", "batch_stats"}, in the type of the configuration.
      device: Where it is computed.
    """
    return TorchHalf(DenseNet(config), config, variables, device=device)


def _names(model: nn.Module, config: DenseNetConfig, layout: Layout) -> dict[str, str]:
    keys = {
        row.key: reference.key
        for row, reference in zip(
            correspondence(config, layout), correspondence(config), strict=True
        )
    }
    layers = {key.rpartition(".")[0]: name.rpartition(".")[0] for key, name in keys.items()}
    # Other networks' blocks may return something else under the same name.
    ours = (DenseLayer, DenseBlock, Transition)
    blocks = {name: name for name, module in model.named_modules() if isinstance(module, ours)}
    return keys | layers | blocks | {"": "logits"}


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _gradient(tensor: Tensor) -> np.ndarray:
    assert tensor.grad is not None, "the loss does not depend on it"
    return _array(tensor.grad)
