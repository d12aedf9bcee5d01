"""`flax-densenet convert`: a checkpoint of one software for another."""

import dataclasses
import importlib.util
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import WeightsFlags, parse_flags
from flax_densenet.errors import InputError, SavingFailed, require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import Activation, TransitionPool
from flax_densenet.network.variants import VARIANTS
from flax_densenet.weights.layouts import LAYOUTS

if TYPE_CHECKING:
    import numpy as np

    from flax_densenet.weights.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """Convert a DenseNet checkpoint: PyTorch, Keras or Flax in, and any of them out.

    Attributes:
      checkpoint: A .pth, .safetensors, .h5 or .keras file, an Orbax directory, a work directory of
        train, the name of published weights such as torchvision/densenet121, https://... or
        hf-hub:OWNER/REPOSITORY.
      target: A directory (Flax variables, Orbax), FILE.pth (PyTorch state dict),
        FILE.safetensors (whichever of the two the checkpoint is not), or FILE.weights.h5 or FILE.h5
        (for load_weights of Keras).
      layout: Whose names the target has; torchvision, flax or keras by the target if not given.
      optimizer: Take the momentum and the step of SGD along, so that the training can go on.
      weights: Which weights are taken, and from where.
      dtype: Type of the target's parameters. Running statistics have at least float32.
      variant: The network that the checkpoint is expected to hold; another one is an error.
      depth: Depth that it is expected to have.
      growth_rate: Growth rate that it is expected to have.
      num_classes: Classes of the target. Another number than the checkpoint's needs new_head, and
        new_head needs it if the checkpoint has no classifier.
      new_head: Give the target a classifier with initial weights; the checkpoint then needs none.
      in_channels: Image channels of the target: 1 from any number (the kernels are added), or any
        number from 1 (the kernel is divided).
      activation: Activation of the network, if the checkpoint does not say: weights alone show no
        difference between those without parameters.
      transition_pool: Pooling of its transitions, if the checkpoint does not say.
      batch_norm_epsilon: What its training added to variances, if the layout's is wrong.
      mean: Mean of each image channel in 0 to 255, if the checkpoint does not say, or is wrong.
      std: Standard deviation of each image channel, in the same way.
      overwrite: Replace the target if it exists.
      no_verify: Do not run both networks afterwards to compare them.
      report: CSV file for the mapping, one row for each array.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    layout: str | None = None
    optimizer: bool = False
    weights: WeightsFlags = WeightsFlags()
    dtype: Literal["float16", "bfloat16", "float32", "float64"] = "float32"
    variant: str | None = None
    depth: int | None = None
    growth_rate: int | None = None
    num_classes: int | None = None
    new_head: bool = False
    in_channels: int | None = None
    activation: Activation | None = None
    transition_pool: TransitionPool | None = None
    batch_norm_epsilon: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    overwrite: bool = False
    no_verify: bool = False
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint", "target"):
            require(
                bool(getattr(self, name)), name, "", "a path; is a variable of the shell empty?"
            )
        for name, table in (("layout", LAYOUTS), ("variant", VARIANTS)):
            value = getattr(self, name)
            require(value is None or value in table, name, value, f"one of {', '.join(table)}")
        for name in ("num_classes", "in_channels"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


parse = partial(parse_flags, ConvertArguments)


_INVISIBLE_OPTIONS = ("activation", "transition_pool")


def run(arguments: ConvertArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The checkpoint is not understood, or the target cannot be made from it.
      SavingFailed: The target cannot be written, or is not equal to the checkpoint.
    """
    from flax_densenet.weights.load import load_checkpoint
    from flax_densenet.weights.report import describe, write_report
    from flax_densenet.weights.write import default_layout, write_target

    choose_devices(DeviceFlags())
    target = Path(arguments.target).expanduser().absolute()
    if target.exists() and not arguments.overwrite:
        raise InputError(f"{target} exists; give another target, or replace it with --overwrite")
    source = load_checkpoint(
        arguments.checkpoint,
        weight_set=arguments.weights.weight_set,
        optimizer=arguments.optimizer,
        offline=arguments.weights.offline,
        needs_head=not arguments.new_head,
    )
    if target.exists() and target.samefile(source.path):
        raise InputError(f"{target} is the checkpoint itself; give another target")
    for heading, text in describe(source).items():
        print(f"{heading:<10} {text}")
    for warning in source.warnings:
        print(f"warning: {warning}")
    if arguments.optimizer:
        print(f"optimizer  {_describe_optimizer(source, arguments)}")
    adapted = _adapt(source, arguments)
    layout_name = arguments.layout or default_layout(source.layout, target)
    write_target(
        target,
        adapted,
        layout_name,
        source_name=source.published or source.path.name,
        overwrite=arguments.overwrite,
    )
    print(f"wrote      {target}, as {LAYOUTS[layout_name].title} names it")
    _note_invisible_options(adapted.config, target)
    if arguments.report is not None:
        write_report(Path(arguments.report), source, adapted, LAYOUTS[layout_name])
        print(f"report     {arguments.report}")
    if not arguments.no_verify:
        _verify(source, adapted, target, arguments)


def _describe_optimizer(source: "Checkpoint", arguments: ConvertArguments) -> str:
    if arguments.new_head or arguments.in_channels is not None:
        raise InputError(
            "--optimizer cannot go with --new_head or --in_channels, since momentum belongs to the "
            "weights that it moves; leave one of them out"
        )
    if source.optimizer is None:
        raise InputError(
            f"{arguments.checkpoint} holds no momentum of SGD; leave out --optimizer, or give the "
            "checkpoint of a training"
        )
    step = source.optimizer.step
    return "momentum of SGD, " + ("step not in the file" if step is None else f"step {step}")


