"""`flax-densenet study NAME`: a question about DenseNet, answered by a table and a picture."""

import dataclasses
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from flax_densenet import study as studies
from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import check_name, parse_flags
from flax_densenet.cli.two_pass import FROM_INITIAL_WEIGHTS, implied_run
from flax_densenet.errors import InputError, TrainingInterrupted, require
from flax_densenet.files import write_text
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.study.catalog import (
    BATCH_SIZE,
    DEPTHS,
    FIELD_STUDIES,
    IMAGE_SIZE,
    MEMORY_NETWORK,
    SEEDS,
    STUDIES,
    baseline_run,
)
from flax_densenet.study.fields.values import parse_values, value_text
from flax_densenet.training.config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """What is written.

    Attributes:
      output: Directory for table.md, results.jsonl, the picture and command.txt; studies/NAME if
        not given. If it holds a part of the study, the rest is done.
      format: Formats of the picture, with commas between them.
    """

    output: str | None = None
    format: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    """What the trainings have in common.

    Attributes:
      seeds: Trainings of each network; their seeds are those from `seed` on.
      variant: Start from a named network of the paper; other flags change it further.
    """

    seeds: int = SEEDS
    variant: str | None = None

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", self.seeds, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldFlags(TrainingFlags):
    """What is compared.

    Attributes:
      values: Values of the field, with commas between them; the layers of blocks as 6-12-24.
    """

    values: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientArguments:
    """Measure the gradient in each layer, with and without the direct connections."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    study: TrainingFlags = TrainingFlags()
    written: OutputFlags = OutputFlags()
    devices: DeviceFlags = DeviceFlags()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldArguments:
    """Train the same network with several values of one field, and compare.

    The table has the error, size, time and memory of each value, and recommends one.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    study: FieldFlags
    written: OutputFlags = OutputFlags()
    devices: DeviceFlags = DeviceFlags()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryArguments:
    """Compile a training step at several depths, naive and with less memory.

    Attributes:
      network: The network; its depth varies.
      values: Depths, with commas between them.
      batch_size: Images in a batch.
      image_size: Height and width of an image in pixels.
      written: What is written.
      devices: Which devices take part.
    """

    network: DenseNetConfig = MEMORY_NETWORK
    values: tuple[int, ...] = DEPTHS
    batch_size: int = BATCH_SIZE
    image_size: int = IMAGE_SIZE
    written: OutputFlags = OutputFlags()
    devices: DeviceFlags = DeviceFlags()

    def __post_init__(self) -> None:
        for name in ("batch_size", "image_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReuseArguments:
    """Show which earlier layers the layers of a trained network read (paper, Figure 5).

    Attributes:
      checkpoint: Whatever `flax-densenet convert` reads, such as a work directory of `train`.
      written: What is written.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    written: OutputFlags = OutputFlags()


StudyArguments = FieldArguments | GradientArguments | MemoryArguments | ReuseArguments


class StudyCommand(NamedTuple):
    """A command line.

    Attributes:
      name: Key of `STUDIES`.
      arguments: Its flags.
      values: Values of the field that is varied; none for the other studies.
      text: The command as it was given.
    """

    name: str
    arguments: StudyArguments
    values: tuple[Any, ...]
    text: str


def parse(args: Sequence[str], prog: str) -> StudyCommand:
    """Parses the command line; the study's name, which comes first, decides the flags.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: There is no such study, or a value cannot be used.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    if not args or args[0] in ("-h", "--help"):
        print(_usage(prog))
        raise SystemExit(0 if args else 2)
    name, words = args[0], args[1:]
    if name.startswith("-"):
        raise InputError(f"the name of the study comes first: {prog} NAME {name} ...")
    check_name("NAME", name, STUDIES)
    arguments = _parse(name, words, f"{prog} {name}")
    values = ()
    if isinstance(arguments, FieldArguments):
        values = parse_values(name, arguments.study.values)
    return StudyCommand(name, arguments, values, shlex.join([*prog.split(), *args]))


def _parse(name: str, words: Sequence[str], prog: str) -> StudyArguments:
    if name == "feature_reuse":
        return parse_flags(ReuseArguments, words, prog)
    if name == "memory":
        return parse_flags(MemoryArguments, words, prog, pairs=True)
    config = implied_run(words, make_run=partial(baseline_run, name))
    default: FieldArguments | GradientArguments = GradientArguments(config=config)
    if name != "gradient_flow":
        values = ",".join(value_text(value) for value in FIELD_STUDIES[name].values)
        default = FieldArguments(config=config, study=FieldFlags(values=values))
    return parse_flags(
        type(default), words, prog, default=default, spelled=FROM_INITIAL_WEIGHTS, pairs=True
    )


def _usage(prog: str) -> str:
    lines = [f"  {name:<16} {description}" for name, description in STUDIES.items()]
    return "\n".join(
        [
            f"usage: {prog} NAME [OPTIONS]",
            "",
            "studies:",
            *lines,
            "",
            f"{prog} NAME --help lists the flags of a study",
        ]
    )


def run(command: StudyCommand, prog: str) -> None:
    """Runs the command.

    Args:
      command: The command line.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: A value, the data set, the checkpoint or the directory cannot be used.
      SavingFailed: Something could not be written.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came; what was done is kept.
    """
    arguments = command.arguments
    if not isinstance(arguments, ReuseArguments):
        choose_devices(arguments.devices)
    directory = Path(arguments.written.output or f"studies/{command.name}").expanduser().absolute()
    settings: dict[str, Any] = {"output": directory, "formats": arguments.written.format}
    match arguments:
        case FieldArguments():
            settings |= {"run": arguments.config, "seeds": arguments.study.seeds}
            settings |= {"values": command.values}
        case GradientArguments():
            settings |= {"run": arguments.config, "seeds": arguments.study.seeds}
        case MemoryArguments():
            settings |= {"network": arguments.network, "values": arguments.values}
            settings |= {"batch_size": arguments.batch_size, "image_size": arguments.image_size}
        case ReuseArguments():
            settings |= {"checkpoint": arguments.checkpoint}
    try:
        result = studies.run(command.name, **settings)
    except (KeyboardInterrupt, TrainingInterrupted):
        print(f"\ninterrupted; the finished part is in {directory}; the same command goes on:")
        print(command.text)
        raise
    write_text(directory / "command.txt", command.text + "\n")
    print(f"{result.title}\n\n{result.to_markdown()}\n\n{result.recommendation}\n")
    print(f"everything is in {directory}: {', '.join(sorted(p.name for p in directory.iterdir()))}")
