"""`flax-densenet convert`: a DenseNet checkpoint of one software into that of another."""

import dataclasses
import importlib.util
import shutil
from functools import partial
from pathlib import Path

import jax

from flax_densenet.commands.convert_arguments import ConvertArguments
from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.commands.devices import choose_devices
from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.adaptation import cast, with_in_channels, with_new_head
from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.conversion.description import describe
from flax_densenet.conversion.report import write_report
from flax_densenet.conversion.statement import given_statistics
from flax_densenet.conversion.target import TORCH_ENDINGS, default_layout, write_target
from flax_densenet.conversion.verification import choose_sides, verify
from flax_densenet.errors import InputError, SavingFailed
from flax_densenet.layouts import LAYOUTS
from flax_densenet.variants import VARIANTS
from flax_densenet.weights import correspondence

_UNTOLD_OPTIONS = ("activation", "transition_pool")


def convert(arguments: ConvertArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: The source is not understood, or the target cannot be made from it.
      SavingFailed: The target cannot be written, or is not equal to the source.
    """
    choose_devices(DeviceOptions())
    target = Path(arguments.target).expanduser().absolute()
    if target.exists() and not arguments.overwrite:
        raise InputError(f"{target} exists; give another target, or replace it with --overwrite")
    source_path = Path(arguments.source).expanduser()
    if source_path.exists() and target.exists() and target.samefile(source_path):
        raise InputError(f"{target} is the source, too, which is not replaced; give another target")
    source = load_checkpoint(
        source_path,
        weights=arguments.weights,
        optimizer=arguments.optimizer,
    )
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
        source_name=Path(arguments.source).name,
        overwrite=arguments.overwrite,
    )
    print(f"wrote      {target}, as {LAYOUTS[layout_name].title} names it")
    _note_untold_options(adapted.config, target)
    if arguments.report is not None:
        write_report(Path(arguments.report), source, adapted, LAYOUTS[layout_name])
        print(f"report     {arguments.report}")
    if not arguments.no_verify:
        _verify(source, adapted, target, arguments)


def _describe_optimizer(source: Checkpoint, arguments: ConvertArguments) -> str:
    if source.optimizer is None:
        raise InputError(
            f"{arguments.source} holds no momentum of SGD; leave out --optimizer, or give the "
            "checkpoint of a training"
        )
    if arguments.new_head or arguments.in_channels is not None:
        raise InputError(
            "--optimizer cannot go with --new_head or --in_channels, since momentum belongs to the "
            "weights that it moves; leave one of them out"
        )
    step = source.optimizer.step
    return "momentum of SGD, " + ("step not in the file" if step is None else f"step {step}")


def _adapt(source: Checkpoint, arguments: ConvertArguments) -> Checkpoint:
    config, variables = source.config, source.variables
    if arguments.variant is not None:
        _check_variant(source, arguments.variant)
    got = {"depth": config.num_weight_layers, "growth_rate": config.growth_rate}
    for name, value in got.items():
        if (asked := getattr(arguments, name)) not in (None, value):
            raise InputError(
                f"{name} (={asked}) is not the {value} of {arguments.source}, {config.title}; "
                "leave the flag out"
            )
    config = _with_untold_options(config, arguments)
    if arguments.batch_norm_epsilon is not None:
        config = dataclasses.replace(config, batch_norm_epsilon=arguments.batch_norm_epsilon)
    classes = arguments.num_classes or config.num_classes
    if classes != config.num_classes and not arguments.new_head:
        raise InputError(
            f"num_classes (={classes}) is not the {config.num_classes} of {arguments.source}; "
            "leave it out, or give the target a new classifier with --new_head"
        )
    if arguments.new_head:
        variables, config = with_new_head(variables, config, classes)
        print(f"new head   {classes} classes, initial weights (seed 0)")
    channels = arguments.in_channels or config.in_channels
    if channels != config.in_channels:
        variables, config = with_in_channels(variables, config, channels)
        print(f"channels   {channels} instead of {source.config.in_channels}")
    variables = {
        collection: jax.tree.map(partial(cast, collection=collection, dtype=arguments.dtype), tree)
        for collection, tree in variables.items()
    }
    preprocessing = source.preprocessing.for_channels(config.in_channels)
    if arguments.mean is not None or arguments.std is not None:
        mean, std = given_statistics(arguments.mean, arguments.std, config.in_channels)
        preprocessing = dataclasses.replace(preprocessing, mean=mean, std=std)
    optimizer = source.optimizer
    if optimizer is not None:
        to_type = partial(cast, collection="params", dtype=arguments.dtype)
        optimizer = optimizer._replace(momentum=jax.tree.map(to_type, optimizer.momentum))
    return source._replace(
        config=config,
        variables=variables,
        preprocessing=preprocessing,
        class_names=None if arguments.new_head else source.class_names,
        optimizer=optimizer,
    )


def _with_untold_options(config: DenseNetConfig, arguments: ConvertArguments) -> DenseNetConfig:
    """Returns the configuration with the options that weights do not tell, as asked for."""
    for name in _UNTOLD_OPTIONS:
        asked, found = getattr(arguments, name), getattr(config, name)
        if asked in (None, found):
            continue
        if name in config.options or asked == "prelu":  # the file tells, or would
            raise InputError(
                f"{name} (={asked}) is not the {found} of {arguments.source}, {config.title}; "
                "leave the flag out"
            )
        config = dataclasses.replace(config, **{name: asked})
    return config


def _note_untold_options(config: DenseNetConfig, target: Path) -> None:
    """Says what whoever reads a PyTorch file has to know, which holds arrays alone."""
    untold = {
        name: value
        for name, value in config.options.items()
        if name in _UNTOLD_OPTIONS and value != "prelu"
    }
    if untold and target.suffix in TORCH_ENDINGS:
        flags = " ".join(f"--{name} {value}" for name, value in untold.items())
        print(f"note: the arrays in {target.name} do not tell {flags}; say so when you read it")


def _check_variant(source: Checkpoint, variant: str) -> None:
    wanted = dataclasses.replace(
        VARIANTS[variant],
        num_classes=source.config.num_classes,
        in_channels=source.config.in_channels,
        batch_norm_epsilon=source.config.batch_norm_epsilon,
    )
    shapes, got = ([row.shape for row in correspondence(c)] for c in (wanted, source.config))
    if shapes != got or source.config.options:
        raise InputError(
            f"variant (={variant!r}) is {wanted.title}, and the weights are those of "
            f"{source.config.title} with blocks {source.config.block_sizes}; leave the flag out"
        )


def _verify(
    source: Checkpoint, adapted: Checkpoint, target: Path, arguments: ConvertArguments
) -> None:
    if importlib.util.find_spec("torch") is None:
        print("not verified: that needs torch; install flax-densenet[torch] and convert again")
        return
    renewed = arguments.new_head or adapted.config.in_channels != source.config.in_channels
    torch_side, flax_side = choose_sides(
        source, adapted, load_checkpoint(target), arguments.dtype, renewed=renewed
    )
    result = verify(torch_side, flax_side, adapted.config)
    if not result.is_equal:
        _remove(target)
        raise SavingFailed(
            f"{target} was not equal to {arguments.source}, and is removed: the logits differed by "
            f"{result.difference:.1e} of the largest; report this as a fault"
        )
    print(f"verified   logits of both networks differ by {result.difference:.1e} of the largest")


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