def _adapt(source: "Checkpoint", arguments: ConvertArguments) -> "Checkpoint":
    from flax_densenet.data.outputs import Outputs
    from flax_densenet.weights.adapt import adapt, cast_tree, check_variant
    from flax_densenet.weights.statement import given_statistics

    config, variables = source.config, source.variables
    if arguments.variant is not None:
        check_variant(config, arguments.variant, arguments.checkpoint, "leave --variant out")
    got = {"depth": config.num_weight_layers, "growth_rate": config.growth_rate}
    for name, value in got.items():
        if (asked := getattr(arguments, name)) not in (None, value):
            raise InputError(
                f"{name} (={asked}) is not the {value} of {arguments.checkpoint}, {config.title}; "
                "leave the flag out"
            )
    config = _with_invisible_options(config, arguments)
    if arguments.batch_norm_epsilon is not None:
        config = dataclasses.replace(config, batch_norm_epsilon=arguments.batch_norm_epsilon)
    if arguments.num_classes is None and not source.has_head:
        raise InputError(
            f"--new_head needs --num_classes: {arguments.checkpoint} has no classifier that says "
            "how many classes there are"
        )
    classes = arguments.num_classes or config.num_classes
    if classes != config.num_classes and not arguments.new_head:
        raise InputError(
            f"num_classes (={classes}) is not the {config.num_classes} of {arguments.checkpoint}; "
            "leave it out, or give the target a new classifier with --new_head"
        )
    variables, config = adapt(
        variables,
        config,
        new_head=classes if arguments.new_head else None,
        in_channels=arguments.in_channels,
        dtype=arguments.dtype,
    )
    if arguments.new_head:
        print(f"new head   {classes} classes, initial weights (seed 0)")
    if config.in_channels != source.config.in_channels:
        print(f"channels   {config.in_channels} instead of {source.config.in_channels}")
    preparation = source.preparation.for_channels(config.in_channels)
    if arguments.mean is not None or arguments.std is not None:
        mean, std = given_statistics(arguments.mean, arguments.std, config.in_channels)
        preparation = dataclasses.replace(preparation, mean=mean, std=std)
    optimizer = source.optimizer
    if optimizer is not None:
        momentum = cast_tree(optimizer.momentum, "params", arguments.dtype)
        optimizer = optimizer._replace(momentum=momentum)
    return source._replace(
        config=config,
        variables=variables,
        preparation=preparation,
        class_names=None if arguments.new_head else source.class_names,
        outputs=Outputs() if arguments.new_head else source.outputs,
        optimizer=optimizer,
    )


def _with_invisible_options(config: DenseNetConfig, arguments: ConvertArguments) -> DenseNetConfig:
    """Returns the configuration with the options asked for, where weights do not show them."""
    for name in _INVISIBLE_OPTIONS:
        asked, found = getattr(arguments, name), getattr(config, name)
        if asked in (None, found):
            continue
        if name in config.options or asked == "prelu":  # the file says it, or would
            raise InputError(
                f"{name} (={asked}) is not the {found} of {arguments.checkpoint}, {config.title}; "
                "leave the flag out"
            )
        config = dataclasses.replace(config, **{name: asked})
    return config


def _note_invisible_options(config: DenseNetConfig, target: Path) -> None:
    """Prints which flags a PyTorch file needs when it is read, since it holds arrays alone."""
    from flax_densenet.weights.write import TORCH_ENDINGS

    invisible = {
        name: value
        for name, value in config.options.items()
        if name in _INVISIBLE_OPTIONS and value != "prelu"
    }
    if invisible and target.suffix in TORCH_ENDINGS:
        flags = " ".join(f"--{name} {value}" for name, value in invisible.items())
        print(
            f"note: the arrays in {target.name} do not show {flags}; give these flags to whatever "
            "reads it"
        )


def _verify(
    source: "Checkpoint", adapted: "Checkpoint", target: Path, arguments: ConvertArguments
) -> None:
    if importlib.util.find_spec("torch") is None:
        print("not verified: that needs torch; install flax-densenet[torch] and convert again")
        return
    from flax_densenet.weights.load import load_checkpoint
    from flax_densenet.weights.verify import choose_sides, verify

    renewed = arguments.new_head or adapted.config.in_channels != source.config.in_channels
    torch_side, flax_side = choose_sides(
        source, adapted, load_checkpoint(target), arguments.dtype, renewed=renewed
    )
    result = verify(torch_side, flax_side, adapted.config, _torch_logits)
    if not result.is_equal:
        _remove(target)
        raise SavingFailed(
            f"{target} was not equal to {arguments.checkpoint}, and is removed: the logits "
            f"differed by {result.difference:.1e} of the largest; report this as a fault"
        )
    print(f"verified   logits of both networks differ by {result.difference:.1e} of the largest")


def _torch_logits(
    arrays: "dict[str, np.ndarray]", config: DenseNetConfig, image: "np.ndarray"
) -> "np.ndarray":
    """Returns the logits [B, K] of images [B, C, H, W], as PyTorch computes them in float64."""
    import torch

    import torch_reference

    reference = torch_reference.DenseNet(config).double().eval()
    state = {key: torch.from_numpy(array) for key, array in arrays.items()}
    counters = {key: v for key, v in reference.state_dict().items() if key not in state}
    reference.load_state_dict({**state, **counters}, strict=True)
    with torch.no_grad():
        return reference(torch.from_numpy(image)).numpy()


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
