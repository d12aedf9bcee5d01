"""How a run is executed: what does not change its outcome, beyond rounding."""

import dataclasses
from typing import Literal

from flax_densenet.errors import require
from flax_densenet.formulation import Formulation

ParallelMode = Literal["auto", "jit", "pmap"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is executed; it may change when the run is resumed.

    Attributes:
      parallel: How the devices share the batch: jit over a mesh (auto), or pmap. The result is the
        same up to rounding.
      remat: Compute activations a second time in the backward pass instead of keeping them.
      formulation: How blocks are computed: layer by layer (plain), by compiled kernels of a CPU
        (native), chunk by chunk in its cache (cache_blocked), or with fewer passes over a GPU's
        memory (shared_statistics). auto chooses one that suits the device, where it can. The result
        is the same up to rounding.
      num_workers: Processes that read and decode images in files; 0 reads in the main process.
      tensorboard: Write TensorBoard files to tensorboard/ in the work directory, too.
      profile_steps: Write a profile of this many steps to profile/ in the work directory.
    """

    parallel: ParallelMode = "auto"
    remat: bool = False
    formulation: Formulation = "auto"
    num_workers: int = 0
    tensorboard: bool = False
    profile_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("num_workers", "profile_steps"):
            value = getattr(self, name)
            require(value >= 0, name, value, "an integer of at least 0")
