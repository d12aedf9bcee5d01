"""Dropout, whose random bits cannot match those of another framework, as the identity."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

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
    """Sees every dropout inside a `with`, whichever module or function of PyTorch it comes from.

    Attributes:
      rates: Rates of those that were active, without repetition.
    """

    def __init__(self, *, off: bool) -> None:
        """Says what to do.

        Args:
          off: Whether dropout gives back its input.
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
