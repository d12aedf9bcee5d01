"""Reads what a checkpoint says of itself: settings that its arrays do not tell.

Source: `resolve_data_config` and `transforms_imagenet_eval` of
https://github.com/huggingface/pytorch-image-models.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.preparation import Preparation, usual_preparation
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.workdir import WorkDir
from flax_densenet.weights.files.contents import Contents

_CROP_PCT = 0.875  # timm's default


class TimmConfig(NamedTuple):
    """What timm says beside the weights.

    Attributes:
      preparation: How images are prepared.
      class_names: One name per class, if there are any.
    """

    preparation: Preparation
    class_names: tuple[str, ...] | None


def read_timm_config(weights: Path) -> TimmConfig | None:
    """Returns what timm says beside a file of weights; None if it is not timm's.

    Args:
      weights: The file of weights.

    Raises:
      InputError: config.json is timm's, and cannot be followed.
    """
    file = weights.parent / "config.json"
    try:
        config = json.loads(file.read_text())
        settings = config["pretrained_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another program's
    if not isinstance(settings, dict):
        return None
    try:
        preparation = _preparation(settings)
        names = config.get("label_names")
        return TimmConfig(preparation, tuple(map(str, names)) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is timm's, and its pretrained_cfg cannot be followed ({error}); move it away "
            "and say with --image_size, --shorter_side, --interpolation, --mean and --std what it "
            "should"
        ) from error


def _preparation(settings: dict[str, Any]) -> Preparation:
    if (mode := settings.get("crop_mode", "center")) != "center":
        raise ValueError(f"crop_mode is {mode}, wanted center")
    _, height, width = settings["input_size"]
    if height != width:
        raise ValueError(f"input_size is {height}x{width}, wanted a square")
    mean, std = ([255 * value for value in settings[name]] for name in ("mean", "std"))
    return Preparation(
        size=height,
        shorter_side=math.floor(height / settings.get("crop_pct", _CROP_PCT)),
        interpolation=settings.get("interpolation", "bilinear"),
        mean=tuple(mean),
        std=tuple(std),
    )


# Of the metadata that we write.
CONFIG_KEY, PREPROCESSING_KEY, CLASS_NAMES_KEY = "config", "preprocessing", "class_names"
_STATISTICS_KEY = "mean_and_std"  # all that we wrote before there was PREPROCESSING_KEY


class Stated(NamedTuple):
    """What a file or a work directory says of itself, if it does.

    Attributes:
      config: The network.
      preparation: How images are prepared.
      class_names: One name per class.
      sgd: Learning rate at the start ("lr") and "weight_decay" of a run.
      has_parts: Whether a run freezes parts of the network, or trains them at other rates.
    """

    config: DenseNetConfig | None
    preparation: Preparation | None
    class_names: tuple[str, ...] | None
    sgd: dict[str, float]
    has_parts: bool = False


def read_statement(path: Path, contents: Contents) -> Stated:
    """Returns what is said beside the arrays: in a config.json, or in metadata.

    Args:
      path: The file or directory.
      contents: What it holds.

    Raises:
      InputError: What it says describes no network.
    """
    directory = path.parent.parent if path.parent.name == "checkpoints" else path
    if (directory / "config.json").is_file():
        workdir = WorkDir(directory)
        run, usage = workdir.read_config(), workdir.read_usage()
        sgd = {"lr": run.optimization.learning_rate, "weight_decay": run.optimization.weight_decay}
        has_parts = bool(run.fine_tuning.frozen_parts or run.fine_tuning.factors)
        return Stated(run.network, usage.preparation, usage.class_names, sgd, has_parts)
    if CONFIG_KEY not in contents.metadata:
        timm = read_timm_config(path)
        preparation, class_names = timm or (None, None)
        return Stated(None, preparation, class_names, {})
    try:
        return _from_metadata(contents.metadata)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata describe no network ({error})") from error


def _from_metadata(metadata: Mapping[str, str]) -> Stated:
    config = DenseNetConfig(**json.loads(metadata[CONFIG_KEY]))
    record, names, pixels = (
        json.loads(metadata.get(key, "null"))
        for key in (PREPROCESSING_KEY, CLASS_NAMES_KEY, _STATISTICS_KEY)
    )
    preparation = None
    if record:
        preparation = Preparation.from_record(record)
    elif pixels:
        preparation = usual_preparation(config, ChannelStatistics(*map(tuple, pixels)))
    return Stated(config, preparation, tuple(names) if names else None, {})


def given_statistics(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> ChannelStatistics:
    """Returns what a user says with `--mean` and `--std` where the checkpoint does not or is wrong.

    Args:
      mean: Of each image channel, in 0 to 255.
      std: Likewise.
      channels: Image channels of the network.

    Raises:
      InputError: They are not numbers for each channel, or deviations are not above 0.
    """
    if mean is None or std is None or not len(mean) == len(std) == channels or min(std) <= 0:
        raise InputError(
            f"--mean (={mean}) and --std (={std}) must both be {channels} numbers in 0 to 255, one "
            "for each image channel, and deviations above 0"
        )
    return ChannelStatistics(mean, std)
