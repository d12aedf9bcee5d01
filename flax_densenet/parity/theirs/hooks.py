"""Hooks on a torch module: its outputs recorded, its dropout switched off."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def record_outputs(model: nn.Module, layers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns a dict that every later pass of the network fills, in forward order.

    A module that runs again, as under activation checkpointing, overwrites its output.

    Args:
      model: The network; its modules get hooks.
      layers: Name of the output of each module, by the module's name.
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
        # timm's normalizations include the activation; ours do not.
        activation = getattr(module, "act", None)
        if isinstance(activation, nn.Module):
            activation.register_forward_pre_hook(hook_before(name))
        else:
            module.register_forward_hook(hook_for(name))
    return outputs


def to_array(tensor: Tensor) -> np.ndarray:
    """Returns a tensor's values; on the CPU the array shares the tensor's memory."""
    return tensor.detach().cpu().numpy()


_DROPOUTS: set[Callable[..., Any]] = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.dropout_,
    torch.alpha_dropout,
    torch.alpha_dropout_,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}


class WatchedDropout(TorchFunctionMode):
    """Notices every dropout inside a `with`, by whichever function of PyTorch it is called.

    Attributes:
      rates: Rates of the active ones, without repetition.
    """

    def __init__(self, *, off: bool) -> None:
        """Prepares the mode.

        Args:
          off: Whether dropout returns its input.
        """
        super().__init__()
        self.off = off
        self.rates: list[float] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs one function of PyTorch."""
        kwargs = kwargs or {}
        if func not in _DROPOUTS:
            return func(*args, **kwargs)
        # PyTorch's own call passes every argument of `F.dropout`, by name.
        named = dict(zip(("input", "p", "train"), args, strict=False)) | kwargs
        x, rate, active = named["input"], named["p"], named.get("train", named.get("training"))
        if not active or rate == 0:
            return func(*args, **kwargs)
        if rate not in self.rates:
            self.rates.append(rate)
        if not self.off:
            return func(*args, **kwargs)
        is_in_place = named.get("inplace") or func.__name__.endswith("_")
        return x if is_in_place else x.clone()  # a new tensor, as dropout's result is
