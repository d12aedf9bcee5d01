"""Converts the state of SGD with momentum, which PyTorch stores by number of parameter."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.adapt import at_least_float32
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.layouts import LAYOUTS, Layout
from flax_densenet.weights.recognize import WeightSet
from flax_densenet.weights.table import from_arrays, to_arrays

MOMENTUM, STEP = "momentum", "step"  # of arrays beside "params", and in the metadata
_BUFFER = "momentum_buffer"
_PAPER_GROUP = {
    "lr": 0.1,
    "momentum": 0.9,
    "dampening": 0,
    "weight_decay": 1e-4,
    "nesterov": True,
    "maximize": False,
    "foreach": None,
    "differentiable": False,
    "fused": None,
}
# Fields of a parameter's state in torch.optim that SGD does not have. RMSprop's momentum has the
# name of SGD's.
_OTHER_OPTIMIZERS = {
    "exp_avg_sq": "Adam or AdamW",
    "square_avg": "RMSprop or Adadelta",
    "exp_inf": "Adamax",
    "sum": "Adagrad",
    "ax": "ASGD",
    "prev": "Rprop",
}
_STEP_NAMES = ("step", "global_step", "num_steps")


class OptimizerState(NamedTuple):
    """The state of SGD with momentum.

    Attributes:
      momentum: Nested dicts like the parameters.
      step: Number of steps done, if the file says it.
      settings: Entries of PyTorch's parameter group, such as the learning rate, if known.
    """

    momentum: dict[str, Any]
    step: int | None
    settings: dict[str, Any]


def find_optimizer(
    contents: Contents, chosen: WeightSet, config: DenseNetConfig
) -> OptimizerState | None:
    """Returns the state of SGD that belongs to a set of weights, or None if there is none.

    Raises:
      InputError: There is one, and it does not fit the weights.
    """
    ours = _after(contents.arrays, MOMENTUM) or _after(contents.arrays, "trace")
    if ours:
        step = contents.metadata.get(STEP)
        saved = contents.arrays.get(("training", STEP))
        number = int(step) if step is not None else int(saved) if saved is not None else None
        return _checked(traverse_util.unflatten_dict(ours), number, {}, chosen, config)
    fields = {keys[-1] for keys in contents.arrays if len(keys) > 2 and keys[-3] == "state"}
    if others := fields - {_BUFFER}:
        names = [name for field, name in _OTHER_OPTIMIZERS.items() if field in others]
        raise InputError(
            f"the optimizer is {names[0] if names else 'unknown'} (its state has "
            f"{', '.join(sorted(others))}), not SGD with momentum, which alone is converted; "
            "convert the weights alone, without --optimizer"
        )
    buffers = {keys: array for keys, array in contents.arrays.items() if keys[-1] == _BUFFER}
    if not buffers:
        return None
    return _from_torch(contents, buffers, chosen, config)


def to_torch_order(
    state: OptimizerState, variables: dict[str, Any], config: DenseNetConfig, layout: Layout
) -> list[np.ndarray]:
    """Returns the momentum of each parameter in the order of PyTorch's `parameters()`.

    Args:
      state: The state.
      variables: {"params", "batch_stats"} of the network.
      config: The network.
      layout: A layout of PyTorch.
    """
    arrays = to_arrays({**variables, "params": state.momentum}, config, layout)
    return [array for key, array in arrays.items() if _is_parameter(key)]


def torch_training_checkpoint(
    tensors: dict[str, Any], *, momentum: list[np.ndarray], optimizer: OptimizerState
) -> dict[str, Any]:
    """Returns {"state_dict", "optimizer", "step"} as PyTorch training scripts save them.

    Args:
      tensors: The state dict.
      momentum: Momentum of each parameter, in the order of `parameters()`.
      optimizer: The state that the momentum is from. Settings that it lacks are those of the
        paper's training (section 4.2), with the learning rate at the start.
    """
    import torch

    group = {**_PAPER_GROUP, **optimizer.settings, "params": list(range(len(momentum)))}
    state = {
        number: {_BUFFER: torch.from_numpy(np.array(array))}
        for number, array in enumerate(momentum)
    }
    checkpoint = {"state_dict": tensors, "optimizer": {"state": state, "param_groups": [group]}}
    return checkpoint if optimizer.step is None else {**checkpoint, STEP: optimizer.step}


def _after(arrays: Mapping[ArrayPath, np.ndarray], word: str) -> dict[ArrayPath, np.ndarray]:
    """Returns the arrays with a word in their path, by the part of the path after it."""
    whole = {tuple("/".join(keys).split("/")): array for keys, array in arrays.items()}
    return {keys[keys.index(word) + 1 :]: a for keys, a in whole.items() if word in keys}


def _from_torch(
    contents: Contents,
    buffers: dict[ArrayPath, np.ndarray],
    chosen: WeightSet,
    config: DenseNetConfig,
) -> OptimizerState:
    roots = {keys[:-3] for keys in buffers}
    root = roots.pop()
    groups = {
        keys[len(root) + 1]: None
        for keys in contents.settings
        if keys[: len(root)] == root and keys[len(root)] == "param_groups"
    }
    names = [key for key in chosen.arrays if _is_parameter(key)]
    if roots or len(groups) != 1 or len(buffers) != len(names):
        raise InputError(
            f"the optimizer has {len(groups)} parameter group(s) and {len(buffers)} momentum "
            f"buffers for {len(names)} parameters; wanted one group and a buffer for each, whose "
            "order is then that of the parameters; convert the weights alone, without --optimizer"
        )
    group = (*root, "param_groups", next(iter(groups)))
    settings = {keys[-1]: value for keys, value in contents.settings.items() if keys[:-1] == group}
    order = settings.pop("params")
    arrays = {
        name: buffers[*root, "state", str(number), _BUFFER]
        for name, number in zip(names, order, strict=True)
    }
    momentum = from_arrays({**chosen.arrays, **arrays}, config, LAYOUTS[chosen.layout])["params"]
    steps = [value for (name, *rest), value in contents.settings.items() if name in _STEP_NAMES]
    momentum = jax.tree.map(at_least_float32, momentum)
    return OptimizerState(momentum, steps[0] if steps else None, settings)


def _checked(
    momentum: dict[str, Any],
    step: int | None,
    settings: dict[str, Any],
    chosen: WeightSet,
    config: DenseNetConfig,
) -> OptimizerState:
    variables = from_arrays(chosen.arrays, config, LAYOUTS[chosen.layout])
    to_arrays({**variables, "params": momentum}, config, LAYOUTS["flax"])  # checks names and shapes
    return OptimizerState(jax.tree.map(at_least_float32, momentum), step, settings)


def _is_parameter(key: str) -> bool:
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
