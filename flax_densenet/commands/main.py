"""The command line `flax-densenet COMMAND ...`, and what a failure looks like."""

import difflib
import errno
import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax_densenet.commands.interruption import EXIT_INTERRUPTED, interruptible, raise_again
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
    "bench": _Command(
        "bench_arguments:parse_bench_arguments",
        "bench:bench",
        "measure how fast a network is on this machine",
    ),
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
    "export": _Command(
        "export_arguments:parse_export_arguments",
        "export:export",
        "write a trained network as StableHLO or ONNX, to be run without this package",
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
    "study": _Command(
        "study_arguments:parse_study_arguments",
        "study:study",
        "vary the network, or look inside: a table and a picture",
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
# Orbax logs what it raises, too; asyncio logs the failures after the first of a save.
_LOGGERS_OF_ORBAX = ("absl", "asyncio")
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
        near = difflib.get_close_matches(words[0], _COMMANDS, n=1)
        hint = f"; perhaps you meant {near[0]}" if near else ""
        print(f"error: no command {words[0]!r}{hint}\n{_usage()}", file=sys.stderr)
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
    for logger in _LOGGERS_OF_ORBAX:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    sys.unraisablehook = _report_unless_told
    with interruptible() as interruption:
        try:
            arguments = _import(_COMMANDS[name].parse)(args, prog)
            run = _import(_COMMANDS[name].run)
            interruption.raises = True
            run(arguments, prog)
            sys.stdout.flush()  # here, where a full disk can be told
        except InputError as error:
            return _failed(str(error), _EXIT_INPUT)
        except (ImagesUnreadable, NetworksDiffer, TrainingDiverged, SavingFailed) as error:
            return _failed(str(error), _EXIT_FAILED)
        except TrainingInterrupted as error:
            return _EXIT_SIGNAL + (error.signal or signal.SIGTERM)
        except BrokenPipeError:  # the reader of our output has gone, as after `| head`
            _discard_output()
            return _EXIT_SIGNAL + signal.SIGPIPE
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except Exception as error:
            if interruption.received:  # others make other exceptions of a KeyboardInterrupt
                return EXIT_INTERRUPTED
            if (told := _describe(error)) is None:
                raise
            return _failed(told, _EXIT_FAILED)
    return 0


def _failed(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _describe(error: Exception) -> str | None:
    """Returns a line on what the machine lacks; None for a fault in the program."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    # XLA and PyTorch have exceptions of their own, which are not imported for this.
    if (
        isinstance(error, MemoryError)
        or "RESOURCE_EXHAUSTED" in reason
        or "out of memory" in reason
    ):
        return (
            f"the memory is full ({reason}); give a smaller --batch_size or smaller images, or in "
            "training --remat"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _discard_output()
        return f"{error.filename or 'the output'} cannot be written ({error.strerror}); make room"
    if isinstance(error, PermissionError):
        return f"{error.filename or 'a file'} cannot be used ({error.strerror}); change its rights"
    return None


def _discard_output() -> None:
    """Keeps Python from writing the rest of the output at exit, and complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _import(function: str) -> Callable[..., Any]:
    return pkgutil.resolve_name(f"flax_densenet.commands.{function}")


def _report_unless_told(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports an exception in a callback as usual, but neither Ctrl-C nor those of a failed save.

    TensorStore's threads raise one for each file, when Orbax has long raised the failure itself.
    """
    if raise_again(unraisable):
        return
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
