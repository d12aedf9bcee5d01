"""The report of a comparison, which the terminal, JSON and the page show."""

import datetime
import os
from typing import Any, NamedTuple

import jax

from flax_densenet.machine import cpu_model, python_and
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import WeightLayer, weight_layers
from flax_densenet.parity.differences import Arrays, Difference, worst
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.half import PARAMETERS, STATISTICS
from flax_densenet.parity.ladder import Check

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
_CONTAINERS = {
    "denselayer": "dense layer",
    "denseblock": "dense block",
    "transition": "transition",
    "attention": "attention",
}
_OTHER_KINDS = {"prelu": "PReLU"}


class Layer(NamedTuple):
    """One row of the table.

    Attributes:
      name: Name of the module, as in PyTorch.
      operation: What it does.
      shape: Shape of its output, [B, C, H, W] or [B, K].
      torch_parameters: Its trainable parameters in PyTorch.
      flax_parameters: Its trainable parameters in Flax.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    torch_parameters: int
    flax_parameters: int


class Section(NamedTuple):
    """The ladder in one precision.

    Attributes:
      precision: "float64", "float32" or "default".
      setting: What that means on this machine, for people.
      checks: One for each rung.
    """

    precision: str
    setting: str
    checks: list[Check]


class Report(NamedTuple):
    """The compared networks, the conditions and the result.

    Attributes:
      title: The network.
      config: Its configuration.
      against: What the Flax network is compared with.
      weights: Where the weights come from.
      image_shape: Shape of the images, (B, C, H, W).
      num_steps: Steps of training.
      layers: The network's layers, in forward order.
      sections: One for each precision.
      notes: What a reader should know, in sentences.
      environment: Versions and hardware, by heading.
      command: The command line that makes this report.
    """

    title: str
    config: DenseNetConfig
    against: str
    weights: str
    image_shape: tuple[int, ...]
    num_steps: int
    layers: list[Layer]
    sections: list[Section]
    notes: list[str]
    environment: dict[str, str]
    command: str

    @property
    def differs(self) -> bool:
        """Whether a parameter count or an array differs."""
        counted = any(one.torch_parameters != one.flax_parameters for one in self.layers)
        return counted or any(c.differs for section in self.sections for c in section.checks)

    @property
    def is_undecided(self) -> bool:
        """Whether nothing differs, and a fault could hide in each array."""
        rows = [row for one in self.sections for check in one.checks for row in check.rows]
        return not self.differs and all(row.is_undecided for row in rows)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs of what was decided, and something was."""
        return not self.differs and not self.is_undecided

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.is_undecided:
            return (
                f"NOT DECIDED: rounding alone can move every array of {self.title} so far that a "
                f"fault could hide in it; {self._advice}"
            )
        found = [self._finding]
        for section in self.sections:
            rows = [(check, row) for check in section.checks for row in check.undecided]
            if rows:
                compared = sum(len(check.rows) for check in section.checks)
                found.append(
                    f"{len(rows):,} of {compared:,} arrays are not decided in {section.precision}, "
                    f"{self._where_decided(section, rows)}"
                )
        return "; ".join(found)

    def describe_result(self, section: Section, check: Check) -> str:
        """Returns in words whether a check's networks agree, and within what.

        Args:
          section: A precision.
          check: A check of it.
        """
        if divergence := find_divergence(check):
            return f"DIFFERENT: {divergence}"
        if check.undecided:
            where = self._where_decided(section, [(check, row) for row in check.undecided])
            return (
                f"not decided in {section.precision}: rounding alone can move "
                f"{len(check.undecided):,} of {len(check.rows):,} arrays so far that a fault could "
                f"hide; {where}"
            )
        if beyond := sum(row.relative > row.tolerance for row in check.rows):
            return f"equal within what rounding does to PyTorch alone ({beyond} arrays)"
        return "equal"

    def _where_decided(self, section: Section, rows: list[tuple[Check, Difference]]) -> str:
        """Says which precisions decide arrays that a section does not."""
        left = {(check.rung, row.name) for check, row in rows}
        parts = []
        for other in self.sections:
            by_rung = [(check.rung, row) for check in other.checks for row in check.rows]
            decided = left & {(rung, row.name) for rung, row in by_rung if not row.is_undecided}
            if decided and other is not section:
                number = "all" if len(decided) == len(rows) else f"{len(decided):,}"
                parts.append(f"{other.precision} decides {number} of them")
                left -= decided
        if left:
            number = "any" if len(left) == len(rows) else f"{len(left):,}"
            parts.append(f"nothing decides {number} of them: {self._advice}")
        return " and ".join(parts)

    @property
    def _advice(self) -> str:
        """Says how more can be decided."""
        if any(section.precision == "float64" for section in self.sections):
            return "compare fewer steps or more images"
        return "add float64 to --precision"

    @property
    def _finding(self) -> str:
        if not self.differs:
            return f"equal: {self.title} computes the same in Flax and in {self.against}"
        counted = [one for one in self.layers if one.torch_parameters != one.flax_parameters]
        if counted:
            first = counted[0]
            found = (
                f"{first.name} has {first.torch_parameters:,} parameters there and "
                f"{first.flax_parameters:,} in Flax"
            )
        else:
            section, check = next(
                (section, check)
                for section in self.sections
                for check in section.checks
                if check.differs
            )
            found = f"{section.precision}, {check.rung.title}: {find_divergence(check)}"
        return f"NOT EQUAL: {self.title} differs between Flax and {self.against}: {found}"

    def as_json(self) -> dict[str, Any]:
        """Returns the report as numbers, texts, lists and dicts (docs/parity.md)."""
        return {
            **self._asdict(),
            "config": vars(self.config),
            "agrees": None if self.is_undecided else self.agrees,
            "layers": [layer._asdict() for layer in self.layers],
            "sections": [
                section._asdict() | {"checks": [_check_as_json(c) for c in section.checks]}
                for section in self.sections
            ],
        }


