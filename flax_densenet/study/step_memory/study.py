"""The study of memory: compiled training steps over depth, with and without remat."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from flax_densenet.errors import InputError
from flax_densenet.implementations.choose import ChosenImplementation, choose_implementation
from flax_densenet.machine import ProgramBytes, program_bytes, software
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import check_x64
from flax_densenet.network.layers import count_parameters
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.fields.values import check_values, with_value
from flax_densenet.study.result import StudyResult
from flax_densenet.study.step_memory.report import (
    MemoryRow,
    draw_memory,
    memory_columns,
    memory_conclusion,
    memory_method,
)
from flax_densenet.summary.memory import TrainingMemory
from flax_densenet.summary.summarize import summarize
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import Execution
from flax_densenet.training.parallel import parallel_steps
from flax_densenet.training.state import network_state
from flax_densenet.training.step import TrainState


def step_memory(
    state: TrainState,
    execution: Execution,
    *,
    batch_size: int,
    image_shape: tuple[int, int, int],
) -> ProgramBytes:
    """Compiles a training step and returns its memory, as XLA states it.

    Args:
      state: State of the training.
      execution: How it is executed.
      batch_size: Images in the batch.
      image_shape: Height, width and channels of an image.
    """
    on_devices = parallel_steps(execution.parallel, remat=execution.remat)
    batch = {
        "image": np.zeros((batch_size, *image_shape), np.uint8),
        "label": np.zeros(batch_size, np.int32),
    }
    compiled = on_devices.lower_train_step(on_devices.place(state), batch).compile()
    needed = program_bytes(compiled)
    if needed is None:
        raise InputError(
            f"XLA does not state the memory of a program on {jax.default_backend()}; set the "
            "environment variable JAX_PLATFORMS=cpu to see the memory on the CPU"
        )
    return needed


class Way(NamedTuple):
    """A way to compute the same training step.

    Attributes:
      implementation: How blocks are computed.
      remat: Whether dense layers are computed a second time in the backward pass.
    """

    implementation: ChosenImplementation
    remat: bool


def ways_with(implementation: ChosenImplementation) -> dict[str, Way]:
    """Returns the plain way with and without remat, and the same two in another implementation.

    Args:
      implementation: The one that training chooses here; plain adds nothing.
    """
    ways = {"naive": Way("plain", False), "remat": Way("plain", True)}
    if implementation != "plain":
        name = implementation.replace("_", "-")
        ways |= {name: Way(implementation, False), f"{name}, remat": Way(implementation, True)}
    return ways


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory of a training step over depth, naive and with less.

    Attributes:
      depths: Depths of the networks.
      network: The network, but for its depth.
      batch_size: Images in a batch.
      image_size: Height and width of an image in pixels.

    Raises:
      InputError: There is no network of one of the depths, or the images are too small.
    """

    depths: tuple[int, ...]
    network: DenseNetConfig
    batch_size: int
    image_size: int

    def __post_init__(self) -> None:
        check_values("depth", self.depths)
        check_x64(self.network)
        size = self.image_size
        for depth in self.depths:
            config = with_value(self.network, "depth", depth)
            config.check_image(height=size, width=size, channels=config.in_channels)

    @property
    def settings(self) -> dict[str, Any]:
        """What all programs have in common."""
        network = dataclasses.asdict(self.network) | {"depth": None, "blocks": None}
        images = {"batch_size": self.batch_size, "image_size": self.image_size}
        return {"study": "memory", "network": network, "images": images}

    @property
    def ways(self) -> dict[str, Way]:
        """The ways that this network and these devices can be computed in, by name."""
        return ways_with(
            choose_implementation("auto", self.network, train=True, axis_name=None, captured=False)
        )

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Compiles what the directory does not have yet, and compares.

        Args:
          directory: Where results are kept.
        """
        work = [(depth, name) for depth in self.depths for name in self.ways]
        for depth, name in tqdm(work, unit="program", disable=None):
            identity = {"depth": depth, "way": name}
            if not directory.find(identity):
                directory.add(identity, [self._compile(depth, self.ways[name])])
        rows = tuple(self._row(directory, depth) for depth in self.depths)
        version = "; ".join(sorted({record["version"] for record in directory.read()}))
        return StudyResult(
            name="memory",
            title=f"Memory of a training step over depth: k={self.network.growth_rate}"
            f"{', bottleneck' if self.network.bottleneck else ''}, "
            f"θ={self.network.compression:g}",
            method=memory_method(
                self.network, self.batch_size, self.image_size, tuple(self.ways), version
            ),
            columns=memory_columns(tuple(self.ways)),
            rows=rows,
            recommendation=memory_conclusion(rows),
            draw=draw_memory,
        )

    def _compile(self, depth: int, way: Way) -> dict[str, Any]:
        start = time.perf_counter()
        config = with_value(self.network, "depth", depth)
        channels = config.in_channels
        execution = Execution(remat=way.remat, implementation=way.implementation)
        preprocess = Preprocess((0.0,) * channels, (1.0,) * channels, "none")
        memory = step_memory(
            network_state(config, preprocess, execution=execution),
            execution,
            batch_size=self.batch_size,
            image_shape=(self.image_size, self.image_size, channels),
        )
        return {
            "temporary_bytes": memory.temporary,
            "seconds": time.perf_counter() - start,
            "version": software("jax", "jaxlib"),
        }

    def _row(self, directory: StudyDirectory, depth: int) -> MemoryRow:
        config = with_value(self.network, "depth", depth)
        size = (self.image_size, self.image_size)
        summary = summarize(config, image_size=size, batch_size=self.batch_size)
        return MemoryRow(
            depth=depth,
            parameters=count_parameters(config),
            temporary={
                name: directory.find({"depth": depth, "way": name})[0]["temporary_bytes"]
                for name in self.ways
            },
            estimated={
                "naive": _temporary(summary.training),
                "remat": _temporary(summary.training_with_remat),
            },
        )


def _temporary(memory: TrainingMemory) -> int:
    return memory.activations + memory.working_set
