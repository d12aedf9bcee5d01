"""`flax-densenet bench`: how fast a network is on this machine."""

import dataclasses
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import parse_flags
from flax_densenet.cli.two_pass import find_network
from flax_densenet.errors import require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import IMAGE_SIZES

if TYPE_CHECKING:
    from flax_densenet.bench.measure import Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """Measure how fast a network is on this machine, in evaluation and in training.

    Attributes:
      name: A network of the paper, such as densenet121, or a checkpoint that
        `flax-densenet convert` reads.
      batch_size: Images in a batch; each number is measured.
      image_size: Height and width in pixels. If not given, 32 for the cifar stem and 224 for the
        imagenet stem.
      precision: Type of the computation; float32 for networks of the paper, a checkpoint's own.
      steps: Timed steps of each kind.
      json: Print everything, every single time included, as JSON (see docs/benchmarks.md).
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME|CHECKPOINT]")] = (
        "densenet-40-12"
    )
    batch_size: tuple[int, ...] = (1, 16, 64)
    image_size: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    steps: int = 10
    json: bool = False

    def __post_init__(self) -> None:
        sizes = self.batch_size
        require(min(sizes) >= 1, "batch_size", sizes, "integers of at least 1")
        for name in ("image_size", "steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


parse = partial(parse_flags, BenchArguments)


_COLUMNS = {  # and their widths
    "batch": 5,
    "step": 10,
    "implementation": 24,
    "ms per batch: min / median / max": 32,
    "images/s": 8,
    "compile (s): cold / cached": 26,
    "memory (MiB)": 12,
}


def run(arguments: BenchArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: There is no such network, or it cannot take images of this size.
    """
    from flax_densenet.bench.measure import measure
    from flax_densenet.machine import describe_machine

    machine = describe_machine()
    choose_devices(DeviceFlags())  # as `train` does
    config = find_network(arguments.name)
    if arguments.precision is not None:
        config = dataclasses.replace(config, dtype=arguments.precision)
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


def _print_heading(config: DenseNetConfig, size: int, machine: dict[str, Any], steps: int) -> None:
    import jax

    from flax_densenet.machine import busy, count_cpus

    device = jax.devices()[0]
    where = device.device_kind
    if device.platform == "cpu":
        where = f"{count_cpus()} CPUs of {machine['cpu']}"
    print(f"{config.title}, {size}x{size} pixels, {config.dtype}, n = {steps} steps each")
    print(f"{where}, jax {jax.__version__}")
    if note := busy(machine):
        print(f"note: {note}")
    print(f"\n{_line(list(_COLUMNS))}")


def _cells(one: "Measured") -> list[str]:
    from flax_densenet.bench.measure import MIB
    from flax_densenet.sample import Sample

    implementation = f"{one.implementation} (auto)" if one.is_automatic else one.implementation
    cells = [str(one.batch_size), one.step, implementation]
    seconds = Sample(one.seconds)
    if not seconds:
        return [*cells, one.error or "", "", "", ""]
    milliseconds = (1000 * value for value in (min(seconds), seconds.median, max(seconds)))
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
    config: DenseNetConfig, size: int, machine: dict[str, Any], results: "list[Measured]"
) -> dict[str, Any]:
    import jax

    from flax_densenet.sample import Sample

    return {
        "title": config.title,
        "network": dataclasses.asdict(config),
        "image_size": size,
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "machine": machine,
        "results": [
            dataclasses.asdict(one) | {"summary": Sample(one.seconds).summary() or None}
            for one in results
        ],
    }
