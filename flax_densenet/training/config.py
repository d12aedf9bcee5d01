"""Settings of a training run, and how it is executed.

A `RunConfig` decides the outcome of a run: network, data, optimization and fine-tuning. config.json
stores it, and a resumed run must have the same. `Execution` may change from one start to the next:
the outcome is the same up to rounding.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from flax_densenet.data.images.streamed import OnBroken
from flax_densenet.data.images.wide_pixels import PixelRange, check_pixel_range
from flax_densenet.errors import InputError, require, require_integer
from flax_densenet.implementations.choose import Implementation
from flax_densenet.network.config import DenseNetConfig

Schedule = Literal["steps", "cosine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How a network is trained, with SGD and Nesterov momentum 0.9.

    Attributes:
      epochs: Passes over the training images.
      batch_size: Images per step, of all devices together.
      learning_rate: Learning rate at the start, or after the warm-up.
      schedule: "steps" divides the learning rate by 10 at each of `drops`; "cosine" lowers it to 0
        along half a cosine.
      drops: Shares of the training after which "steps" divides, in (0, 1) and rising.
      warmup_epochs: Epochs in which the learning rate rises linearly to its value.
      weight_decay: Factor of each parameter that is added to its gradient.
      max_gradient_norm: Scale the gradient down to this norm (over all parameters) if it is longer.
      label_smoothing: Share of the target probability that is spread over all classes, in [0, 1).
      ema_decay: Keep a moving average of the parameters, for evaluation and checkpoints; at each
        step the old average has this weight, in (0, 1).
      synchronized_batch_norm: Whether batch normalization takes its statistics over all devices.
        Without it (pmap only) each device has its own, and running statistics are averaged.
      seed: Decides initial weights, order of the images, augmentation and dropout.
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.1
    schedule: Schedule = "steps"
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0
    weight_decay: float = 1e-4
    max_gradient_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    synchronized_batch_norm: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            require_integer(name, getattr(self, name), minimum)
        rate, clip, decay = self.learning_rate, self.max_gradient_norm, self.ema_decay
        weight_decay, smoothing = self.weight_decay, self.label_smoothing
        schedules = get_args(Schedule)
        require(0 < rate < math.inf, "learning_rate", rate, "a number above 0")
        require(
            0 <= weight_decay < math.inf, "weight_decay", weight_decay, "a number of at least 0"
        )
        require(self.schedule in schedules, "schedule", self.schedule, f"one of {schedules}")
        object.__setattr__(self, "drops", tuple(self.drops))  # JSON has lists only
        rising = all(a < b for a, b in zip((0.0, *self.drops), (*self.drops, 1.0), strict=True))
        require(rising, "drops", self.drops, "rising numbers between 0 and 1")
        require(
            0 <= self.warmup_epochs < self.epochs,
            "warmup_epochs",
            self.warmup_epochs,
            f"a number of at least 0 and below epochs (={self.epochs})",
        )
        require(clip is None or 0 < clip < math.inf, "max_gradient_norm", clip, "a number above 0")
        require(0 <= smoothing < 1, "label_smoothing", smoothing, "a number in [0, 1)")
        require(decay is None or 0 < decay < 1, "ema_decay", decay, "a number in (0, 1)")


_NOTHING = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Which weights a training starts from, and which of them it trains how fast.

    A PART of the network is a word, or words with dots between them, of the names that PyTorch
    gives its parameters: features, denseblock4, features.denseblock1.denselayer2, classifier, bias.
    The wildcards * ? [] are allowed, as in norm?.

    Attributes:
      init_from: Start from the weights in a file or directory that `convert` reads (PyTorch,
        safetensors, Keras, Orbax, a work directory) or of a name such as torchvision/densenet121,
        which decides the network.
      weights: Which set of weights in init_from to take, by its place there, where there are
        several.
      new_head: Replace the classifier by one with initial weights, as other classes need.
      freeze: Parts that are not trained: PART,PART,... or none. See docs/fine-tuning.md.
      freeze_batch_norm: Normalize by the running statistics in training, too, and keep them as
        they are. Scales and biases are trained unless they are frozen.
      learning_rate_factors: Factors of the learning rate, PART=FACTOR,PART=FACTOR,..., such as
        features=0.1,denseblock4=0.5. The last one that fits a parameter counts.
      init_from_sha256: Checksum of init_from, if that is a file.
    """

    init_from: str | None = None
    weights: str | None = None
    new_head: bool = False
    freeze: str = _NOTHING
    freeze_batch_norm: bool = False
    learning_rate_factors: str | None = None
    init_from_sha256: str | None = None

    def __post_init__(self) -> None:
        wanted = "a path; is a variable of the shell empty?"
        require(self.init_from != "", "init_from", self.init_from, wanted)
        needs_weights = {
            "weight_set": self.weights,
            "new_head": self.new_head,
            "freeze": self.frozen_parts and self.freeze,
            "freeze_batch_norm": self.freeze_batch_norm,
        }
        for name, value in needs_weights.items():
            if value and self.init_from is None:
                raise InputError(f"{name} (={value}) needs weights: give init_from")
        _ = self.factors  # refuses what cannot be read

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """The entries of `freeze`."""
        if self.freeze == _NOTHING:
            return ()
        parts = tuple(self.freeze.split(","))
        wanted = f"{_NOTHING!r}, or PART,PART,... such as features or conv0,norm0,denseblock1"
        require(all(parts), "freeze", self.freeze, wanted)
        return parts

    @property
    def factors(self) -> tuple[tuple[str, float], ...]:
        """The entries of `learning_rate_factors`: part and factor."""
        text = self.learning_rate_factors
        return () if text is None else tuple(map(self._read_factor, text.split(",")))

    def _read_factor(self, entry: str) -> tuple[str, float]:
        part, _, word = entry.partition("=")
        try:
            factor = float(word)
        except ValueError:
            factor = math.nan
        require(
            bool(part) and 0 < factor < math.inf,
            "learning_rate_factors",
            self.learning_rate_factors,
            "PART=FACTOR,PART=FACTOR,... with factors above 0, such as "
            "features=0.1,denseblock4=0.5; freeze leaves a part as it is",
        )
        return part, factor


