"""The contestants: one row each, and what a process needs to build one."""

import dataclasses
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, SupportsFloat

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import ComputeType

DeviceKind = Literal["cpu", "gpu"]
OURS = {"float32": "flax_densenet", "bfloat16": "flax_densenet_bfloat16"}


class Program(Protocol):
    """A network with its optimizer, ready to be timed.

    Attributes:
      num_parameters: Trainable parameters.
      device: What it computes on, in words.
    """

    num_parameters: int
    device: str

    def prepare(self, batch: Any) -> Any:
        """Returns a batch as an input pipeline would hand it over, which is not timed."""
        ...

    def train(self, batch: Any) -> SupportsFloat:
        """Starts one training step and returns its loss, which need not be known yet."""
        ...

    def evaluate(self, batch: Any) -> SupportsFloat:
        """Starts one evaluation step and returns the sum of its losses, which need not be known."""
        ...

    def wait(self) -> None:
        """Returns when all of the last step is done."""
        ...

    def memory(self) -> dict[str, int]:
        """Returns what the framework itself knows of the memory of training, in bytes."""
        ...


class Contestant(NamedTuple):
    """One way to compute the network.

    Attributes:
      description: What it is, for the reader of a table.
      module: Module of this package whose `build` returns the program.
      options: Keyword arguments of `build`.
      dtype: Type of the computation. Only contestants of one type are compared.
      by_default: Devices on which it runs unless others are asked for.
    """

    description: str
    module: str
    options: Mapping[str, bool] = MappingProxyType({})
    dtype: ComputeType = "float32"
    by_default: tuple[DeviceKind, ...] = ("cpu", "gpu")


CONTESTANTS = {
    "flax_densenet": Contestant("this package, as `flax-densenet train` runs it", "ours"),
    "flax_densenet_remat": Contestant("the same with --remat", "ours", {"remat": True}),
    "flax_plain": Contestant("Flax as one usually writes it", "plain_flax"),
    "torch": Contestant("torch_reference, eager", "torch_modes"),
    "torch_channels_last": Contestant(
        "the same, NHWC in memory", "torch_modes", {"channels_last": True}
    ),
    "torch_compile": Contestant(
        "the same, NHWC in memory, torch.compile",
        "torch_modes",
        {"channels_last": True, "compiled": True},
    ),
    "torch_efficient": Contestant(
        "torch_reference, eager, checkpoints as torchvision's memory_efficient",
        "torch_modes",
        {"efficient": True},
    ),
    "flax_densenet_bfloat16": Contestant(
        "this package, --precision bfloat16", "ours", dtype="bfloat16", by_default=("gpu",)
    ),
    "flax_plain_bfloat16": Contestant(
        "Flax as one usually writes it", "plain_flax", dtype="bfloat16", by_default=("gpu",)
    ),
    "torch_amp": Contestant(
        "torch_reference, NHWC in memory, autocast",
        "torch_modes",
        {"channels_last": True},
        dtype="bfloat16",
        by_default=("gpu",),
    ),
    "torch_amp_compile": Contestant(
        "the same, torch.compile",
        "torch_modes",
        {"channels_last": True, "compiled": True},
        dtype="bfloat16",
        by_default=("gpu",),
    ),
    "torch_amp_graphs": Contestant(
        "the same, with CUDA graphs",
        "torch_modes",
        {"channels_last": True, "compiled": True, "graphs": True},
        dtype="bfloat16",
        by_default=("gpu",),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker process computes.

    Attributes:
      contestant: Key of `CONTESTANTS`.
      network: Fields of the network's `DenseNetConfig`.
      batch_size: Images in a batch (B).
      image_size: Their height and width in pixels.
      variables: File with the initial weights (see `initial_weights`).
    """

    contestant: str
    network: dict[str, Any]
    batch_size: int
    image_size: int
    variables: str

    @property
    def config(self) -> DenseNetConfig:
        """The network, in the contestant's type."""
        dtype = CONTESTANTS[self.contestant].dtype
        return dataclasses.replace(DenseNetConfig(**self.network), dtype=dtype)

    def build(self, variables: Mapping[str, Any]) -> Program:
        """Returns the contestant; imports its framework.

        Args:
          variables: Initial weights {"params", "batch_stats"}.
        """
        contestant = CONTESTANTS[self.contestant]
        module = importlib.import_module(f"benchmarks.{contestant.module}")
        program: Program = module.build(self.config, variables, **contestant.options)
        return program
