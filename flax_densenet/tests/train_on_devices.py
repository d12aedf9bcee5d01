"""Trains ten steps on simulated devices: `python -m flax_densenet.tests.train_on_devices N FILE`.

The number of devices is fixed when JAX starts, so that each number needs a process of its own.
"""

import sys
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.training import Preprocess, create_state, sgd
from flax_densenet.training.config import ParallelMode
from flax_densenet.training.parallel import mapped_axis, parallel_steps

_STEPS = 10
_BATCH_SIZE = 16


def batch_of(step: int) -> dict[str, np.ndarray]:
    """Returns a batch whose parts differ very much, so that a mean of their variances is wrong."""
    random = np.random.default_rng(step)
    image = random.integers(0, 32, (_BATCH_SIZE, 8, 8, 1))
    image += 28 * np.arange(8).repeat(_BATCH_SIZE // 8)[:, None, None, None]
    return {"image": image.astype(np.uint8), "label": random.integers(0, 3, _BATCH_SIZE, np.int32)}


def train(mode: ParallelMode) -> dict[str, np.ndarray]:
    """Returns losses, parameters, statistics and sums of an evaluation, by name."""
    config = DenseNetConfig(blocks=(1, 1), growth_rate=4, in_channels=1, num_classes=3)
    model = DenseNet(config, mapped_axis(mode))
    steps = parallel_steps(mode)
    preprocess = Preprocess((128.0,), (64.0,), augment="none")
    state = steps.place(create_state(model, sgd(0.05, 1e-2), preprocess, seed=0))
    results = {}
    for step in range(_STEPS):
        state, metrics = steps.train_step(state, batch_of(step))
        results[f"loss {step}"] = metrics["loss"]
    valid = np.arange(_BATCH_SIZE) < 3  # fewer than the devices
    sums = steps.eval_step(state, {**batch_of(0), "valid": valid})
    results |= {f"evaluation {name}": value for name, value in sums.items()}
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    results |= {"/".join(k): v for k, v in traverse_util.flatten_dict(trees).items()}
    return {f"{mode} {name}": np.asarray(value) for name, value in results.items()}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    assert jax.device_count() == int(sys.argv[1])
    arrays: dict[str, Any] = train("jit") | train("pmap")
    np.savez(sys.argv[2], **arrays)
