"""The same training in both frameworks, with a learning-rate drop inside."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
import optax.tree_utils
import torch

from flax_densenet import DenseNet, to_torch_arrays
from flax_densenet.training import Preprocess, create_state, train_step
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from parity_tests.compare import TOLERANCES, assert_close
from parity_tests.networks import Case
from parity_tests.observation import torch_model

# At 0.05, changing the last bit of every kernel moves PyTorch's own float32 momentum of the
# ImageNet net by 20 % within ten steps; at 0.01 by 1e-5.
_LEARNING_RATE = 0.01
_WEIGHT_DECAY = 1e-2  # large enough to be seen
_EMA_DECAY = 0.8
# (pixel - 128) / 64 has no rounding in float32, so both halves get the same input.
_MEAN, _STD = 128.0, 64.0


def compare_training(
    case: Case, variables: dict[str, Any], precision: str, *, num_steps: int
) -> None:
    """Trains both halves from the same weights and compares all that training changes.

    Args:
      case: The network and the shape of its images.
      variables: Initial weights and statistics.
      precision: Key of `TOLERANCES`.
      num_steps: Steps; the learning rate drops after half of them and after three quarters.

    Raises:
      AssertionError: A loss, parameter, running statistic or momentum differs.
    """
    batches = [_batch(case, seed) for seed in range(num_steps)]
    ours = _train_flax(case, variables, batches)
    theirs = _train_torch(case, variables, batches)
    tolerance = TOLERANCES[precision]
    assert_close(ours.losses, theirs.losses, tolerance.training)
    assert_close(ours.weights, theirs.weights, tolerance.training)
    assert_close(ours.average, theirs.average, tolerance.training)
    # A sum of gradients, so measured as they are.
    assert_close(ours.momentum, theirs.momentum, tolerance.gradient, tolerance.gradient_floor)


class _Trained(NamedTuple):
    """The loss of every step; parameters, statistics, momentum and average after the last."""

    losses: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]
    average: dict[str, np.ndarray]


def _batch(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    pixels = random.integers(256, size=case.image_shape).astype(np.uint8)
    label = random.integers(case.config.num_classes, size=case.image_shape[0])
    return pixels, label.astype(np.int32)


def _train_flax(
    case: Case, variables: dict[str, Any], batches: list[tuple[np.ndarray, np.ndarray]]
) -> _Trained:
    channels = case.config.in_channels
    state = create_state(
        DenseNet(case.config),
        sgd(learning_rate_schedule(_LEARNING_RATE, len(batches)), _WEIGHT_DECAY),
        Preprocess((_MEAN,) * channels, (_STD,) * channels, augment="none"),
        seed=0,
        ema_decay=_EMA_DECAY,
    ).replace(**jax.device_put(variables))
    step = jax.jit(train_step)
    losses = {}
    for number, (pixels, label) in enumerate(batches):
        batch = {"image": pixels.transpose(0, 2, 3, 1), "label": label}
        state, metrics = step(state, batch)
        losses[f"loss of step {number}"] = metrics["loss"]
    statistics = {"batch_stats": state.batch_stats}
    named = to_torch_arrays({"params": state.params, **statistics}, case.config)
    trace = optax.tree_utils.tree_get(state.optimizer_state, "trace")
    momentum = to_torch_arrays({"params": trace, **statistics}, case.config)
    average = to_torch_arrays(state.variables, case.config)
    trained = {k: v for k, v in momentum.items() if k.endswith(("weight", "bias"))}
    return _Trained(losses, _without_counters(named), trained, _without_counters(average))


def _train_torch(
    case: Case, variables: dict[str, Any], batches: list[tuple[np.ndarray, np.ndarray]]
) -> _Trained:
    model = torch_model(variables, case.config).train()
    optimizer = torch.optim.SGD(
        model.parameters(), _LEARNING_RATE, momentum=0.9, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    milestones = [math.ceil(share * len(batches)) for share in (0.5, 0.75)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    average_step = torch.optim.swa_utils.get_ema_multi_avg_fn(_EMA_DECAY)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average_step)
    losses = {}
    for number, (pixels, label) in enumerate(batches):
        image = (pixels.astype(case.config.dtype) - _MEAN) / _STD
        logits = model(torch.from_numpy(image.astype(case.config.dtype)))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(label).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        averaged.update_parameters(model)
        losses[f"loss of step {number}"] = loss.detach().numpy()
    named = {key: value.numpy() for key, value in model.state_dict().items()}
    momentum = {
        name: optimizer.state[parameter]["momentum_buffer"].numpy()
        for name, parameter in model.named_parameters()
    }
    average = {key: value.numpy() for key, value in averaged.module.state_dict().items()}
    return _Trained(losses, _without_counters(named), momentum, _without_counters(average))


def _without_counters(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in named.items() if not key.endswith("num_batches_tracked")}
