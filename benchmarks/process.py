"""The parent's end of a worker process."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contestants import Job

_ROOT = Path(__file__).parents[1]


class WorkerFailed(Exception):
    """A contestant cannot go on; the message says why."""


class WorkerProcess:
    """A worker with one contestant, which sleeps until something is asked of it."""

    def __init__(self, job: Job, environment: dict[str, str], log: Path) -> None:
        """Starts the process.

        Args:
          job: What it computes.
          environment: Its environment variables.
          log: File for whatever is printed in it.
        """
        self._job = job
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=_ROOT,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the workers
            )

    def build(self) -> dict[str, Any]:
        """Builds the contestant and returns what it is.

        Raises:
          WorkerFailed: It cannot be built.
        """
        return self._ask({"do": "build", **dataclasses.asdict(self._job)})

    def run(self, what: str, steps: int) -> dict[str, Any]:
        """Does some steps and returns seconds and loss of each.

        Args:
          what: "train" or "evaluate"; "train_ahead" and "evaluate_ahead" do not wait for each step,
            and return the mean time.
          steps: How many.

        Raises:
          WorkerFailed: One of them fails.
        """
        return self._ask({"do": what, "steps": steps})

    def memory(self) -> dict[str, Any]:
        """Returns what the framework knows of its memory."""
        return self._ask({"do": "memory"})

    def close(self) -> None:
        """Ends the process, and those that it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a request that nobody has read
                pipe.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        if not answer:
            raise WorkerFailed(self._epitaph())
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise WorkerFailed(reply["error"])
        return reply

    def _epitaph(self) -> str:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "killed, as the system does when memory runs out"
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        lines = self._log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"ended with status {status}: {last[:200]}"
