"""On what a result was measured."""

import importlib.metadata
import os
import platform

import jax


def software(*packages: str) -> str:
    """Returns names and versions, such as "jax 0.10.2, flax 0.12.8"."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def hardware() -> str:
    """Returns what this process computes on, in words."""
    devices = jax.devices()
    kind = devices[0].device_kind
    where = "the CPU" if jax.default_backend() == "cpu" else f"{len(devices)} x {kind}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), JAX on {where}"
