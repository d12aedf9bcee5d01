"""A worker process, which builds one contestant and answers requests.

Requests come on standard input, replies go to standard output. Both are JSON, one a line:

  {"do": "build", ...fields of Job}  {"num_parameters", "device", "seconds", "peak_bytes"}
  {"do": "train", "steps": N}        {"seconds": [N], "losses": [N], "peak_bytes"}
  {"do": "evaluate", "steps": N}     the same
  {"do": "train_ahead", "steps": N}  the same for steps that are started before the one before is
                                     done, but for "seconds": [1], their mean
  {"do": "evaluate_ahead", ...}      the same for evaluation
  {"do": "memory"}                   what the framework knows of its memory

The reply to a request that fails is {"error": reason}.
"""

import json
import math
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, SupportsFloat

from benchmarks.contestants import Job, Program
from benchmarks.initial_weights import read_initial_weights
from flax_densenet.bench.programs import eval_batch, train_batches


class Worker:
    """One contestant and its batches."""

    def __init__(self, job: Job) -> None:
        start = time.perf_counter()
        self._program: Program = job.build(read_initial_weights(Path(job.variables)))
        batches = train_batches(job.config, job.batch_size, job.image_size)
        self._train_batches = [self._program.prepare(batch) for batch in batches]
        self._eval_batches = [self._program.prepare(eval_batch(batch)) for batch in batches]
        self._steps_done = 0
        self.description = {
            "num_parameters": self._program.num_parameters,
            "device": self._program.device,
            "seconds": time.perf_counter() - start,
            "peak_bytes": peak_bytes(),
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request after the first asks for, and returns the reply."""
        if request["do"] == "memory":
            return dict(self._program.memory())
        what, steps = request["do"].removesuffix("_ahead"), request["steps"]
        run = self._one_by_one if what == request["do"] else self._ahead
        seconds, losses = run(what, steps)
        for number, loss in enumerate(losses, start=self._steps_done - len(losses) + 1):
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss of step {number} is {loss}")
        return {"seconds": seconds, "losses": losses, "peak_bytes": peak_bytes()}

    def _one_by_one(self, what: str, steps: int) -> tuple[list[float], list[float]]:
        """Returns the time of each step, for which nothing else is started, and its loss."""
        seconds, losses = [], []
        for _ in range(steps):
            start = time.perf_counter()
            loss = self._start(what)
            self._program.wait()
            seconds.append(time.perf_counter() - start)
            losses.append(float(loss))
        return seconds, losses

    def _ahead(self, what: str, steps: int) -> tuple[list[float], list[float]]:
        """Waits for the last step alone; returns the mean time of a step, and the losses."""
        start = time.perf_counter()
        losses = [self._start(what) for _ in range(steps)]
        self._program.wait()
        seconds = (time.perf_counter() - start) / steps
        return [seconds], [float(loss) for loss in losses]

    def _start(self, what: str) -> SupportsFloat:
        index = self._steps_done % len(self._train_batches)
        self._steps_done += 1
        if what == "train":
            return self._program.train(self._train_batches[index])
        return self._program.evaluate(self._eval_batches[index])


def peak_bytes() -> int:
    """Returns the largest resident memory of this process so far.

    `ru_maxrss` would be at least the peak of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status does not state the peak memory")


def main() -> None:
    """Answers requests until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no reply
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                del request["do"]
                worker = Worker(Job(**request))
                reply = worker.description
            else:
                reply = worker.answer(request)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": _reason(error)}
        print(json.dumps(reply), file=replies, flush=True)


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
