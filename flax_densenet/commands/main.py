"""The command line `flax-densenet COMMAND ...`, and what a failure looks like."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from flax_densenet.commands.convert import convert
from flax_densenet.commands.evaluate import evaluate
from flax_densenet.commands.learning_curves import learning_curves
from flax_densenet.commands.parity import parity
from flax_densenet.commands.summary import summary
from flax_densenet.commands.train import train
from flax_densenet.errors import (
    InputError,
    NetworksDiffer,
    SavingFailed,
    TrainingDiverged,
    TrainingInterrupted,
)

_COMMANDS: dict[str, tuple[Callable[[Sequence[str], str], None], str]] = {
    "convert": (convert, "convert a checkpoint between PyTorch, Keras and Flax"),
    "evaluate": (evaluate, "report the error of a trained network, class by class"),
    "learning-curves": (learning_curves, "train in Flax and in PyTorch, and compare the curves"),
    "parity": (parity, "show, layer by layer, that Flax and PyTorch compute the same"),
    "summary": (summary, "show every operation of a network, and what the network costs"),
    "train": (train, "train a DenseNet and write everything to a work directory"),
}
_EXIT_FAILED = 1
_EXIT_INPUT = 2
_EXIT_SIGNAL = 128  # plus the signal's number, as a shell reports it


def main(args: Sequence[str] | None = None) -> int:
    """Runs `flax-densenet`.

    Args:
      args: Words after the program's name; None takes them from the command line.

    Returns:
      Exit status: 0 done, 1 training diverged or could not be saved, or the frameworks differ, 2
      wrong input, 130 or 143 interrupted by SIGINT or SIGTERM.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else _EXIT_INPUT
    if words[0] not in _COMMANDS:
        print(f"error: no command {words[0]!r}\n{_usage()}", file=sys.stderr)
        return _EXIT_INPUT
    return run_command(words[0], words[1:], prog=f"flax-densenet {words[0]}")


def run_command(name: str, args: Sequence[str], *, prog: str) -> int:
    """Runs one command and turns what can go wrong for a user into a line and an exit status.

    Args:
      name: Name of the command.
      args: Words after it.
      prog: How the user started it, for messages.

    Returns:
      Exit status, as `main`.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it raises, too
    sys.unraisablehook = _report_unless_save_failed
    try:
        _COMMANDS[name][0](args, prog)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_INPUT
    except (NetworksDiffer, TrainingDiverged, SavingFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except TrainingInterrupted as error:
        return _EXIT_SIGNAL + (error.signal or signal.SIGTERM)
    except BrokenPipeError:  # the reader of our output has gone, as after `| head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python complains at exit
        return _EXIT_SIGNAL + signal.SIGPIPE
    except KeyboardInterrupt:
        return _EXIT_SIGNAL + signal.SIGINT
    return 0


def _report_unless_save_failed(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports an exception in a callback as usual, but not those of a failed save.

    TensorStore's threads raise one for each file, when Orbax has long raised the failure itself.
    """
    error = unraisable.exc_value
    if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _usage() -> str:
    lines = [f"  {name:<16} {description}" for name, (_, description) in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: flax-densenet COMMAND [OPTIONS]",
            "",
            "commands:",
            *lines,
            "",
            "flax-densenet COMMAND --help lists the options of a command",
        ]
    )
