"""The flags of `train`: one per field of the run's configuration, plus where the run is kept."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.training.parallel import ParallelMode
from flax_densenet.training.recipes import default_run
from flax_densenet.training.run_config import DataConfig, OptimizationConfig, RunConfig
from flax_densenet.training.workdir import WorkDir
from flax_densenet.variants import VARIANTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run is kept, what it starts from and which devices it uses.

    Attributes:
      workdir: Directory for config.json, metrics.jsonl, curves.png and checkpoints/. If not given,
        a new one under runs/ with the time in its name.
      resume: Go on with the run in workdir; its configuration is the default of every flag.
      variant: Start from a named network of the paper; other flags change it further.
      parallel: How the devices share the batch: jit over a mesh (auto), or pmap. The result is the
        same up to rounding.
      cpu_devices: Simulate this many devices on the CPU.
      require_accelerator: Stop if there is no GPU or TPU, instead of training on the CPU.
    """

    workdir: str | None = None
    resume: bool = False
    variant: str | None = None
    parallel: ParallelMode = "auto"
    cpu_devices: int | None = None
    require_accelerator: bool = False

    def __post_init__(self) -> None:
        if self.cpu_devices is not None and self.cpu_devices < 1:
            raise InputError(f"cpu_devices (={self.cpu_devices}) must be an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train a DenseNet.

    Without any flag it is DenseNet (L=40, k=12) on the handwritten digits of scikit-learn.
    """

    network: DenseNetConfig
    data: DataConfig
    optimization: OptimizationConfig
    run: RunOptions

    @property
    def run_config(self) -> RunConfig:
        """The part that decides the outcome."""
        return RunConfig(network=self.network, data=self.data, optimization=self.optimization)


def parse_train_arguments(args: Sequence[str], prog: str) -> TrainArguments:
    """Parses the command line of `train`.

    Some flags decide the defaults of the others: the data set its recipe, classes and channels;
    a variant the network; a resumed run everything. They are read first.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: A default cannot be determined, such as that of an unknown data set.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    defaults = _defaults(_read_first(args))
    return tyro.cli(
        TrainArguments,
        args=args,
        default=defaults,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=_registry(),
    )


def _read_first(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--dataset", default=DataConfig.dataset)
    parser.add_argument("--data_dir", "--data-dir")
    parser.add_argument("--variant")
    parser.add_argument("--blocks")
    parser.add_argument("--workdir")
    parser.add_argument("--resume", action="store_true")
    try:
        return parser.parse_known_args(args)[0]
    except argparse.ArgumentError:  # a flag without its value, which tyro explains below
        return parser.parse_args([])


def _defaults(first: argparse.Namespace) -> TrainArguments:
    if first.resume and first.workdir is None:
        raise InputError("--resume needs --workdir, the directory of the run to go on with")
    if first.variant is not None and first.variant not in VARIANTS:
        raise InputError(f"variant (={first.variant!r}) must be one of {', '.join(VARIANTS)}")
    if first.resume:
        run = WorkDir(Path(first.workdir).expanduser().absolute()).read_config()
    else:
        network = VARIANTS[first.variant] if first.variant else DenseNetConfig()
        if first.blocks is not None and network.depth is not None:
            network = dataclasses.replace(network, depth=None)  # blocks take its place
        run = default_run(first.dataset, first.data_dir, network)
    return TrainArguments(
        network=run.network, data=run.data, optimization=run.optimization, run=RunOptions()
    )


def _registry() -> tyro.constructors.ConstructorRegistry:
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def comma_separated(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[tuple[int, ...]] | None:
        if info.type != tuple[int, ...]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT,INT,...",
            instance_from_str=lambda words: tuple(int(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(str(size) for size in value)],
        )

    return registry
