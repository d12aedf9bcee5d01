"""Runs `flax-densenet COMMAND ...`, and turns failures into a line and an exit status."""

import contextlib
import errno
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

from flax_densenet import __version__
from flax_densenet.cache import give_home
from flax_densenet.cli.interruption import EXIT_INTERRUPTED, interruptible, raise_again
from flax_densenet.cli.output import discard, outlived_output, show_everything
from flax_densenet.errors import (
    ImagesUnreadable,
    InputError,
    NetworksDiffer,
    SavingFailed,
    TrainingDiverged,
    TrainingInterrupted,
    nearest,
)


def _bench() -> ModuleType:
    from flax_densenet.cli import bench

    return bench


def _convert() -> ModuleType:
    from flax_densenet.cli import convert

    return convert


def _evaluate() -> ModuleType:
    from flax_densenet.cli import evaluate

    return evaluate


def _explain() -> ModuleType:
    from flax_densenet.cli import explain

    return explain


def _export() -> ModuleType:
    from flax_densenet.cli import export

    return export


def _learning_curves() -> ModuleType:
    from flax_densenet.cli import learning_curves

    return learning_curves


def _parity() -> ModuleType:
    from flax_densenet.cli import parity

    return parity


def _predict() -> ModuleType:
    from flax_densenet.cli import predict

    return predict


def _study() -> ModuleType:
    from flax_densenet.cli import study

    return study


def _summary() -> ModuleType:
    from flax_densenet.cli import summary

    return summary


def _train() -> ModuleType:
    from flax_densenet.cli import train

    return train


def _weights() -> ModuleType:
    from flax_densenet.cli import weights

    return weights


class _Command(NamedTuple):
    """A command.

    Attributes:
      module: Imports its module, whose `parse(words, prog)` returns the arguments that its
        `run(arguments, prog)` takes.
      description: A line for the help.
    """

    module: Callable[[], ModuleType]
    description: str


_COMMANDS = {
    "bench": _Command(_bench, "measure how fast a network is on this machine"),
    "convert": _Command(_convert, "convert a checkpoint between PyTorch, Keras and Flax"),
    "evaluate": _Command(_evaluate, "report the error of a trained network, class by class"),
    "explain": _Command(_explain, "draw which part of an image speaks for a class"),
    "export": _Command(
        _export, "write a trained network as StableHLO or ONNX, to be run without this package"
    ),
    "learning-curves": _Command(
        _learning_curves, "train in Flax and in PyTorch, and compare the curves"
    ),
    "parity": _Command(_parity, "show, layer by layer, that Flax and PyTorch compute the same"),
    "predict": _Command(_predict, "show the most probable classes of images"),
    "study": _Command(_study, "vary the network, or look inside: a table and a picture"),
    "summary": _Command(_summary, "show every operation of a network, and what the network costs"),
    "train": _Command(_train, "train a DenseNet and write everything to a work directory"),
    "weights": _Command(_weights, "list the published weights that have a name, or fetch them"),
}
# Orbax logs what it raises, too; asyncio logs the failures after the first of a save.
_LOGGERS_OF_ORBAX = ("absl", "asyncio")
_NO_TEMPORARY_FILES = "No usable temporary directory"  # Python's words
_NO_HOME = "Could not determine home directory"
_WRITING_FILES = ("train", "study", "learning-curves")  # whose output is not the result
_EXIT_FAILED = 1
_EXIT_INPUT = 2
_EXIT_SIGNAL = 128  # plus the signal's number, as a shell reports it


def main(args: Sequence[str] | None = None) -> int:
    """Runs `flax-densenet`.

    Args:
      args: Words after the program's name; None takes them from the command line.

    Returns:
      Exit status: 0 done, 1 training diverged or could not be saved, the frameworks differ or
      some images could not be read, 2 wrong input, 128 plus its number interrupted by a signal.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else _EXIT_INPUT
    if words[0] == "--version":
        print(f"flax-densenet {__version__}")
        return 0
    if words[0] not in _COMMANDS:
        hint = nearest(words[0], _COMMANDS)
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
    sys.unraisablehook = _report_unless_known
    show_everything()
    give_home()
    with interruptible() as interruption:
        try:
            command = _COMMANDS[name].module()
            arguments = command.parse(args, prog)
            interruption.raises = True
            with outlived_output() if name in _WRITING_FILES else contextlib.nullcontext():
                command.run(arguments, prog)
            if sys.stdout is not None:  # as in `flax-densenet weights >&-`
                sys.stdout.flush()  # here, where a full disk can still be reported
        except InputError as error:
            return _failed(str(error), _EXIT_INPUT)
        except (ImagesUnreadable, NetworksDiffer, TrainingDiverged, SavingFailed) as error:
            return _failed(str(error), _EXIT_FAILED)
        except TrainingInterrupted as error:
            return _EXIT_SIGNAL + (error.signal or signal.SIGTERM)
        except BrokenPipeError:  # the reader of our output has gone, as after `| head`
            discard(sys.stdout)
            return _EXIT_SIGNAL + signal.SIGPIPE
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except Exception as error:
            if interruption.received:  # libraries turn KeyboardInterrupt into other exceptions
                return EXIT_INTERRUPTED
            if (description := _describe(error)) is None:
                raise
            return _failed(description, _EXIT_FAILED)
    return 0


def _failed(message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {message}", file=sys.stderr)
    return status


def _describe(error: Exception) -> str | None:
    """Returns a line about what the machine lacks; None for a bug in the program."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    # XLA and PyTorch have their own exceptions; this does not import them.
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
        discard(sys.stdout)
        return f"{error.filename or 'the output'} cannot be written ({error.strerror}); make room"
    if isinstance(error, FileNotFoundError) and _NO_TEMPORARY_FILES in reason:
        return f"no temporary file can be written ({reason}); make room, or name a place in TMPDIR"
    if isinstance(error, RuntimeError) and reason.startswith(_NO_HOME):
        return "a path starts with ~ and the name of no user; write ./~ for a file of such a name"
    if isinstance(error, PermissionError):
        return f"{error.filename or 'a file'} cannot be used ({error.strerror}); change its rights"
    return None


def _report_unless_known(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports an exception in a callback as usual, except for Ctrl-C and failures of a save.

    TensorStore's threads raise one for each file, long after Orbax has raised the failure itself.
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
            "flax-densenet COMMAND --help lists the flags of a command",
            "flax-densenet --version shows the version",
        ]
    )
