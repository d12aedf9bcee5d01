"""Reads what a checkpoint says of itself, beyond its arrays.

Three kinds of software say something: this package in the metadata of a file, a training run in its
config.json, and timm in the config.json beside its weights. For timm's fields see
`resolve_data_config` and `transforms_imagenet_eval` of
https://github.com/huggingface/pytorch-image-models.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.data.dataset import ChannelStatistics, check_scale
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation, trained_preparation, usual_preparation
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.files.contents import Contents

CONFIG_KEY, PREPARATION_KEY, CLASS_NAMES_KEY = "config", "preprocessing", "class_names"
OUTPUTS_KEY, COUNTERS_KEY = "outputs", "num_batches_tracked"
_STATISTICS_KEY = "mean_and_std"  # in files from before there was PREPARATION_KEY
_CONFIG_FILE = "config.json"
_CROP_PCT = 0.875  # timm's default


class Stated(NamedTuple):
    """What a file or a work directory says of itself; None or empty where it says nothing.

    Attributes:
      config: The network.
      preparation: How images are prepared.
      class_names: One name per class.
      sgd: Learning rate at the start ("lr") and "weight_decay" of a run.
      has_parts: Whether a run freezes parts of the network, or trains them at other rates.
      outputs: How the network's outputs are read.
      counters: Batches that each normalization has seen, in forward order.
      counts_batches: Whether the steps of a run are all the batches that they have seen.
    """

    config: DenseNetConfig | None = None
    preparation: Preparation | None = None
    class_names: tuple[str, ...] | None = None
    sgd: Mapping[str, float] = {}
    has_parts: bool = False
    outputs: Outputs | None = None
    counters: tuple[int, ...] | None = None
    counts_batches: bool = False


def read_statement(path: Path, contents: Contents) -> Stated:
    """Returns what a config.json or metadata say.

    Args:
      path: The file or directory.
      contents: What it holds.

    Raises:
      InputError: What it says cannot be followed.
    """
    directory = path.parent.parent if path.parent.name == "checkpoints" else path
    if (directory / _CONFIG_FILE).is_file():
        return read_run(directory)
    if CONFIG_KEY not in contents.metadata:
        return read_timm_config(path)
    try:
        return _from_metadata(contents.metadata)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata describe no network ({error})") from error


def read_run(directory: Path) -> Stated:
    """Returns what the config.json of a run says that using its network needs.

    Args:
      directory: The work directory. Runs of old versions lack the records of preparation and of
        fine-tuning.

    Raises:
      InputError: The file is not that of a run, or its record of preparation is damaged.
    """
    try:
        groups = json.loads((directory / _CONFIG_FILE).read_text())
        config = DenseNetConfig(**groups["network"])
        data, optimization = groups["data"], groups["optimization"]
        parts = groups.get("fine_tuning", {})
        sgd = {"lr": optimization["learning_rate"], "weight_decay": optimization["weight_decay"]}
        has_parts = parts.get("freeze", "none") != "none" or bool(
            parts.get("learning_rate_factors")
        )
        run = Stated(
            config, sgd=sgd, has_parts=has_parts, counts_batches=parts.get("init_from") is None
        )
        if PREPARATION_KEY not in groups:
            preparation = trained_preparation(
                data.get("image_size"),
                data.get("augment", "none"),
                config.in_channels,
                mean=data.get("mean"),
                std=data.get("std"),
            )
            return run._replace(preparation=preparation)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"config.json is not that of a training run ({type(error).__name__}: {error}); "
            "start a new run in another work directory"
        ) from error
    try:
        preparation = Preparation.from_record(groups[PREPARATION_KEY])
        names = groups[CLASS_NAMES_KEY]
        return run._replace(preparation=preparation, class_names=tuple(names) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"config.json has a damaged record of preprocessing ({error}); remove it, and say with "
            "flags how images are prepared"
        ) from error


def _from_metadata(metadata: Mapping[str, str]) -> Stated:
    config = DenseNetConfig(**json.loads(metadata[CONFIG_KEY]))
    record, names, pixels, outputs, counters = (
        json.loads(metadata.get(key, "null"))
        for key in (PREPARATION_KEY, CLASS_NAMES_KEY, _STATISTICS_KEY, OUTPUTS_KEY, COUNTERS_KEY)
    )
    preparation = None
    if record:
        preparation = Preparation.from_record(record)
    elif pixels:
        preparation = usual_preparation(config, ChannelStatistics(*map(tuple, pixels)))
    read_as = Outputs.from_record(outputs) if outputs else None
    points = None if read_as is None else read_as.operating_points
    if points is not None and len(points) != config.num_classes:
        raise ValueError(f"{len(points)} operating points for {config.num_classes} outputs")
    return Stated(
        config,
        preparation,
        tuple(names) if names else None,
        outputs=read_as,
        counters=tuple(map(int, counters)) if counters else None,
    )


def read_timm_config(weights: Path) -> Stated:
    """Returns what timm says beside a file of weights; nothing if the config.json is not timm's.

    Args:
      weights: The file of weights.

    Raises:
      InputError: config.json is timm's, and cannot be followed.
    """
    file = weights.parent / _CONFIG_FILE
    try:
        config = json.loads(file.read_text())
        settings = config["pretrained_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return Stated()  # another program's
    if not isinstance(settings, dict):
        return Stated()
    try:
        preparation = _timm_preparation(settings)
        names = config.get("label_names")
        return Stated(None, preparation, tuple(map(str, names)) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is timm's, and its pretrained_cfg cannot be followed ({error}); move it away "
            "and say with --image_size, --shorter_side, --interpolation, --mean and --std what it "
            "should"
        ) from error


def _timm_preparation(settings: Mapping[str, Any]) -> Preparation:
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


def given_statistics(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> ChannelStatistics:
    """Returns what a user says with `--mean` and `--std`, for checkpoints that do not or are wrong.

    Args:
      mean: Mean of each image channel, in 0 to 255.
      std: Standard deviation of each image channel, in 0 to 255.
      channels: Image channels of the network.

    Raises:
      InputError: They are not numbers for each channel, deviations are not above 0, or they are
        for pixels from 0 to 1.
    """
    if mean is None or std is None or not len(mean) == len(std) == channels or min(std) <= 0:
        raise InputError(
            f"--mean (={mean}) and --std (={std}) must both be {channels} numbers in 0 to 255, one "
            "for each image channel, and deviations above 0"
        )
    check_scale(mean, std)
    return ChannelStatistics(mean, std)
