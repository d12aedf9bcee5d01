"""Evaluation of a training state: loss, error and confusion matrix.

Axes: B batch, K classes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from flax_densenet.data import Split
from flax_densenet.data.batches import WHOLE, EvalBatch, Share, eval_batches
from flax_densenet.pictures import literal
from flax_densenet.training.loss import cross_entropy, is_in_top
from flax_densenet.training.step import Metrics, TrainState

_MAX_NAMED_CLASSES = 30  # more names than that cannot be read in a picture
_MAX_CLASSES_WITH_COUNTS = 12


class Evaluation(NamedTuple):
    """What a network does on a split.

    Attributes:
      loss: Mean cross-entropy in nats.
      error: Share of wrong images.
      balanced_accuracy: Mean share of right images over the classes that have images.
      top5_error: Share of images whose class is not among the five likeliest.
      confusion: [K, K] images by true class (row) and predicted class (column).
    """

    loss: float
    error: float
    balanced_accuracy: float
    top5_error: float
    confusion: Int[np.ndarray, "K K"]


def confusion_step(state: TrainState, batch: EvalBatch) -> Metrics:
    """Evaluates one batch; only its valid examples count.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32, "valid": [B] bool}.

    Returns:
      Sums over the valid examples: "loss", "in_top", and "confusion" [K, K] by true and predicted
      class.
    """
    key = jax.random.wrap_key_data(state.key_data)
    image = state.preprocess(jnp.asarray(batch["image"]), key, train=False)
    logits = jnp.asarray(state.model.apply(state.variables, image, train=False))
    label, valid = jnp.asarray(batch["label"]), jnp.asarray(batch["valid"])
    num_classes = logits.shape[-1]
    counts = jnp.zeros((num_classes, num_classes), jnp.int32)
    return {
        "loss": jnp.sum(jnp.where(valid, cross_entropy(logits, label), 0)),
        "in_top": jnp.sum(valid & is_in_top(logits, label)),
        "confusion": counts.at[label, jnp.argmax(logits, axis=-1)].add(valid.astype(jnp.int32)),
    }


def evaluate_by_class(
    step: Callable[[TrainState, Any], Metrics], state: TrainState, split: Split, batch_size: int
) -> Evaluation:
    """Returns what the network does on a split, each image counted once.

    Args:
      step: `confusion_step`, compiled.
      state: State to evaluate.
      split: Images.
      batch_size: Images per step; it does not change the result.
    """
    totals: dict[str, Any] = {"loss": 0.0, "in_top": 0, "confusion": 0}
    for batch in eval_batches(split, batch_size):
        sums = jax.device_get(step(state, batch))
        totals = {name: total + sums[name].astype(float) for name, total in totals.items()}
    confusion = totals["confusion"].astype(int)
    count, images = confusion.sum(), confusion.sum(axis=1)
    right = np.diag(confusion)[images > 0] / images[images > 0]
    return Evaluation(
        loss=float(totals["loss"] / count),
        error=float(1 - np.trace(confusion) / count),
        balanced_accuracy=float(right.mean()),
        top5_error=float(1 - totals["in_top"] / count),
        confusion=confusion,
    )


def plot_confusion(
    confusion: Int[np.ndarray, "K K"], class_names: tuple[str, ...], title: str, file: Path
) -> None:
    """Draws the share of each true class that is taken for each class.

    Args:
      confusion: [K, K] images by true and predicted class.
      class_names: One name per class.
      title: Heading of the picture.
      file: Picture to write; its ending decides the format.
    """
    from matplotlib.figure import Figure  # half a second to import

    num_classes = len(class_names)
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = min(4 + 0.3 * num_classes, 12)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Greys", vmin=0, vmax=100)
    axes.set(title=literal(title), xlabel="predicted class", ylabel="true class")
    if num_classes <= _MAX_NAMED_CLASSES:
        names = [literal(name) for name in class_names]
        axes.set_xticks(range(num_classes), names, rotation=90)
        axes.set_yticks(range(num_classes), names)
    if num_classes <= _MAX_CLASSES_WITH_COUNTS:
        for (row, column), count in np.ndenumerate(confusion):
            color = "white" if share[row, column] > 50 else "black"
            if count:
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    figure.colorbar(picture, label="share of the true class (%)", shrink=0.8)
    figure.savefig(file, dpi=150)


def evaluate(
    step: Callable[[TrainState, EvalBatch], Metrics],
    state: TrainState,
    split: Split,
    batch_size: int,
    *,
    share: Share = WHOLE,
) -> dict[str, float]:
    """Returns mean "loss", "error" and "top5_error" over a split, each example counted once.

    Args:
      step: `eval_step`, compiled.
      state: State to evaluate.
      split: Images.
      batch_size: Images per step, of all processes together; it does not change the result.
      share: The part of each batch that this process reads.

    Returns:
      The loss in nats; the errors as shares.
    """
    sums = [step(state, batch) for batch in eval_batches(split, batch_size, share=share)]
    totals = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    return {
        "loss": totals["loss"] / totals["count"],
        "error": 1 - totals["correct"] / totals["count"],
        "top5_error": 1 - totals["in_top"] / totals["count"],
    }
