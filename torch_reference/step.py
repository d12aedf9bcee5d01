"""One training step and one evaluation step in PyTorch.

To be read beside flax_densenet/training/step.py.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.network.config import DenseNetConfig
from torch_reference.densenet import DenseNet
from torch_reference.preprocess import Preprocess

Metrics = dict[str, Tensor]

_TOP = 5  # ImageNet counts labels outside the five best, too


@dataclasses.dataclass
class TrainState:
    """Everything that a training step reads and changes.

    Attributes:
      model: The network, in training mode between the steps.
      optimizer: The paper's.
      schedule: Learning rate, a function of the step (from 0).
      preprocess: Normalization and augmentation of images.
      generator: Source of the augmentation's randomness. Dropout draws from PyTorch's global one.
      label_smoothing: Share of the target probability that is spread over all classes.
      max_gradient_norm: Norm to which the gradients are scaled down, if any.
      average: Exponential moving average of the parameters, which evaluation uses, if any.
      freeze_batch_norm: Whether batch normalizations stay in evaluation mode.
      step: Steps done.
    """

    model: DenseNet
    optimizer: torch.optim.SGD
    schedule: Callable[[int], float]
    preprocess: Preprocess
    generator: torch.Generator
    label_smoothing: float
    max_gradient_norm: float | None
    average: AveragedModel | None
    freeze_batch_norm: bool = False
    step: int = 0

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network for evaluation: with the averaged parameters, if they are kept."""
        return self.model if self.average is None else self.average


def create_state(
    config: DenseNetConfig,
    schedule: Callable[[int], float],
    preprocess: Preprocess,
    *,
    seed: int,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.0,
    max_gradient_norm: float | None = None,
    ema_decay: float | None = None,
    frozen: Collection[str] = (),
    factors: Mapping[str, float] = {},
    freeze_batch_norm: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      config: The network.
      schedule: Learning rate, a function of the step (from 0).
      preprocess: Normalization and augmentation of images.
      seed: Decides the augmentation. Initial weights come from PyTorch's global generator.
      weight_decay: Factor of each parameter that is added to its gradient.
      label_smoothing: Share of the target probability that is spread over all classes.
      max_gradient_norm: Scale the gradient down to this norm (over all parameters) if it is longer.
      ema_decay: Weight of the old average of the parameters at each step; None keeps no average.
      frozen: Names of the parameters that are not trained.
      factors: What the learning rate is multiplied by, by the parameter's name; 1 without one.
      freeze_batch_norm: Keep batch normalizations in evaluation mode.
      state_dict: Initial weights, to start where another training starts.
    """
    model = DenseNet(config).to(getattr(torch, config.dtype))
    if state_dict is not None:
        model.load_state_dict(state_dict)
    # The learning rate is set before each step.
    optimizer = torch.optim.SGD(
        _parameter_groups(model, frozen, factors),
        lr=0.0,
        momentum=0.9,
        nesterov=True,
        weight_decay=weight_decay,
    )
    average = None
    if ema_decay is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
    return TrainState(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        preprocess=preprocess,
        generator=torch.Generator().manual_seed(seed),
        label_smoothing=label_smoothing,
        max_gradient_norm=max_gradient_norm,
        average=average,
        freeze_batch_norm=freeze_batch_norm,
    )


def train_step(state: TrainState, batch: TrainBatch) -> Metrics:
    """Does one step of gradient descent, which changes the state.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32}.

    Returns:
      The batch's mean "loss" and "accuracy" before the step.
    """
    image = state.preprocess(torch.as_tensor(batch["image"]), state.generator, train=True)
    label = torch.as_tensor(batch["label"]).long()
    state.model.train()
    if state.freeze_batch_norm:
        for module in state.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    logits = state.model(image.to(state.model.classifier.weight.dtype))
    loss = F.cross_entropy(logits, label, label_smoothing=state.label_smoothing)
    state.optimizer.zero_grad()
    loss.backward()
    if state.max_gradient_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.max_gradient_norm)
    for group in state.optimizer.param_groups:
        group["lr"] = state.schedule(state.step) * group["factor"]
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    state.step += 1
    accuracy = torch.mean((logits.argmax(dim=1) == label).double())
    return {"loss": loss.detach(), "accuracy": accuracy}


@torch.no_grad()
def eval_step(state: TrainState, batch: EvalBatch) -> Metrics:
    """Evaluates one batch, in which only the valid examples count.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32, "valid": [B] bool}.

    Returns:
      Sums over the valid examples: "loss", "correct", "in_top" (the label is among the five best)
      and "count".
    """
    image = state.preprocess(torch.as_tensor(batch["image"]), state.generator, train=False)
    label, valid = torch.as_tensor(batch["label"]).long(), torch.as_tensor(batch["valid"])
    logits = state.evaluated.eval()(image.to(state.model.classifier.weight.dtype))
    label_logit = logits.gather(1, label[:, None])
    loss = F.cross_entropy(logits, label, reduction="none")
    return {
        "loss": torch.sum(torch.where(valid, loss, 0.0)),
        "correct": torch.sum(valid & (logits.argmax(dim=1) == label)),
        "in_top": torch.sum(valid & (torch.sum(logits > label_logit, dim=1) < _TOP)),
        "count": torch.sum(valid),
    }


def _parameter_groups(
    model: DenseNet, frozen: Collection[str], factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Freezes parameters and returns a group of the others for each factor of the rate."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
        else:
            groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    return [{"params": group, "factor": factor} for factor, group in groups.items()]
