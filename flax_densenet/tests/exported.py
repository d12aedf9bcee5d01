"""Checkpoints of tiny networks, for tests of `export`."""

import dataclasses
import json
from pathlib import Path

from flax_densenet import DenseNetConfig, to_torch_arrays
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.weights.files import write_safetensors
from flax_densenet.weights.statement import CONFIG_KEY

STATISTICS = ((120.0, 110.0, 100.0), (60.0, 57.0, 58.0))
BC = DenseNetConfig(
    blocks=(1, 2),
    growth_rate=4,
    bottleneck=True,
    compression=0.5,
    num_classes=5,
    batch_norm_epsilon=1.001e-5,
)
IMAGENET = dataclasses.replace(BC, stem="imagenet")
PLAIN = DenseNetConfig(depth=7, growth_rate=3, in_channels=1, num_classes=3)


def write_checkpoint(file: Path, config: DenseNetConfig, *, knows_statistics: bool = True) -> None:
    """Writes random weights as a safetensors file that tells its network.

    Args:
      file: To be written.
      config: The network.
      knows_statistics: Whether the file tells what images were normalized with, too.
    """
    metadata = {"format": "pt", CONFIG_KEY: json.dumps(dataclasses.asdict(config))}
    if knows_statistics:
        channels = [values[: config.in_channels] for values in STATISTICS]
        metadata["mean_and_std"] = json.dumps(channels)
    arrays = to_torch_arrays(random_variables(config), config)
    write_safetensors(file, arrays, metadata, overwrite=False)
