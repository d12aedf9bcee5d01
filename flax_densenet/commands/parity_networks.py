"""Opening what `parity` is given: a checkpoint, and somebody's own PyTorch network."""

import contextlib
import importlib
import sys
import types
from typing import TYPE_CHECKING

from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.commands.devices import choose_devices
from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.errors import InputError

if TYPE_CHECKING:
    from torch_reference.counterpart import Counterpart


def open_networks(
    weights: str | None, own_network: str | None
) -> "tuple[Checkpoint | None, Counterpart | None]":
    """Opens what there is.

    Args:
      weights: What `--weights` says.
      own_network: What `--against` says, if that is FILE.py:NAME.

    Raises:
      InputError: PyTorch is not installed, or something cannot be opened.
    """
    find_counterpart = set_up_frameworks().find_counterpart
    checkpoint = load_checkpoint(weights) if weights else None
    counterpart = None
    if own_network is not None:
        # What the user's own module prints does not belong to the JSON.
        with contextlib.redirect_stdout(sys.stderr):
            counterpart = find_counterpart(own_network)
    return checkpoint, counterpart


def set_up_frameworks() -> types.ModuleType:
    """Sets JAX up, which must come before Orbax opens a checkpoint, and imports PyTorch.

    Returns:
      `torch_reference.counterpart`.

    Raises:
      InputError: PyTorch is not installed.
    """
    try:
        counterpart = importlib.import_module("torch_reference.counterpart")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "parity compares with PyTorch, and torch is not installed; install flax-densenet[torch]"
        ) from error
    choose_devices(DeviceOptions())
    return counterpart
