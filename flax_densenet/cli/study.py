"""The command line of `flax-densenet study NAME`."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tyro

from flax_densenet import study as studies
from flax_densenet.cli.devices import choose_devices
from flax_densenet.cli.flags import check_name, comma_separated_registry, network_arguments
from flax_densenet.cli.study_options import (
    FieldArguments,
    FieldOptions,
    GradientArguments,
    MemoryArguments,
    ReuseArguments,
)
from flax_densenet.cli.two_pass import implied_run, parse_run_arguments, read_first
from flax_densenet.errors import InputError, TrainingInterrupted
from flax_densenet.study.catalog import FIELD_STUDIES, MEMORY_NETWORK, STUDIES, baseline_run
from flax_densenet.study.fields.values import parse_values, value_text
from flax_densenet.training.workdir import write_whole

StudyArguments = FieldArguments | GradientArguments | MemoryArguments | ReuseArguments
_Any = TypeVar("_Any")


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
        return _parse_flags(ReuseArguments, words, prog)
    if name == "memory":
        default = MemoryArguments(network=network_arguments(MEMORY_NETWORK))
        return _parse_flags(MemoryArguments, words, prog, default=default)
    run = implied_run(read_first(words), make_run=partial(baseline_run, name))
    if name == "gradient_flow":
        return parse_run_arguments(GradientArguments, words, prog, default=run)
    values = ",".join(value_text(value) for value in FIELD_STUDIES[name].values)
    options = FieldOptions(values=values)
    return parse_run_arguments(FieldArguments, words, prog, default=run, study=options)


def _parse_flags(kind: type[_Any], words: Sequence[str], prog: str, **default: Any) -> _Any:
    return tyro.cli(
        kind,
        args=words,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=comma_separated_registry(),
        **default,
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
            f"{prog} NAME --help lists the options of a study",
        ]
    )


def run(command: StudyCommand, prog: str) -> None:
    """Runs the command.

    Args:
      command: The command line.
      prog: Name of the command, for messages.

    Raises:
      InputError: A value, the data set, the checkpoint or the directory cannot be used.
      SavingFailed: Something could not be written.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came; what was done is kept.
    """
    arguments = command.arguments
    if not isinstance(arguments, ReuseArguments):
        choose_devices(arguments.devices)
    directory = Path(arguments.output.out or f"studies/{command.name}").expanduser().absolute()
    settings: dict[str, Any] = {"out": directory, "formats": arguments.output.format}
    match arguments:
        case FieldArguments():
            settings |= {"run": arguments.run_config, "seeds": arguments.study.seeds}
            settings |= {"values": command.values}
        case GradientArguments():
            settings |= {"run": arguments.run_config, "seeds": arguments.study.seeds}
        case MemoryArguments():
            settings |= {"network": arguments.network.config, "values": arguments.values}
            settings |= {"batch_size": arguments.batch_size, "image_size": arguments.image_size}
        case ReuseArguments():
            settings |= {"checkpoint": arguments.checkpoint}
    try:
        result = studies.run(command.name, **settings)
    except (KeyboardInterrupt, TrainingInterrupted):
        print(f"\ninterrupted; what is done is in {directory}; the same command goes on:")
        print(command.text)
        raise
    write_whole(directory / "command.txt", command.text + "\n")
    print(f"{result.title}\n\n{result.to_markdown()}\n\n{result.recommendation}\n")
    print(f"everything is in {directory}: {', '.join(sorted(p.name for p in directory.iterdir()))}")
