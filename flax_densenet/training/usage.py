"""What using a trained network takes besides its weights; it stands in config.json, too."""

import dataclasses
import json
from typing import Any, NamedTuple

from flax_densenet.data import Dataset
from flax_densenet.data.preprocessing import Preprocessing
from flax_densenet.errors import InputError
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.run_data import run_image_format

_PREPROCESSING, _CLASS_NAMES = "preprocessing", "class_names"


class Usage(NamedTuple):
    """What using a network takes.

    Attributes:
      preprocessing: How images are prepared.
      class_names: One name per class; None if nobody has told.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    def to_record(self) -> dict[str, Any]:
        """Returns what config.json holds beside the run's configuration."""
        return {_PREPROCESSING: self.preprocessing.to_record(), _CLASS_NAMES: self.class_names}


def run_usage(run: RunConfig, dataset: Dataset) -> Usage:
    """Returns what using the network of a run takes.

    Args:
      run: The run, with the mean and deviation that it normalizes with.
      dataset: Its data set.
    """
    height, width, _ = dataset.image_shape
    preprocessing = _from_run(run)
    if preprocessing.size is None and height == width:
        preprocessing = dataclasses.replace(preprocessing, size=height, shorter_side=height)
    return Usage(preprocessing, dataset.class_names)


def read_usage(text: str, run: RunConfig) -> Usage:
    """Reads the text of config.json.

    Args:
      text: The text. If it is older than this record, what the run's configuration tells is taken.
      run: The run's configuration in it.

    Raises:
      InputError: The record is damaged.
    """
    groups = json.loads(text)
    if _PREPROCESSING not in groups:
        return Usage(_from_run(run), None)
    try:
        preprocessing = Preprocessing.from_record(groups[_PREPROCESSING])
        names = groups[_CLASS_NAMES]
        return Usage(preprocessing, tuple(names) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"config.json has a damaged record of preprocessing ({error}); remove it, and say with "
            "flags how images are prepared"
        ) from error


def _from_run(run: RunConfig) -> Preprocessing:
    image_format = run_image_format(run)
    size = shorter_side = None
    if image_format is not None:
        size, shorter_side = image_format.size, image_format.resized_side
    return Preprocessing(size=size, shorter_side=shorter_side, mean=run.data.mean, std=run.data.std)