def find_layers(
    config: DenseNetConfig, outputs: list[Difference], flax: Arrays, torch: Arrays
) -> list[Layer]:
    """Returns the rows of the table.

    Args:
      config: The network.
      outputs: The comparison of every module's output, in forward order.
      flax: The Flax network's parameters, under PyTorch's names.
      torch: The PyTorch network's parameters, under the same names.
    """
    operations = {".".join(layer.path): _operation(layer) for layer in weight_layers(config)}
    return [
        Layer(
            row.name,
            operations.get(row.name.removeprefix("features."), _container(row.name)),
            row.shape,
            _count(torch, row.name),
            _count(flax, row.name),
        )
        for row in outputs
    ]


def layer_of(name: str) -> str:
    """Returns the layer of an array or module: "features.conv0" for "features.conv0.weight"."""
    layer, _, leaf = name.rpartition(".")
    return layer if leaf in PARAMETERS + STATISTICS else name


def by_layer(check: Check) -> dict[str, Difference]:
    """Returns the worst of each layer's arrays, by the layer's name.

    Args:
      check: A check of modules, or of the arrays in them; "image" is its own layer.
    """
    found: dict[str, list[Difference]] = {}
    for row in check.rows:
        found.setdefault(layer_of(row.name), []).append(row)
    return {name: worst(rows) for name, rows in found.items()}


def first_to_differ(check: Check) -> str | None:
    """Returns the first layer in which a check's networks differ.

    Returns:
      Its name. None if they do not, and None for steps of training: one step makes all weights
      differ, so that only the passes show where it began.
    """
    divergence = None if check.rung.phase == "steps" else find_divergence(check)
    return divergence and layer_of(divergence.first.name)


def describe_environment(torch_device: str) -> dict[str, str]:
    """Returns versions and hardware.

    Args:
      torch_device: Where PyTorch computes.
    """
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "versions": python_and(*_PACKAGES),
        "JAX device": f"{device.platform}: {device.device_kind}",
        "torch device": torch_device,
        "processor": f"{cpu_model()}, {os.cpu_count()} cores",
    }


def _check_as_json(check: Check) -> dict[str, Any]:
    divergence = find_divergence(check)
    return {
        "phase": check.rung.phase,
        "quantity": check.rung.quantity,
        "title": check.rung.title,
        "agrees": _agrees(check.agrees, check.differs),
        "divergence": None if divergence is None else str(divergence),
        "rows": [
            row._asdict() | {"agrees": _agrees(row.agrees, row.differs)} for row in check.rows
        ],
    }


def _agrees(agrees: bool, differs: bool) -> bool | None:
    """Returns None for what is not decided."""
    return agrees if agrees or differs else None


def _operation(layer: WeightLayer) -> str:
    if layer.kind == "conv":
        return f"conv {layer.axes['H']}x{layer.axes['W']}"
    return _OTHER_KINDS.get(layer.kind, layer.kind)


def _container(name: str) -> str:
    return _CONTAINERS.get(name.rpartition(".")[2].rstrip("0123456789"), "network")


def _count(parameters: Arrays, name: str) -> int:
    inside = "" if name == "logits" else f"{name}."
    return sum(array.size for key, array in parameters.items() if key.startswith(inside))
