"""`flax-densenet evaluate`: the errors of a trained network, class by class."""

import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import tyro

from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import parse_flags
from flax_densenet.cli.report import print_notes, to_json
from flax_densenet.data import Dataset, Split
from flax_densenet.data.images.wide_pixels import PixelRange, check_pixel_range
from flax_densenet.data.load import stays_in_files
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError, printable, require
from flax_densenet.files import make_directory, write_text
from flax_densenet.pictures import draw_picture
from flax_densenet.training.config import DataConfig, RunConfig
from flax_densenet.training.run_data import channel_statistics, check_dataset, load_run_data
from flax_densenet.training.workdir import WorkDir

if TYPE_CHECKING:
    from flax_densenet.training.evaluation import Evaluation
    from flax_densenet.training.step import TrainState

SplitName = Literal["test", "validation", "train"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Evaluate a trained network: loss, errors, a table by class and a confusion matrix.

    Attributes:
      checkpoint: A work directory, or one of its checkpoints, such as runs/mine/checkpoints/220.
      best: Take the work directory's best checkpoint instead of its newest.
      dataset: Evaluate on another data set with the same classes.
      data_dir: Directory that holds its files.
      image_size: Height and width in pixels to which images in files are brought; the run's if not
        given.
      pixel_range: Values LOW,HIGH that become black and white in files with gray pixels of more
        than 8 bits; the run's if not given.
      split: Images to evaluate on.
      batch_size: Images per step; it does not change the result.
      num_workers: Processes that read and decode images in files; 0 reads in the main process.
      output: Directory for confusion.png and evaluation.json. If not given, it is evaluation/ in
        the work directory, and evaluation-DATASET/ for another data set than the run's.
      devices: Which devices take part.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    best: bool = False
    dataset: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    pixel_range: PixelRange | None = None
    split: SplitName = "test"
    batch_size: int = 256
    num_workers: int = 0
    output: str | None = None
    devices: DeviceFlags = DeviceFlags()

    def __post_init__(self) -> None:
        for name, minimum in (("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            require(value >= minimum, name, value, f"an integer of at least {minimum}")
        check_pixel_range(self.pixel_range)


parse = partial(parse_flags, EvaluateArguments, pairs=True)


_MAX_ROWS = 100
_WORST_ROWS = 20
_MAX_NAME = 100  # characters; file systems take 255 bytes


def run(arguments: EvaluateArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: There is no such checkpoint, or the data set does not suit it.
      SavingFailed: The result cannot be written.
    """
    import jax

    from flax_densenet.training.epoch import describe_unreadable
    from flax_densenet.training.evaluation import confusion_step, evaluate_by_class
    from flax_densenet.training.parallel import check_batch_size, parallel_steps
    from flax_densenet.weights.statement import read_run

    choose_devices(arguments.devices)
    workdir, step = _find_checkpoint(arguments)
    run = workdir.read_config()
    check_batch_size(arguments.batch_size, jax.device_count())
    dataset = _load(arguments, run, read_run(workdir.path).preparation)
    print_notes(dataset)
    split = _choose_split(dataset, arguments.split)
    steps = parallel_steps("jit", evaluation=confusion_step)
    while True:
        try:
            state = steps.place(_restore(workdir, step, run, dataset))
            break
        except Exception:
            if (workdir.checkpoints / str(step)).is_dir():
                raise
            workdir, step = _find_checkpoint(arguments)  # the run goes on, and has removed it
    result = evaluate_by_class(steps.eval_step, state, split, arguments.batch_size)
    title = f"{run.network.title}, step {step}, on {dataset.name} ({arguments.split})"
    _print_result(result, dataset, title)
    if broken := dataset.unreadable:
        print(describe_unreadable(broken))
    output = Path(arguments.output).expanduser() if arguments.output else None
    _write_result(result, dataset, title, output or workdir.path / _directory_name(arguments, run))


def _directory_name(arguments: EvaluateArguments, run: RunConfig) -> str:
    """Returns the name of the results' directory, where other data never replace the run's own."""
    if arguments.dataset is None:
        return "evaluation"
    asked = DataConfig(dataset=arguments.dataset).dataset  # with an absolute path, as the run's
    if asked == run.data.dataset:
        return "evaluation"
    words = re.sub(r"[^\w.]+", "-", printable(arguments.dataset)).strip("-.")
    return f"evaluation-{words[-_MAX_NAME:]}"


def _find_checkpoint(arguments: EvaluateArguments) -> tuple[WorkDir, int]:

    path = Path(arguments.checkpoint).expanduser().absolute()
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        workdir, asked = WorkDir(path.parent.parent), int(path.name)
    else:
        workdir, asked = WorkDir(path), None
    if not workdir.config_file.is_file() or not workdir.checkpoints.is_dir():
        raise InputError(
            f"{path} is neither a work directory of `train` nor a checkpoint in one: no "
            f"{workdir.config_file} or no {workdir.checkpoints}; give the directory that --workdir "
            "named, or one of the numbered directories in its checkpoints/"
        )
    from flax_densenet.training.checkpoints import CheckpointStore

    with CheckpointStore(workdir.checkpoints, read_only=True) as checkpoints:
        steps = checkpoints.all_steps()
        newest = checkpoints.best_step() if arguments.best else checkpoints.latest_step()
        damaged = checkpoints.damaged
    chosen = newest if asked is None else asked
    if chosen is None:
        raise InputError(f"{workdir.checkpoints} holds no finished checkpoint; train first")
    if asked is None:
        for reason in damaged.values():
            print(f"warning: {reason}; step {chosen} is evaluated")
    if chosen not in steps and chosen in damaged:
        raise damaged[chosen]
    if chosen not in steps:
        held = ", ".join(map(str, steps)) or "none at all"
        raise InputError(
            f"{workdir.checkpoints} holds no finished checkpoint {chosen}; it holds {held}"
        )
    return workdir, chosen


def _load(arguments: EvaluateArguments, run: RunConfig, preparation: Preparation | None) -> Dataset:
    data = run.data
    if arguments.dataset is not None:
        image_size = arguments.image_size
        if image_size is None and arguments.dataset.startswith("tfds:"):
            image_size = data.image_size  # without it they are read into memory
        elif image_size is None and stays_in_files(arguments.dataset) and preparation is not None:
            image_size = preparation.size
        # Settings for the run's own images may not suit others.
        data = DataConfig(
            dataset=arguments.dataset,
            image_size=image_size,
            broken_images=data.broken_images,
            # Whether the shorter side becomes longer than the part that is cut out.
            augment=data.augment if image_size and data.image_size else "none",
            mean=data.mean,
            std=data.std,
            pixel_range=data.pixel_range if image_size is not None else None,
        )
    elif arguments.image_size is not None:
        data = dataclasses.replace(data, image_size=arguments.image_size)
    if arguments.data_dir is not None:
        data = dataclasses.replace(data, data_dir=arguments.data_dir)
    if arguments.pixel_range is not None:
        data = dataclasses.replace(data, pixel_range=arguments.pixel_range)
    run = dataclasses.replace(run, data=data)
    dataset = load_run_data(run, num_workers=arguments.num_workers)
    check_dataset(run, dataset)
    return dataset


def _choose_split(dataset: Dataset, name: SplitName) -> Split:
    split: Split | None = getattr(dataset, name)
    if split is None:
        raise InputError(
            f"data set {dataset.name} has no {name} split in this run, whose validation_images is "
            "0; use --split test or --split train"
        )
    return split


def _restore(workdir: WorkDir, step: int, run: RunConfig, dataset: Dataset) -> "TrainState":
    from flax_densenet.training.augment import Preprocess
    from flax_densenet.training.checkpoints import CheckpointStore
    from flax_densenet.training.state import network_state
    from flax_densenet.weights.adapt import in_class_order
    from flax_densenet.weights.statement import read_run

    mean, std = channel_statistics(run, dataset)
    state = network_state(run.network, Preprocess(mean, std, "none"))
    with CheckpointStore(workdir.checkpoints, read_only=True) as checkpoints:
        variables = checkpoints.restore_variables(step, like=state)
    if (names := read_run(workdir.path).class_names) is not None:
        what_to_do = "give images of the classes that the run was trained on"
        variables["params"] = in_class_order(
            variables["params"], names, dataset.class_names, str(workdir.path), what_to_do
        )
    return state.replace(**variables)


def _print_result(result: "Evaluation", dataset: Dataset, title: str) -> None:
    confusion = result.confusion
    print(title)
    print(f"loss {result.loss:.4f}  top-1 error {result.error:.2%}", end="")
    print(f"  top-5 error {result.top5_error:.2%}" if dataset.num_classes > 5 else "", end="")
    present = int((confusion.sum(axis=1) > 0).sum())
    without = "" if present == len(confusion) else f" (of the {present} classes with images)"
    print(f"  balanced accuracy {result.balanced_accuracy:.2%}{without}")
    rows = [_row(confusion, dataset.class_names, index) for index in range(len(confusion))]
    if len(rows) > _MAX_ROWS:
        print(f"the {_WORST_ROWS} classes with the largest error of {len(rows)}:")
        rows = sorted(rows, reverse=True)[:_WORST_ROWS]
    width = max(len("class"), *(len(row.name) for row in rows))
    print(f"{'class':<{width}}  {'images':>7}  {'wrong':>6}  {'error':>7}  most often taken for")
    for row in rows:
        numbers = f"{row.images:>7,}  {row.wrong:>6,}  {row.error:>7.2%}"
        print(f"{row.name:<{width}}  {numbers}  {row.taken_for}".rstrip())


class _Row(NamedTuple):
    error: float
    name: str
    images: int
    wrong: int
    taken_for: str


def _row(confusion: np.ndarray, class_names: tuple[str, ...], index: int) -> _Row:
    images, wrong = int(confusion[index].sum()), np.delete(confusion[index], index)
    taken_for = ""
    if wrong.any():
        others = np.delete(np.asarray(class_names), index)
        taken_for = f"{others[wrong.argmax()]} ({wrong.max()})"
    return _Row(
        wrong.sum() / max(images, 1), class_names[index], images, int(wrong.sum()), taken_for
    )


def _write_result(result: "Evaluation", dataset: Dataset, title: str, directory: Path) -> None:
    from flax_densenet.training.evaluation import plot_confusion

    text = to_json(
        {
            "title": title,
            **result._asdict(),
            "confusion": result.confusion.tolist(),
            "class_names": dataset.class_names,
        }
    )
    make_directory(directory)
    write_text(directory / "evaluation.json", text + "\n")
    draw = partial(plot_confusion, result.confusion, dataset.class_names, title)
    if draw_picture(directory / "confusion.png", draw):
        print(f"confusion.png and evaluation.json are in {directory}")
    else:
        print(f"evaluation.json is in {directory}")
