"""The PyTorch network that `--against` names, to compare with instead of the reference."""

import dataclasses
import importlib
from typing import NamedTuple

import torch
from torch import nn

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.theirs.own_file import build_own
from flax_densenet.parity.theirs.recognition import recognize
from flax_densenet.weights.adapt import OWN_NETWORK_HINT, check_agreement


class _Package(NamedTuple):
    """A package's DenseNet: its module, and the field of ours for each of its arguments."""

    module: str
    arguments: dict[str, str]


_PACKAGES = {
    "torchvision": _Package(
        "torchvision.models.densenet",
        {
            "growth_rate": "growth_rate",
            "block_config": "block_sizes",
            "num_init_features": "stem_channels",
            "bn_size": "bottleneck_factor",
            "drop_rate": "dropout_rate",
            "num_classes": "num_classes",
        },
    ),
    "timm": _Package(
        "timm.models.densenet",
        {
            "growth_rate": "growth_rate",
            "block_config": "block_sizes",
            "bn_size": "bottleneck_factor",
            "proj_drop_rate": "dropout_rate",
            "num_classes": "num_classes",
            "in_chans": "in_channels",
        },
    ),
}


class Counterpart(NamedTuple):
    """A PyTorch network that was recognized.

    Attributes:
      model: The network.
      config: Its configuration, without dropout; its dtype is the one that was asked for.
      keys: The reference's key of each of its arrays, for `TorchHalf`.
      title: Name for people, such as "torchvision 0.29.1".
      notes: Sentences that a reader of the comparison must know.
    """

    model: nn.Module
    config: DenseNetConfig
    keys: dict[str, str]
    title: str
    notes: list[str]


def find_counterpart(against: str, asked: DenseNetConfig | None = None) -> Counterpart:
    """Returns the network that `--against` names.

    Args:
      against: "torchvision", "timm", or "FILE.py:NAME" for a function in a file, which is run.
      asked: The network that was asked for; not needed for a file.

    Raises:
      InputError: There is no such network, it is no DenseNet, or not the one that was asked for.
    """
    if against in _PACKAGES:
        if asked is None:
            raise InputError(
                f"against {against}, name the network, such as densenet121, or give its flags"
            )
        model, version = _build(against, asked)
        title, found = f"{against} {version}", recognize(model, against)
    elif ":" in against:
        model = build_own(against)
        found = recognize(model, against)
        title = f"{against}, with the names of {found.naming}"
    else:
        raise InputError(
            f"against (={against!r}) must be torchvision, timm or FILE.py:NAME, where NAME is a "
            "function without arguments that returns a torch.nn.Module"
        )
    if asked is not None:
        hint = (
            f"{against} has no other; compare without --against"
            if against in _PACKAGES
            else OWN_NETWORK_HINT
        )
        check_agreement(found.config, asked, against, hint)
    config = dataclasses.replace(asked or found.config, dropout_rate=0.0)
    return Counterpart(model, config, found.keys, title, _notes(config))


def _build(name: str, asked: DenseNetConfig) -> tuple[nn.Module, str]:
    package = _PACKAGES[name]
    try:
        module = importlib.import_module(package.module)
        version = importlib.import_module(name).__version__
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise InputError(
            f"{name} cannot be imported: {error}; install the release that goes with torch "
            f"{torch.__version__} (pip install {name})"
        ) from error
    arguments = {key: getattr(asked, field) for key, field in package.arguments.items()}
    return module.DenseNet(**arguments), version


def _notes(config: DenseNetConfig) -> list[str]:
    usual = DenseNetConfig()
    return [
        f"{field} is {getattr(config, field):g}, taken over from the PyTorch network; PyTorch's "
        f"default is {getattr(usual, field):g}"
        for field in ("batch_norm_epsilon", "batch_norm_momentum")
        if getattr(config, field) != getattr(usual, field)
    ]
