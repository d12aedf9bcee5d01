"""A study of the memory of a training step over depth; steps are compiled and not run."""

import dataclasses
import time
from typing import Any

from tqdm import tqdm

from flax_densenet.config import DenseNetConfig
from flax_densenet.formulations.choice import choose_formulation
from flax_densenet.initialization import check_x64
from flax_densenet.layers import count_parameters
from flax_densenet.model import DenseNet
from flax_densenet.study.conditions import software
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.field_values import check_values, with_value
from flax_densenet.study.remat_figure import draw_memory
from flax_densenet.study.remat_rows import (
    MemoryRow,
    Way,
    memory_columns,
    memory_conclusion,
    memory_method,
    ways_with,
)
from flax_densenet.study.result import StudyResult
from flax_densenet.study.step_memory import step_memory
from flax_densenet.summary.memory import TrainingMemory
from flax_densenet.summary.summarize import summarize
from flax_densenet.training.execution import Execution
from flax_densenet.training.optimizer import sgd
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.step import create_state


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
            choose_formulation("auto", self.network, train=True, axis_name=None, captured=False)
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
        state = create_state(
            DenseNet(config, None, way.remat, way.formulation),
            sgd(0.1, 1e-4),
            Preprocess((0.0,) * channels, (1.0,) * channels, "none"),
            seed=0,
        )
        memory = step_memory(
            state,
            Execution(remat=way.remat),
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
