"""Everything that decides the outcome of a training run, as `config.json` holds it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

from flax_densenet.config import DenseNetConfig
from flax_densenet.data.streamed import OnBroken
from flax_densenet.errors import InputError, require
from flax_densenet.training.fine_tuning_config import FineTuningConfig
from flax_densenet.training.optimization_config import OptimizationConfig

Augment = Literal["none", "shift", "crop", "crop_color"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the network is trained on.

    Attributes:
      dataset: "digits" (ships with scikit-learn), cifar10, cifar100, svhn, svhn_without_extra,
        mnist, fashion_mnist, imagenet2012, imagenette, "folder:<dir>" or "tfds:<name>".
      data_dir: Directory that holds the data set's original files, or prepared ones.
      augment: "shift" mirrors training images at random and shifts them by up to 4 pixels; "crop"
        mirrors a random part of them, resized to image_size; "crop_color" changes its colors, too.
      validation_images: Training images to hold out, to tune settings and choose an epoch with.
      image_size: Height and width in pixels to which images in files are brought.
      broken_images: What to do when a file cannot be decoded: stop with an error, or skip it.
      mean: Mean of each channel that is subtracted, in 0 to 255; the data set's if not given.
      std: Standard deviation of each channel that is divided by, likewise.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    augment: Augment = "none"
    validation_images: int = 0
    image_size: int | None = None
    broken_images: OnBroken = "stop"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        held_out, size = self.validation_images, self.image_size
        for name, choices in (("augment", Augment), ("broken_images", OnBroken)):
            value = getattr(self, name)
            require(value in get_args(choices), name, value, f"one of {get_args(choices)}")
        for name in ("mean", "std"):
            if getattr(self, name) is not None:  # JSON has lists only
                object.__setattr__(self, name, tuple(getattr(self, name)))
        is_positive = self.std is None or all(value > 0 for value in self.std)
        require(is_positive, "std", self.std, "numbers above 0, one for each channel")
        require(
            _is_integer(held_out) and held_out >= 0,
            "validation_images",
            held_out,
            "an integer of at least 0",
        )
        require(
            size is None or (_is_integer(size) and size >= 1),
            "image_size",
            size,
            "an integer of at least 1",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run.

    Attributes:
      network: The network.
      data: The data.
      optimization: How it is trained.
      fine_tuning: Where it starts from, and what of it is trained.
    """

    network: DenseNetConfig
    data: DataConfig
    optimization: OptimizationConfig
    fine_tuning: FineTuningConfig = FineTuningConfig()

    def to_json(self, beside: Mapping[str, Any] = {}) -> str:
        """Returns the text of config.json.

        Args:
          beside: What else it holds, which `from_json` passes over.
        """
        return json.dumps({**dataclasses.asdict(self), **beside}, indent=2) + "\n"

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
                # Runs from before it existed have none.
                fine_tuning=FineTuningConfig(**groups.get("fine_tuning", {})),
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


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
