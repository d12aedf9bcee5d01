"""Everything that decides the outcome of a training run; `config.json` holds exactly this."""

import dataclasses
import json
from typing import Any

from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the network is trained on.

    Attributes:
      dataset: "digits" (ships with scikit-learn) or "tfds:<name>" (prepared as array_record).
      data_dir: Directory that holds prepared data sets; tensorflow-datasets' own if not given.
      augment: Mirror training images at random and shift them by up to 4 pixels.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    augment: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How it is trained, with SGD and Nesterov momentum 0.9.

    Attributes:
      epochs: Passes over the training images.
      batch_size: Images per step.
      learning_rate: Initial learning rate, divided by 10 at 50 % and at 75 % of the steps.
      weight_decay: Factor of each parameter that is added to its gradient.
      seed: Decides initial weights, order of the images, augmentation and dropout.
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if not is_integer or value < minimum:
                raise InputError(f"{name} (={value!r}) must be an integer of at least {minimum}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate (={self.learning_rate}) must be a number above 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay (={self.weight_decay}) must be a number of at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run.

    Attributes:
      network: The network.
      data: The data.
      optimization: How it is trained.
    """

    network: DenseNetConfig
    data: DataConfig
    optimization: OptimizationConfig

    def to_json(self) -> str:
        """Returns the text of config.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Reads the text of config.json.

        Raises:
          InputError: The text is not that of a run.
        """
        try:
            groups = json.loads(text)
            return cls(
                network=DenseNetConfig(**groups["network"]),
                data=DataConfig(**groups["data"]),
                optimization=OptimizationConfig(**groups["optimization"]),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f"config.json is not that of a training run ({type(error).__name__}: {error}); "
                "start a new run in another work directory"
            ) from error

    def differences(self, other: "RunConfig") -> dict[str, tuple[Any, Any]]:
        """Returns {field: (value here, value in other)} for every field that differs."""
        here, there = (_flat(dataclasses.asdict(config)) for config in (self, other))
        return {name: (here[name], there[name]) for name in here if here[name] != there[name]}


def _flat(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: value for group in groups.values() for name, value in group.items()}
