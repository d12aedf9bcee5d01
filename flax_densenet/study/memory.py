"""Memory of training over depth, with and without remat."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from flax_densenet.densenet import DenseNet
from flax_densenet.errors import InputError
from flax_densenet.implementations.choose import ChosenImplementation, choose_implementation
from flax_densenet.machine import hardware, software
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import check_x64
from flax_densenet.network.layers import count_parameters
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.fields.values import check_values, with_value
from flax_densenet.study.result import Columns, StudyResult
from flax_densenet.study.styles import LINES, MARKER_SIZE
from flax_densenet.summary.memory import TrainingMemory
from flax_densenet.summary.summarize import summarize
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import Execution
from flax_densenet.training.optimizer import sgd
from flax_densenet.training.parallel import parallel_steps
from flax_densenet.training.state import create_state
from flax_densenet.training.step import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class StepMemory(NamedTuple):
    """Memory of a compiled training step, in bytes.

    Attributes:
      temporary: What it needs while it runs.
      total: The same with state, batch and results.
    """

    temporary: int
    total: int


def step_memory(
    state: TrainState,
    execution: Execution,
    *,
    batch_size: int,
    image_shape: tuple[int, int, int],
) -> StepMemory:
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
    sizes = compiled.memory_analysis()
    if sizes is None:
        raise InputError(
            f"XLA does not state the memory of a program on {jax.default_backend()}; set the "
            "environment variable JAX_PLATFORMS=cpu to see that of the CPU"
        )
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    temporary = sizes.temp_size_in_bytes
    return StepMemory(temporary, temporary + sizes.argument_size_in_bytes + results)


_MIB = 2**20


class Way(NamedTuple):
    """A way to compute the same training step.

    Attributes:
      implementation: How blocks are computed.
      remat: Whether dense layers are computed a second time in the backward pass.
    """

    implementation: ChosenImplementation
    remat: bool


def ways_with(implementation: ChosenImplementation) -> dict[str, Way]:
    """Returns naive and remat, and both in another implementation unless that is plain, too.

    Args:
      implementation: The one that training chooses here.
    """
    ways = {"naive": Way("plain", False), "remat": Way("plain", True)}
    if implementation != "plain":
        name = implementation.replace("_", "-")
        ways |= {name: Way(implementation, False), f"{name}, remat": Way(implementation, True)}
    return ways


class MemoryRow(NamedTuple):
    """Memory at one depth, in bytes.

    Attributes:
      depth: Depth of the network.
      parameters: Trainable parameters.
      temporary: Temporary memory of the compiled step, by name of the way.
      estimated: Estimate of the same (activations and working set), naive and with remat.
    """

    depth: int
    parameters: int
    temporary: Mapping[str, int]
    estimated: Mapping[str, int]


def memory_columns(ways: Sequence[str]) -> Columns:
    """Returns the columns of the table.

    Args:
      ways: Names of the ways.
    """

    def of_xla(way: str) -> Columns:
        return {f"{way}, XLA (MiB)": lambda row: f"{row.temporary[way] / _MIB:.0f}"}

    def estimated(way: str) -> Columns:
        return {f"{way}, estimate (MiB)": lambda row: f"{row.estimated[way] / _MIB:.0f}"}

    columns: dict[str, object] = {
        "depth": lambda row: str(row.depth),
        "parameters": lambda row: f"{row.parameters:,}",
    }
    for way in ("naive", "remat"):
        columns |= estimated(way)
    for way in ways:
        columns |= of_xla(way)
    return columns  # type: ignore[return-value]


def memory_method(
    network: DenseNetConfig, batch_size: int, image_size: int, ways: Sequence[str], version: str
) -> str:
    """Returns what was done.

    Args:
      network: The network, whatever its depth.
      batch_size: Images in a batch.
      image_size: Height and width in pixels.
      ways: Names of the ways.
      version: Software that compiled.
    """
    others = (
        f" {ways[2].capitalize()} is what training chooses here (docs/performance.md)."
        if len(ways) > 2
        else ""
    )
    return (
        f"One step of training with {batch_size} images of {image_size}x{image_size} pixels, "
        f"growth rate {network.growth_rate}, bottleneck {network.bottleneck}, compression "
        f"{network.compression:g}, {network.dtype}; compiled, not run. XLA: temporary memory, by "
        "`memory_analysis`. Estimate: activations and working set, as `flax-densenet summary` "
        "counts them. Naive keeps all activations; remat computes dense layers a second time in "
        "the backward pass (https://arxiv.org/abs/1707.06990)."
        f"{others} {hardware()}; {version}."
    )


def memory_conclusion(rows: Sequence[MemoryRow]) -> str:
    """Returns what the rows say."""
    first, last = rows[0], rows[-1]
    sentences = [
        f"At depth {last.depth}, {way} takes "
        f"{100 * last.temporary[way] / last.temporary['naive']:.0f} % of the naive memory."
        for way in last.temporary
        if way != "naive"
    ]
    if len(rows) > 1:
        growth = ", ".join(
            f"{way} {last.temporary[way] / first.temporary[way]:.1f}" for way in last.temporary
        )
        sentences.append(
            f"From depth {first.depth} to {last.depth}, a factor of "
            f"{last.depth / first.depth:.1f}, memory grows by these factors: {growth}."
        )
    return " ".join(sentences)


_MIB = 2**20
_ESTIMATES = {"naive": (0, (6, 2)), "remat": (0, (1, 1.5))}  # lines without markers


def draw_memory(result: StudyResult) -> "Figure":
    """Draws measured and estimated memory over depth.

    Args:
      result: A study whose rows are `MemoryRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    rows: tuple[MemoryRow, ...] = result.rows
    depths = [row.depth for row in rows]
    figure = Figure(figsize=(6.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(result.title, fontsize=10)
    for way, style in zip(rows[0].temporary, LINES, strict=False):
        sizes = [row.temporary[way] / _MIB for row in rows]
        axes.plot(depths, sizes, label=f"{way} (XLA)", markersize=MARKER_SIZE, **style)
    for way, line in _ESTIMATES.items():
        sizes = [row.estimated[way] / _MIB for row in rows]
        axes.plot(
            depths, sizes, color="0.35", linestyle=line, linewidth=1, label=f"{way} (estimate)"
        )
    axes.set(
        xlabel="depth L (convolutions and classifier)", ylabel="memory of a training step (MiB)"
    )
    axes.set_ylim(bottom=0)
    axes.set_xticks(depths)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


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
        state = create_state(
            DenseNet(config, remat=way.remat, implementation=way.implementation),
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
