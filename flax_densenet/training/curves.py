"""The picture of a run: loss and error over the epochs."""

from pathlib import Path

from flax_densenet.training.workdir import Record


def plot_curves(records: list[Record], title: str, file: Path) -> None:
    """Draws the metrics of a run.

    Args:
      records: One per epoch, as in metrics.jsonl.
      title: Heading of the picture.
      file: PNG file to write.
    """
    from matplotlib.figure import Figure  # half a second to import

    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2)
    for axes, quantity, label in (
        (panels[0], "loss", "cross-entropy (nats)"),
        (panels[1], "error", "error (%)"),
    ):
        for split, style in (("train", "--"), ("test", "-")):
            values = [record[f"{split}_{quantity}"] for record in records]
            if quantity == "error":
                values = [100 * value for value in values]
            axes.plot(epochs, values, style, marker=".", label=split)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if quantity == "loss":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=150)
