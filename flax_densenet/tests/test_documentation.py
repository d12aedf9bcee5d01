"""Commands in README and docs/ exist, with every flag that they are given."""

import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pytest

from flax_densenet.cli.main import main

_ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((_ROOT / "docs").glob("*.md"))))


def _commands(page: str) -> list[list[str]]:
    """Returns the words of every command of this package in the page's blocks."""
    blocks = re.findall(r"^```(\S*)\n(.*?)^```", (_ROOT / page).read_text(), re.M | re.S)
    text = "".join(block for language, block in blocks if language in ("", "console"))
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        started = re.match(r"\$? ?(?:flax-densenet|python (train)\.py) ?(.*)", line)
        if started:
            words = shlex.split(started[2], comments=True)
            commands.append(["train", *words] if started[1] else words)
    return commands


@functools.cache
def _help_of(command: tuple[str, ...]) -> str:
    """Returns what `--help` of a command prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            assert main([*command, "--help"]) == 0
        except SystemExit as done:
            assert done.code == 0
    return printed.getvalue()


@pytest.mark.parametrize("page", _PAGES)
def test_flags_in_documentation_exist(page: str) -> None:
    for words in _commands(page):
        named = len(words) > 1 and words[0] == "study"
        command = tuple(words[: 2 if named else 1])
        for flag in re.findall(r" (--\w+)", f" {' '.join(words)}"):
            assert re.search(rf"{flag}\b", _help_of(command)), f"{command} has no {flag}"


def test_commands_are_found() -> None:
    assert ["train", "--preset", "densenet-bc-100-12-cifar10+", "--data_dir", "~/data"] in (
        _commands("README.md")
    )
