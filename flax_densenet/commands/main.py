"""The command line `flax-densenet COMMAND ...`, and what a failure looks like."""

import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax_densenet.errors import (
    ImagesUnreadable,
    InputError,
    NetworksDiffer,
    SavingFailed,
    TrainingDiverged,
    TrainingInterrupted,
)


class _Command(NamedTuple):
    """A command: two functions, as MODULE:FUNCTION in this package, and a line for the help.

    Attributes:
      parse: From words and the name of the command to its arguments; imports no framework, so that
        help and wrong flags do not wait for one.
      run: Takes the arguments and the name.
      description: What it does.
    """

    parse: str
    run: str
    description: str


_COMMANDS = {
    "convert": _Command(
        "convert_arguments:parse_convert_arguments",
        "convert:convert",
        "convert a checkpoint between PyTorch, Keras and Flax",
    ),
    "evaluate": _Command(
        "evaluate_arguments:parse_evaluate_arguments",
        "evaluate:evaluate",
        "report the error of a trained network, class by class",
    ),
    "explain": _Command(
        "explain_arguments:parse_explain_arguments",
        "explain:explain",
        "draw which part of an image speaks for a class",
    ),
    "learning-curves": _Command(
        "learning_curves_arguments:parse_learning_curves_arguments",
        "learning_curves:learning_curves",
        "train in Flax and in PyTorch, and compare the curves",
    ),
    "parity": _Command(
        "parity_arguments:parse_parity_arguments",
        "parity:parity",
        "show, layer by layer, that Flax and PyTorch compute the same",
    ),
    "predict": _Command(
        "predict_arguments:parse_predict_arguments",
        "predict:predict",
        "show the most probable classes of images",
    ),
    "summary": _Command(
        "summary:parse_summary_arguments",
        "summary:summary",
        "show every operation of a network, and what the network costs",
    ),
    "train": _Command(
        "train_arguments:parse_train_arguments",
        "train:train",
        "train a DenseNet and write everything to a work directory",
    ),
}
_EXIT_FAILED = 1
_EXIT_INPUT = 2
_EXIT_SIGNAL = 128  # plus the signal's number, as a shell reports it


def main(args: Sequence[str] | None = None) -> int:
    """Runs `flax-densenet`.

    Args:
      args: Words after the program's name; None takes them from the command line.

    Returns:
      Exit status: 0 done, 1 training diverged or could not be saved, the frameworks differ or
      some images could not be read, 2 wrong input, 130 or 143 interrupted by SIGINT or SIGTERM.
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
        arguments = _import(_COMMANDS[name].parse)(args, prog)
        _import(_COMMANDS[name].run)(arguments, prog)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_INPUT
    except (ImagesUnreadable, NetworksDiffer, TrainingDiverged, SavingFailed) as error:
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


def _import(function: str) -> Callable[..., Any]:
    return pkgutil.resolve_name(f"flax_densenet.commands.{function}")


def _report_unless_save_failed(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports an exception in a callback as usual, but not those of a failed save.

    TensorStore's threads raise one for each file, when Orbax has long raised the failure itself.
    """
    error = unraisable.exc_value
    if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _usage() -> str:
    lines = [f"  {name:<16} {command.description}" for name, command in _COMMANDS.items()]
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
