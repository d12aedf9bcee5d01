"""Compiled dense blocks in evaluation, with the transition or head after them.

Axes: G chunks, C channels before the block, D after the transition or head, P pixels of a chunk, p
after pooling.
"""

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations.blocked.pooling import head
from flax_densenet.implementations.native.block import growth_rate, norms, stages
from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.native.transition import pooled_shape
from flax_densenet.implementations.statistics import Statistics
from flax_densenet.implementations.walk import BlockOptions, Variables
from flax_densenet.network.config import DenseNetConfig


def evaluate_block(
    options: BlockOptions,
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    block: int,
    x: Float[Array, "G C P"],
) -> Float[Array, "G D p"]:
    """Computes a block and the transition or head after it.

    Args:
      options: Constants of the compiled program.
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics under the same names.
      block: Number of the block, from 1.
      x: Maps before the block [G, C, P].

    Returns:
      The maps after pooling [G, D, p].
    """
    numbers = range(1, config.block_sizes[block - 1] + 1)
    layers, statistics = (
        [tree[f"denseblock{block}"][f"denselayer{i}"] for i in numbers]
        for tree in (params, running)
    )
    arrays = [
        (*stage, running_layer[name]["mean"], running_layer[name]["var"])
        for layer, running_layer in zip(layers, statistics, strict=True)
        for name, stage in zip(norms(layer), stages([layer]), strict=True)
    ]
    has_transition = block != len(config.block_sizes)
    if has_transition:
        name = f"transition{block}"
        norm, kernel = params[name]["norm"], params[name]["conv"]["kernel"]
        running_norm = running[name]["norm"]
        arrays.append(
            (norm["scale"], norm["bias"], kernel, running_norm["mean"], running_norm["var"])
        )
        result = pooled_shape(options, kernel, x)
    else:
        joined = x.shape[1] + len(layers) * growth_rate(layers)
        result = jax.ShapeDtypeStruct((x.shape[0], joined, x.shape[2]), x.dtype)
    results, _ = call(
        "block_evaluate",
        {"x": x},
        [array for stage in arrays for array in stage],
        results={"y": result},
        attributes={
            "height": options.height,
            "width": options.width,
            "epsilon": options.epsilon,
            "stages_per_layer": len(norms(layers[0])),
            "has_transition": has_transition,
        },
    )
    if has_transition:
        return results["y"]
    return head(options, params["norm5"], results["y"], Statistics(**running["norm5"]))
