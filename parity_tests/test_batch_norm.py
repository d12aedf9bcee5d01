"""The module that differs most between the frameworks, alone against `torch.nn.BatchNorm2d`."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flax_densenet import BatchNorm
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.halves import assert_close


@pytest.mark.parametrize(("momentum", "epsilon"), [(0.1, 1e-5), (0.01, 1e-3), (0.1, 1.001e-5)])
def test_five_batches_and_an_evaluation_agree(
    momentum: float, epsilon: float, precision: str
) -> None:
    random = np.random.default_rng(0)
    batches = random.normal(3, 2, size=(6, 2, 5, 4, 3)).astype(precision)  # [*, B, C, H, W]
    theirs = torch.nn.BatchNorm2d(5, epsilon, momentum).to(getattr(torch, precision))
    ours = BatchNorm(momentum, epsilon, jnp.dtype(precision))
    variables: dict[str, Any] = {
        "params": {"scale": jnp.ones(5, precision), "bias": jnp.zeros(5, precision)},
        "batch_stats": {"mean": jnp.zeros(5, precision), "var": jnp.ones(5, precision)},
    }
    for batch in batches[:5]:
        got, updates = ours.apply(
            variables, batch.transpose(0, 2, 3, 1), train=True, mutable=["batch_stats"]
        )
        variables |= updates
        wanted = theirs(torch.from_numpy(batch)).detach().numpy()
        assert_close(
            {"y": got.transpose(0, 3, 1, 2), **variables["batch_stats"]},
            {"y": wanted, **_statistics(theirs)},
            TOLERANCES[precision].forward,
        )
    got = np.asarray(ours.apply(variables, batches[5].transpose(0, 2, 3, 1), train=False))
    wanted = theirs.eval()(torch.from_numpy(batches[5])).detach().numpy()
    assert_close({"y": got.transpose(0, 3, 1, 2)}, {"y": wanted}, TOLERANCES[precision].forward)


def _statistics(module: torch.nn.BatchNorm2d) -> dict[str, np.ndarray]:
    return {name: getattr(module, f"running_{name}").numpy() for name in ("mean", "var")}
