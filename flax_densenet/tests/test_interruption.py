"""Tests of flax_densenet/cli/interruption.py: Ctrl-C at any moment of a program."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from flax_densenet.cli import main as main_module
from flax_densenet.cli.interruption import exit_on_interrupt, interruptible
from flax_densenet.tests.test_train_command import TRAIN_PY

Status = Callable[..., int]

# Sends Ctrl-C when a module is looked for, as if it came while it is imported.
_INTERRUPT_AT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""
_START = {
    "python -m": "import runpy; runpy.run_module('flax_densenet', run_name='__main__')",
    "flax-densenet": "from flax_densenet.__main__ import main; sys.exit(main())",
    "train.py": f"import runpy; runpy.run_path({str(TRAIN_PY)!r}, run_name='__main__')",
}


def run(program: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", program, "evaluate", "/nowhere"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


def test_interrupt_while_jax_is_imported_is_no_traceback() -> None:
    start = "from flax_densenet.cli.main import main; sys.exit(main(['evaluate', '/nowhere']))"
    assert run(_INTERRUPT_AT.format(module="jax") + start) == (130, "", "")


@pytest.mark.parametrize("start", _START)
def test_interrupt_at_the_first_import_of_the_command_line_is_no_traceback(start: str) -> None:
    program = _INTERRUPT_AT.format(module="flax_densenet.cli.main") + _START[start]
    assert run(program) == (130, "", "")


def test_interrupt_in_an_extension_that_makes_another_error_of_it_is_no_traceback() -> None:
    """As jaxlib does while it is initialized: "ImportError: Encountered an error while ..."."""
    program = (
        "import os, signal, sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'jaxlib':\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        "                raise ImportError('Encountered an error') from None\n"
        "sys.meta_path.insert(0, Broken())\n"
        "from flax_densenet.cli.main import main\n"
        "sys.exit(main(['evaluate', '/nowhere']))"
    )
    assert run(program) == (130, "", "")


def test_interrupt_that_the_command_turns_into_another_error_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: Any, prog: str) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("made of it") from None

    _replace_summary(monkeypatch, command)
    assert status("summary") == 130
    assert capsys.readouterr() == ("", "")


def test_interrupt_that_is_lost_in_a_callback_comes_again(
    monkeypatch: pytest.MonkeyPatch, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def command(arguments: Any, prog: str) -> None:
        Closing()
        for _ in range(500):  # 5 seconds at most
            time.sleep(0.01)
        raise AssertionError("the interrupt is lost")

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # restored afterwards
    _replace_summary(monkeypatch, command)
    assert status("summary") == 130
    assert capsys.readouterr() == ("", "")


def _replace_summary(monkeypatch: pytest.MonkeyPatch, run: Callable[..., None]) -> None:
    monkeypatch.setattr("flax_densenet.cli.summary.run", run)
    assert "summary" in main_module._COMMANDS


def test_handlers_are_as_before_afterwards_and_those_of_others_stay() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    try:
        for others in (signal.SIG_IGN, lambda *_: None):
            signal.signal(signal.SIGINT, others)
            exit_on_interrupt()
            with interruptible() as interruption:
                assert signal.getsignal(signal.SIGINT) is others
                assert interruption.raises
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_may_run_commands(status: Status) -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(status("summary", "--depth", "7")))
    thread.start()
    thread.join()
    assert seen == [0]
