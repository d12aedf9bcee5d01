"""Tests of flax_densenet/cli/main.py: what the machine lacks is one line."""

import asyncio
import errno
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flax_densenet.cli.report import to_json

Status = Callable[..., int]
Printed = Callable[[], str]


class XlaRuntimeError(RuntimeError):
    """The name and text that XLA's has."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nx"),
            "error: the memory is full (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.); "
            "give a smaller --batch_size or smaller images, or in training --remat",
        ),
        (MemoryError(), "error: the memory is full (MemoryError); give a smaller --batch_size"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "error: a/b cannot be written (No space left on device); make room",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            "error: a/b cannot be used (Permission denied); change its rights",
        ),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    status: Status,
    printed: Printed,
) -> None:
    def command(arguments: Any, prog: str) -> None:
        raise error

    monkeypatch.setattr("flax_densenet.cli.summary.run", command)
    monkeypatch.setattr("flax_densenet.cli.main.discard", lambda stream: None)
    assert status("summary") == 1
    assert printed().startswith(message)


def test_failures_after_the_first_of_a_save_are_not_logged(
    monkeypatch: pytest.MonkeyPatch, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    """Orbax writes arrays side by side in asyncio's tasks, and raises the failure of one."""

    async def write(reason: str) -> None:
        raise ValueError(reason)

    async def save() -> None:
        writes = [asyncio.create_task(write(reason)) for reason in ("first", "second")]
        await asyncio.sleep(0)
        await writes[0]

    def command(arguments: Any, prog: str) -> None:
        with pytest.raises(ValueError, match="first"):
            asyncio.run(save())
        gc.collect()

    monkeypatch.setattr("flax_densenet.cli.summary.run", command)
    assert status("summary") == 0
    assert caplog.text == ""


def test_fault_in_the_program_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    def command(arguments: Any, prog: str) -> None:
        raise KeyError("fault")

    monkeypatch.setattr("flax_densenet.cli.summary.run", command)
    with pytest.raises(KeyError, match="fault"):
        status("summary")


def test_output_that_finds_no_room_is_told() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "flax_densenet", "summary", "--depth", "7"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    message = "error: the output cannot be written (No space left on device); make room\n"
    assert (result.returncode, result.stderr) == (1, message)


@pytest.mark.parametrize(("platform", "reason"), [("cuda", "plugin"), ("bogus", "list of known")])
def test_devices_that_jax_is_told_to_use_and_cannot_are_told(platform: str, reason: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flax_densenet", "evaluate", "/nowhere"],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert f"error: JAX cannot use the devices of JAX_PLATFORMS={platform} (" in result.stderr
    assert reason in result.stderr and "Traceback" not in result.stderr


def test_similar_command_is_named(status: Status, printed: Printed) -> None:
    assert status("trian") == 2
    assert printed().startswith("error: no command 'trian'; perhaps you meant train usage:")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("convert", "", "x"),
            "checkpoint (='') must be a path; is a variable of the shell empty?",
        ),
        (("convert", "x", ""), "target (='') must be a path"),
        (("train", "--init_from", ""), "init_from (='') must be a path"),
        (
            ("convert", "--offline", "https://a.org/b.pth", "x"),
            "error: https://a.org/b.pth is not on this machine, and nothing is downloaded offline",
        ),
        (
            ("train", "--offline", "--init_from", "https://a.org/b.pth"),
            "error: https://a.org/b.pth is not on this machine",
        ),
    ],
)
def test_path_that_is_none_is_told(
    args: tuple[str, ...], message: str, status: Status, printed: Printed
) -> None:
    assert status(*args) == 2
    assert message in printed()


def test_json_has_no_number_that_its_standard_does_not_know() -> None:
    value = {"a": [1.5, float("nan"), (float("inf"), -float("inf"))], "b": {"c": None, "d": "NaN"}}
    text = to_json(value)
    assert json.loads(text) == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": "NaN"}}
    assert text.count("NaN") == 1  # the word
