"""Logits and gradients of somebody's module, and the errors that name its faults.

Axes: B batch, C channels, H height, W width, K classes.
"""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from flax_densenet.errors import InputError, listed
from flax_densenet.parity.theirs.hooks import to_array

_INNER = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<frozen ")


@contextlib.contextmanager
def reported_as(what: str) -> Iterator[None]:
    """Turns every exception inside, including `SystemExit`, into an `InputError`.

    Args:
      what: Start of the message; the exception's type, text and place follow.

    Raises:
      InputError: Something was raised; an `InputError` stays as it is.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        text = f"{what}: {type(error).__name__}: {str(error).strip()}"
        raise InputError(text + _place(error)) from error


def _place(error: BaseException) -> str:
    """Returns the last line that ran outside PyTorch and this package, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_INNER)]
    if not theirs:
        return ""
    last = theirs[-1]
    return f" (line {last.lineno} of {Path(last.filename).name}: {last.line})"


def find_logits(model: nn.Module, image: Tensor, num_classes: int) -> Tensor:
    """Returns the network's logits.

    Args:
      model: The network.
      image: [B, C, H, W].
      num_classes: K.

    Returns:
      [B, K].

    Raises:
      InputError: The network returns something else.
    """
    logits = model(image)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the PyTorch network returns a {type(logits).__name__}; wanted one tensor, the "
            "logits [B, K]; write a function whose network returns them alone"
        )
    wanted = (len(image), num_classes)
    if logits.shape != wanted:
        raise InputError(
            f"the PyTorch network returns shape {tuple(logits.shape)} for {len(image)} images; "
            f"wanted the logits [B, K], {wanted}"
        )
    return logits


def find_gradients(differentiated: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Returns the gradients after a backward pass.

    Args:
      differentiated: The tensors, by name.

    Raises:
      InputError: One of them has none.
    """
    gradients = {key: tensor.grad for key, tensor in differentiated.items()}
    none = [key for key, gradient in gradients.items() if gradient is None]
    if none:
        raise InputError(
            f"the loss does not depend on {listed(none)} of the PyTorch network: it is not used "
            "in the forward pass, or detached or frozen (requires_grad=False)"
        )
    return {key: to_array(gradient) for key, gradient in gradients.items() if gradient is not None}
