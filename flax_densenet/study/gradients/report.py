"""Rows and words of the study of gradients."""

from collections.abc import Sequence
from typing import NamedTuple

from flax_densenet.data import Dataset
from flax_densenet.machine import hardware
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.sample import Sample
from flax_densenet.study.result import Columns
from flax_densenet.training.config import RunConfig
from flax_densenet.training.workdir import Record

CONNECTIONS = {"direct": "direct connections", "chain": "plain chain"}
_SHOWN_EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200)


class GradientRow(NamedTuple):
    """The gradient of one network at one time.

    Attributes:
      connections: Key of `CONNECTIONS`.
      epoch: Epochs done.
      parameters: Trainable parameters.
      layers: Names of the convolutions, one for each dense layer, in forward order.
      norms: Norm of the gradient in each of them, by seed.
      test_error: Error after the last epoch, as a share, by seed.
    """

    connections: str
    epoch: int
    parameters: int
    layers: tuple[str, ...]
    norms: tuple[Sample, ...]
    test_error: Sample

    @property
    def spans(self) -> Sample:
        """The largest norm divided by the smallest, by seed."""
        by_seed = zip(*self.norms, strict=True)
        return Sample(max(norms) / min(norms) for norms in by_seed)


COLUMNS: Columns = {
    "network": lambda row: CONNECTIONS[row.connections],
    "epochs done": lambda row: str(row.epoch),
    "parameters": lambda row: f"{row.parameters:,}",
    "gradient of the first dense layer": lambda row: row.norms[0].rounded(),
    "of the last": lambda row: row.norms[-1].rounded(),
    "largest / smallest": lambda row: row.spans.rounded(),
    "test error in the end (%)": lambda row: row.test_error.text(100),
}


def gradient_rows(records: Sequence[Record]) -> tuple[GradientRow, ...]:
    """Returns the rows, first all of the dense network.

    Args:
      records: Lines of results.jsonl.
    """
    last = len(records[0]["gradient_norms"]) - 1
    epochs = [epoch for epoch in _SHOWN_EPOCHS if epoch < last] + [last]
    return tuple(
        _row(name, epoch, [r for r in records if r["connections"] == name])
        for name in CONNECTIONS
        for epoch in epochs
    )


def _row(name: str, epoch: int, records: Sequence[Record]) -> GradientRow:
    by_seed = [record["gradient_norms"][epoch] for record in records]
    return GradientRow(
        connections=name,
        epoch=epoch,
        parameters=records[0]["parameters"],
        layers=tuple(records[0]["layers"]),
        norms=tuple(Sample(norms) for norms in zip(*by_seed, strict=True)),
        test_error=Sample(record["test_error"] for record in records),
    )


def gradient_method(
    run: RunConfig, chain: DenseNetConfig, dataset: Dataset, records: Sequence[Record]
) -> str:
    """Returns what was done.

    Args:
      run: What was trained and how.
      chain: The plain chain.
      dataset: The data set.
      records: Lines of results.jsonl.
    """
    optimization = run.optimization
    seeds = sorted({record["seed"] for record in records})
    versions = sorted({record["version"] for record in records})
    return (
        f"{run.network.title}, and a plain chain of the same layers: each reads the maps of the "
        f"one before it alone, and gives {chain.growth_rate}, which makes the number of parameters "
        f"nearly the same. Both were trained alike: {optimization.epochs} epochs, batch size "
        f"{optimization.batch_size}, learning rate {optimization.learning_rate:g}, "
        f"{len(dataset.train):,} training images, seeds {', '.join(map(str, seeds))} "
        f"(n = {len(seeds)}).\n\n"
        "Shown is the Euclidean norm of the gradient of the loss (nats) in the kernel of each "
        "dense layer's last convolution, for the same batch each time, with batch normalization as "
        f"in training; mean ± standard deviation over the seeds. {hardware()}; "
        f"{'; '.join(versions)}."
    )


def gradient_conclusion(rows: Sequence[GradientRow]) -> str:
    """Returns what the rows say of the start and the end."""
    sentences = []
    for when, place in (("At initialization", 0), ("After the last epoch", -1)):
        found = {name: [r for r in rows if r.connections == name][place] for name in CONNECTIONS}
        spans = {name: f"{row.spans.mean:.3g}" for name, row in found.items()}
        ratios = {
            name: f"{row.norms[0].mean / row.norms[-1].mean:.3g}" for name, row in found.items()
        }
        sentences.append(
            f"{when} the gradient of the first layer is {ratios['direct']} times that of the last "
            f"with direct connections, and {ratios['chain']} times in the plain chain; the largest "
            f"of all layers is {spans['direct']} and {spans['chain']} times the smallest."
        )
    direct, chain = (
        next(row for row in rows if row.connections == name).test_error for name in CONNECTIONS
    )
    sentences.append(
        f"Test error in the end: {direct.text(100)} % with direct connections, {chain.text(100)} % "
        "without."
    )
    return " ".join(sentences)
