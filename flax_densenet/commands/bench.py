"""`flax-densenet bench`: how fast a network is on this machine."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from flax_densenet.bench.machine import busy, count_cpus, describe_machine
from flax_densenet.bench.measure import Measured, measure
from flax_densenet.bench.spread import MIB, spread
from flax_densenet.commands.bench_arguments import BenchArguments
from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.commands.devices import choose_devices
from flax_densenet.commands.network import check_name
from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.checkpoint import load_checkpoint
from flax_densenet.variants import IMAGE_SIZES, VARIANTS

_COLUMNS = {  # and their widths
    "batch": 5,
    "step": 10,
    "formulation": 24,
    "ms per batch: min / median / max": 32,
    "images/s": 8,
    "compile (s): cold / cached": 26,
    "memory (MiB)": 12,
}


def bench(arguments: BenchArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: There is no such network, or it cannot take images of this size.
    """
    machine = describe_machine()
    choose_devices(DeviceOptions())  # as `train` does
    config = _find_network(arguments)
    size = arguments.image_size or IMAGE_SIZES[config.stem]
    config.check_image(height=size, width=size, channels=config.in_channels)
    results: list[Measured] = []
    if not arguments.json:
        _print_heading(config, size, machine, arguments.steps)
    for batch_size in arguments.batch_size:
        steps = measure(config, batch_size=batch_size, image_size=size, steps=arguments.steps)
        for measured in steps:
            results += measured
            if not arguments.json:
                for one in measured:
                    print(_line(_cells(one)), flush=True)
    if arguments.json:
        print(json.dumps(_as_json(config, size, machine, results)))


def _find_network(arguments: BenchArguments) -> DenseNetConfig:
    name = arguments.network
    if name in VARIANTS or not Path(name).expanduser().exists():
        check_name("NAME", name, VARIANTS)
        config = VARIANTS[name]
    else:
        config = load_checkpoint(Path(name).expanduser()).config
    if arguments.precision is None:
        return config
    return dataclasses.replace(config, dtype=arguments.precision)


def _print_heading(config: DenseNetConfig, size: int, machine: dict[str, Any], steps: int) -> None:
    device = jax.devices()[0]
    where = device.device_kind
    if device.platform == "cpu":
        where = f"{count_cpus()} CPUs of {machine['cpu']}"
    print(f"{config.title}, {size}x{size} pixels, {config.dtype}, n = {steps} steps each")
    print(f"{where}, jax {jax.__version__}")
    if note := busy(machine):
        print(f"note: {note}")
    print(f"\n{_line(list(_COLUMNS))}")


def _cells(one: Measured) -> list[str]:
    formulation = f"{one.formulation} (auto)" if one.is_automatic else one.formulation
    cells = [str(one.batch_size), one.step, formulation]
    seconds = spread(one.seconds)
    if seconds is None:
        return [*cells, one.error or "", "", "", ""]
    milliseconds = (1000 * value for value in (seconds.min, seconds.median, seconds.max))
    return [
        *cells,
        " / ".join(_number(value) for value in milliseconds),
        _number(one.batch_size / seconds.median),
        f"{_number(one.cold_seconds)} / {_number(one.cached_seconds)}",
        _number(one.memory_bytes and one.memory_bytes / MIB),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _line(cells: list[str]) -> str:
    columns = zip(cells, _COLUMNS.values(), strict=True)
    return "  ".join(f"{cell:<{width}}" for cell, width in columns).rstrip()


def _as_json(
    config: DenseNetConfig, size: int, machine: dict[str, Any], results: list[Measured]
) -> dict[str, Any]:
    return {
        "title": config.title,
        "network": dataclasses.asdict(config),
        "image_size": size,
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "machine": machine,
        "results": [
            dataclasses.asdict(one) | {"summary": values and values._asdict()}
            for one in results
            for values in [spread(one.seconds)]
        ],
    }
