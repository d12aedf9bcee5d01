"""Where the time of an epoch goes."""

import collections
import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax

T = TypeVar("T")
_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Stopwatch:
    """Adds up seconds by part: "data", "step", "evaluation", and "compile", which is inside others.

    Use it as a context manager, in which compilations are noticed.

    Attributes:
      seconds: Seconds of each part so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    def __enter__(self) -> "Stopwatch":
        jax.monitoring.register_event_duration_secs_listener(self._notice)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._notice)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time inside to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting_for(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yields the items and adds the time until each is there to a part."""
        iterator = iter(items)
        while True:
            with self.part(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _notice(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILE_EVENT:
            self.seconds["compile"] += duration_secs
