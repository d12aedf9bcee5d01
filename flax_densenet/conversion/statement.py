"""What a checkpoint says of itself: settings that its arrays do not tell."""

import json
from pathlib import Path
from typing import NamedTuple

from flax_densenet.config import DenseNetConfig
from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.errors import InputError
from flax_densenet.training.workdir import WorkDir
from flax_densenet.weight_files.contents import Contents

CONFIG_KEY, STATISTICS_KEY = "config", "mean_and_std"  # of the metadata that we write


class Stated(NamedTuple):
    """What a file or a work directory says of itself, if it does.

    Attributes:
      config: The network.
      statistics: What images are normalized with.
      sgd: Learning rate at the start ("lr") and "weight_decay" of a run.
    """

    config: DenseNetConfig | None
    statistics: ChannelStatistics | None
    sgd: dict[str, float]


def read_statement(path: Path, contents: Contents) -> Stated:
    """Returns what is said beside the arrays: in config.json of a work directory, or in metadata.

    Args:
      path: The file or directory.
      contents: What it holds.

    Raises:
      InputError: What it says describes no network.
    """
    directory = path.parent.parent if path.parent.name == "checkpoints" else path
    if (directory / "config.json").is_file():
        run = WorkDir(directory).read_config()
        mean, std = run.data.mean, run.data.std
        sgd = {"lr": run.optimization.learning_rate, "weight_decay": run.optimization.weight_decay}
        return Stated(run.network, ChannelStatistics(mean, std) if mean and std else None, sgd)
    if CONFIG_KEY not in contents.metadata:
        return Stated(None, None, {})
    try:
        config = DenseNetConfig(**json.loads(contents.metadata[CONFIG_KEY]))
        pixels = json.loads(contents.metadata.get(STATISTICS_KEY, "null"))
        statistics = ChannelStatistics(*map(tuple, pixels)) if pixels else None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata describe no network ({error})") from error
    return Stated(config, statistics, {})
