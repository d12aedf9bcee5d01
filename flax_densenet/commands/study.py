"""`flax-densenet study`: a question about DenseNet, answered by a table and a picture."""

from pathlib import Path
from typing import Any

from flax_densenet import study as studies
from flax_densenet.commands.devices import choose_devices
from flax_densenet.commands.study_arguments import StudyCommand
from flax_densenet.commands.study_options import (
    FieldArguments,
    GradientArguments,
    MemoryArguments,
    ReuseArguments,
)
from flax_densenet.errors import TrainingInterrupted
from flax_densenet.training.workdir import write_whole


def study(command: StudyCommand, prog: str) -> None:
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
