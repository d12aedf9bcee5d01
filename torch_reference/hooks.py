"""What the modules of a network put out, seen by hooks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn


def record_outputs(model: nn.Module, layers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns a dict that every later pass of the network fills, in forward order.

    A module that runs again, as under activation checkpointing, overwrites what it put out before.

    Args:
      model: The network; its modules get hooks.
      layers: What to call the output of each module, by the module's name.
    """
    outputs: dict[str, np.ndarray] = {}

    def record(name: str, output: Tensor) -> None:
        # A copy, since an activation may work in place.
        outputs[name] = to_array(output.detach().clone())

    def hook_for(name: str) -> Any:
        return lambda module, inputs, output: record(name, output)

    def hook_before(name: str) -> Any:
        return lambda module, inputs: record(name, inputs[0])

    for path, name in layers.items():
        module = model.get_submodule(path)
        # timm's normalizations end with the activation, which for us is not a part of them.
        activation = getattr(module, "act", None)
        if isinstance(activation, nn.Module):
            activation.register_forward_pre_hook(hook_before(name))
        else:
            module.register_forward_hook(hook_for(name))
    return outputs


def to_array(tensor: Tensor) -> np.ndarray:
    """Returns a tensor's values; those of a tensor on the CPU are shared with it."""
    return tensor.detach().cpu().numpy()