ParallelMode = Literal["auto", "jit", "pmap"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is executed; this may change when the run is resumed.

    Attributes:
      parallel: How the devices share the batch: jit over a mesh (auto), or pmap. The result is the
        same up to rounding.
      remat: Compute activations a second time in the backward pass instead of keeping them.
      implementation: How blocks are computed: layer by layer (plain), by compiled kernels of a CPU
        (native), chunk by chunk in its cache (blocked), or with fewer passes over a GPU's memory
        (gpu). auto chooses the one that suits network and device. The result is the same up to
        rounding.
      num_workers: Processes that read and decode images in files; 0 reads in the main process.
      tensorboard: Write TensorBoard files to tensorboard/ in the work directory, too.
      profile_steps: Write a profile of this many steps to profile/ in the work directory.
    """

    parallel: ParallelMode = "auto"
    remat: bool = False
    implementation: Implementation = "auto"
    num_workers: int = 0
    tensorboard: bool = False
    profile_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("num_workers", "profile_steps"):
            require_integer(name, getattr(self, name), 0)


Augment = Literal["none", "shift", "crop", "crop_color"]
_FOLDER = "folder:"


def _absolute(path: str) -> str:
    return str(Path(os.path.expanduser(path)).absolute())


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images that a network is trained on.

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
      std: Standard deviation of each channel that is divided by, in 0 to 255; the data set's if not
        given.
      pixel_range: Values LOW,HIGH that become black and white in files with gray pixels of more
        than 8 bits; usually 0,65535 for integers and 0,255 for floating-point numbers.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    augment: Augment = "none"
    validation_images: int = 0
    image_size: int | None = None
    broken_images: OnBroken = "stop"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        for name, choices in (("augment", Augment), ("broken_images", OnBroken)):
            value = getattr(self, name)
            require(value in get_args(choices), name, value, f"one of {get_args(choices)}")
        for name in ("mean", "std", "pixel_range"):
            if getattr(self, name) is not None:  # JSON has lists only
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_pixel_range(self.pixel_range)
        # A run goes on from wherever it is resumed.
        if (folder := self.dataset.removeprefix(_FOLDER)) not in ("", self.dataset):
            object.__setattr__(self, "dataset", _FOLDER + _absolute(folder))
        if self.data_dir is not None and "://" not in self.data_dir:
            object.__setattr__(self, "data_dir", _absolute(self.data_dir))
        is_positive = self.std is None or all(value > 0 for value in self.std)
        require(is_positive, "std", self.std, "numbers above 0, one for each channel")
        require_integer("validation_images", self.validation_images, 0)
        if self.image_size is not None:
            require_integer("image_size", self.image_size, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run.

    Attributes:
      network: The network.
      data: The images.
      optimization: How the network is trained.
      fine_tuning: Which weights it starts from, and which of them are trained.
    """

    network: DenseNetConfig
    data: DataConfig
    optimization: OptimizationConfig
    fine_tuning: FineTuningConfig = FineTuningConfig()

    def to_json(self, beside: Mapping[str, Any] = {}) -> str:
        """Returns the text of config.json.

        Args:
          beside: Other entries, which `from_json` ignores.
        """
        return json.dumps({**dataclasses.asdict(self), **beside}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Reads the text of config.json.

        Raises:
          InputError: It is something else.
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
