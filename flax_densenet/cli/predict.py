"""`flax-densenet predict`: the most probable classes or labels of images.

Axes: K classes.
"""

import dataclasses
import json
import sys
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float

from flax_densenet.cli.classifier import Classifier, load_classifier
from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import ImageFlags, WeightsFlags, parse_flags
from flax_densenet.data.images.paths import describe_passed_over, find_images, read_images
from flax_densenet.data.outputs import Outputs
from flax_densenet.errors import ImagesUnreadable, InputError, listed, printable, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Show the classes that a network finds most probable for images.

    Attributes:
      checkpoint: Whatever `convert` reads: a .pth, .safetensors or .h5 file, an Orbax directory, a
        work directory of train, or the name of published weights such as torchvision/densenet121.
      images: Image files, and directories in which all images are taken.
      top_k: Classes to show for each image.
      json: Print one JSON object for each image, one a line.
      no_operating_points: Show plain probabilities, where the checkpoint has operating points for
        several labels.
      batch_size: Images per step; it does not change the result.
      weights: Which weights are taken, and from where.
      preparation: How images are prepared.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    images: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|DIRECTORY ...")
    ]
    top_k: int = 5
    json: bool = False
    no_operating_points: bool = False
    batch_size: int = 32
    weights: WeightsFlags = WeightsFlags()
    preparation: ImageFlags = ImageFlags()

    def __post_init__(self) -> None:
        for name in ("top_k", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, name, value, "an integer of at least 1")
        require(len(self.images) > 0, "images", self.images, "at least one file or directory")


parse = partial(parse_flags, PredictArguments)


_NOT_FINITE = "the network's output for it is not finite"


def run(arguments: PredictArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The checkpoint or a path cannot be used.
      ImagesUnreadable: Some images could not be read; all others are done.
    """
    import jax.numpy as jnp

    choose_devices(DeviceFlags())
    paths, passed_over = find_images(arguments.images)
    if passed_over:
        text = describe_passed_over(passed_over)
        print(f"note: passed over {text}, which are no images by their names", file=sys.stderr)
    classifier = load_classifier(arguments.checkpoint, arguments.weights, arguments.preparation)
    outputs = classifier.outputs
    if arguments.no_operating_points:
        if outputs.operating_points is None:
            raise InputError(
                f"{arguments.checkpoint} has no operating points; leave out --no_operating_points"
            )
        outputs = outputs.without_operating_points()
    batch_size = min(arguments.batch_size, len(paths))
    failed: list[str] = []
    for batch in read_images(paths, classifier.image_format, batch_size):
        missing = batch_size - len(batch.image)  # filled up, so that one program serves for all
        image = jnp.asarray(np.pad(batch.image, ((0, missing), (0, 0), (0, 0), (0, 0))))
        logits = np.asarray(classifier.logits(image), np.float64)[: len(batch.image)]
        rows = [
            _Row(scores, outputs, classifier, arguments.top_k) for scores in outputs.scores(logits)
        ]
        for number, (path, row, problem) in enumerate(
            zip(batch.paths, rows, batch.problems, strict=True)
        ):
            if problem is None and not np.isfinite(logits[number]).all():
                problem = _NOT_FINITE
            if problem is not None:
                failed.append(printable(path))
                print(f"error: {printable(path)}: {problem}", file=sys.stderr)
            if arguments.json:
                print(json.dumps(_as_json(path, row, problem)))
            elif problem is None:
                print(_as_table(printable(path), row))
        sys.stdout.flush()
    if failed:
        raise ImagesUnreadable(
            f"{len(failed)} of {len(paths)} images could not be classified: {listed(failed)}; the "
            "others are done"
        )


class _Row(NamedTuple):
    """The scores [K] of an image, and what they stand for."""

    scores: Float[np.ndarray, " K"]
    outputs: Outputs
    classifier: Classifier
    top_k: int

    @property
    def best(self) -> list[int]:
        """Indices of the highest scores; outputs that were not trained come last."""
        trained = [self.classifier.is_trained(index) for index in range(len(self.scores))]
        return np.lexsort((-self.scores, np.logical_not(trained)))[: self.top_k].tolist()


def _as_json(path: str, row: _Row, problem: str | None) -> dict[str, Any]:
    from flax_densenet.weights.published.classes import is_imagenet, wordnet_ids

    if problem is not None:
        return {"image": path, "error": problem}
    names = row.classifier.class_names
    score = "probability" if row.outputs.operating_points is None else "score"
    entries: list[dict[str, Any]] = [
        {
            "index": index,
            "name": names[index] if names else None,
            score: float(row.scores[index]),
        }
        for index in row.best
    ]
    if is_imagenet(names):
        entries = [{**entry, "wordnet_id": wordnet_ids()[entry["index"]]} for entry in entries]
    if not row.outputs.has_several_labels:
        return {"image": path, "classes": entries}
    return {
        "image": path,
        "labels": [
            {**entry, "is_trained": row.classifier.is_trained(entry["index"])} for entry in entries
        ],
    }


def _as_table(path: str, row: _Row) -> str:
    outputs = row.outputs
    title = f"{path}  ({outputs.description})" if outputs.has_several_labels else path
    names = {index: row.classifier.class_name(index) for index in row.best}
    return "\n".join(
        [title, *(f"  {outputs.formatted(row.scores[i]):>8}  {name}" for i, name in names.items())]
    )
