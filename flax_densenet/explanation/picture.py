"""The picture of an activation map over its image.

Axes: H height, W width, C channels; h and w are of the map.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from flax_densenet.errors import require

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".pdf", ".svg")


def check_picture(file: Path) -> None:
    """Checks that a picture can have this name.

    Raises:
      InputError: No format has its ending.
    """
    require(
        file.suffix.lower() in _ENDINGS, "output", str(file), f"FILE with {', '.join(_ENDINGS)}"
    )


def plot_activation_map(
    image: UInt8[np.ndarray, "H W C"],
    values: Float[np.ndarray, "h w"],
    title: str,
    unit: str,
    file: Path,
) -> None:
    """Draws the image as the network sees it, and beside it the same with the map over it.

    Args:
      image: [H, W, C], 0 to 255; gray, or red, green and blue, or these with alpha.
      values: [h, w]; values above 0 are shown in red, values below in blue.
      title: Heading of the picture.
      unit: What the values are, for the color bar.
      file: Picture to write; its ending decides the format.
    """
    from matplotlib.figure import Figure  # half a second to import

    height, width, channels = image.shape
    shown = np.repeat(image, 3, axis=-1) if channels == 1 else image[..., :3]
    light = 0.5 + 0.5 * shown.mean(axis=-1) / 255  # on dark pixels no color would show
    limit = float(np.abs(values).max()) or 1.0
    has_negative = bool((values < 0).any())
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    left.imshow(shown)
    right.imshow(light, cmap="gray", vmin=0, vmax=1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    overlay = right.imshow(
        values,
        cmap="RdBu_r" if has_negative else "Reds",
        vmin=-limit if has_negative else 0,
        vmax=limit,
        alpha=0.5,
        extent=extent,
        interpolation="bilinear",
    )
    figure.colorbar(overlay, ax=right, label=unit, shrink=0.8)
    for axes in (left, right):
        axes.set_axis_off()
    figure.savefig(file, dpi=150)
