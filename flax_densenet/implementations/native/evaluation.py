"""The compiled block in evaluation, with the transition after it.

Axes: G chunks, C channels before the block, D channels after it or its transition, P pixels of a
chunk, p pixels after the transition's pooling.
"""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations.native.block import growth_rate, norms, stages
from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.native.transition import pooled_shape
from flax_densenet.implementations.walk import BlockSettings, Layer


def evaluate_block(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    x: Float[Array, "G C P"],
    transition: tuple[Layer, Layer] | None = None,
) -> Float[Array, "G D p"]:
    """Takes all chunks through a block and its transition.

    Args:
      settings: Constants.
      layers: Parameters of each layer.
      running_layers: Running statistics of each layer.
      x: [G, C, P].
      transition: Parameters and running statistics of the transition; None: there is none.
    """
    arrays = [
        (*stage, running[name]["mean"], running[name]["var"])
        for layer, running in zip(layers, running_layers, strict=True)
        for name, stage in zip(norms(layer), stages([layer]), strict=True)
    ]
    if transition is not None:
        params, running = transition
        norm, running_norm, kernel = params["norm"], running["norm"], params["conv"]["kernel"]
        arrays.append(
            (norm["scale"], norm["bias"], kernel, running_norm["mean"], running_norm["var"])
        )
        result = pooled_shape(settings, kernel, x)
    else:
        joined = x.shape[1] + len(layers) * growth_rate(layers)
        result = jax.ShapeDtypeStruct((x.shape[0], joined, x.shape[2]), x.dtype)
    results, _ = call(
        "block_evaluate",
        {"x": x},
        [array for stage in arrays for array in stage],
        results={"y": result},
        attributes={
            "height": settings.height,
            "width": settings.width,
            "epsilon": settings.epsilon,
            "stages_per_layer": len(norms(layers[0])),
            "has_transition": transition is not None,
        },
    )
    return results["y"]
