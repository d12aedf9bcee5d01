"""timm's config.json, which lies beside a file of weights and says how images are prepared.

Source: `resolve_data_config` and `transforms_imagenet_eval` of
https://github.com/huggingface/pytorch-image-models.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.data.preprocessing import Preprocessing
from flax_densenet.errors import InputError

_CROP_PCT = 0.875  # timm's default


class TimmConfig(NamedTuple):
    """What timm says beside the weights.

    Attributes:
      preprocessing: How images are prepared.
      class_names: One name per class, if there are any.
    """

    preprocessing: Preprocessing
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
        preprocessing = _preprocessing(settings)
        names = config.get("label_names")
        return TimmConfig(preprocessing, tuple(map(str, names)) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is timm's, and its pretrained_cfg cannot be followed ({error}); move it away "
            "and say with --image_size, --shorter_side, --interpolation, --mean and --std what it "
            "should"
        ) from error


def _preprocessing(settings: dict[str, Any]) -> Preprocessing:
    if (mode := settings.get("crop_mode", "center")) != "center":
        raise ValueError(f"crop_mode is {mode}, wanted center")
    _, height, width = settings["input_size"]
    if height != width:
        raise ValueError(f"input_size is {height}x{width}, wanted a square")
    mean, std = ([255 * value for value in settings[name]] for name in ("mean", "std"))
    return Preprocessing(
        size=height,
        shorter_side=math.floor(height / settings.get("crop_pct", _CROP_PCT)),
        interpolation=settings.get("interpolation", "bilinear"),
        mean=tuple(mean),
        std=tuple(std),
    )
