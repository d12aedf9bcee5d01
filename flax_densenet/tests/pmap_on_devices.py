"""One `pmap` step without synchronized statistics: `python -m ...pmap_on_devices FILE`.

It has eight simulated devices, whose number is fixed when JAX starts, and saves arrays by name.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.training import Preprocess, TrainState, create_state, sgd, train_step
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.parallel import parallel_steps

_DEVICES = 8
_IMAGES = 4  # per device


def state_of(dropout_rate: float, augment: Any) -> TrainState:
    """Returns a state whose network takes its statistics on each device alone."""
    config = DenseNetConfig(
        blocks=(1,), growth_rate=4, in_channels=1, num_classes=3, dropout_rate=dropout_rate
    )
    return create_state(
        DenseNet(config), sgd(0.05, 1e-2), Preprocess((128.0,), (64.0,), augment), seed=0
    )


def batch_of(seed: int) -> dict[str, np.ndarray]:
    """Returns one device's part of a batch."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 32, (_IMAGES, 8, 8, 1)) + 28 * seed
    return {"image": image.astype(np.uint8), "label": random.integers(0, 3, _IMAGES, np.int32)}


@functools.cache
def _step(num_devices: int) -> Any:
    return jax.pmap(
        functools.partial(train_step, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:num_devices],
    )


def step_on(num_devices: int, state: TrainState, parts: list[dict[str, np.ndarray]]) -> Any:
    """Returns what one training step on the first few devices returns."""
    return _step(num_devices)(state, jax.tree.map(lambda *arrays: np.stack(arrays), *parts))


def losses() -> dict[str, Any]:
    """Returns the loss of equal parts on 2 and 8 devices, with and without noise."""
    results = {}
    for name, noise in (
        ("no noise", (0.0, "none")),
        ("dropout", (0.5, "none")),
        ("augmentation", (0.0, "shift")),
    ):
        state = state_of(*noise)
        for number in (2, 8):
            parts = [batch_of(1)] * number
            results[f"{name} {number}"] = step_on(number, state, parts)[1]["loss"]
        results[f"{name} again"] = step_on(8, state, [batch_of(1)] * 8)[1]["loss"]
        later = state.replace(step=state.step + 1)
        results[f"{name} later"] = step_on(8, later, [batch_of(1)] * 8)[1]["loss"]
    return results


def statistics() -> dict[str, Any]:
    """Returns the running statistics after a step, and those of each part on one device alone."""
    state, parts = state_of(0.0, "none"), [batch_of(seed) for seed in range(_DEVICES)]
    merged, _ = step_on(_DEVICES, state, parts)
    alone = [jax.jit(train_step)(state, part)[0].batch_stats for part in parts]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *alone)
    trees = {"merged": merged.batch_stats, "alone": stacked}
    return {"/".join(path): value for path, value in traverse_util.flatten_dict(trees).items()}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", _DEVICES)
    file = Path(sys.argv[1])
    np.savez(file, **losses(), **statistics())
    with CheckpointStore(file.parent / "checkpoints") as checkpoints:
        checkpoints.save(parallel_steps("jit").place(state_of(0.0, "none")), [])
