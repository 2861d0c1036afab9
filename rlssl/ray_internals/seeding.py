"""How RLlib seeds torch in ray 2.60. If ray changes it, a test fails."""

import sys

import torch
from ray.rllib.utils import torch_utils
from ray.rllib.utils.debug import deterministic

_COMPILER = "torch._inductor"


def seed_without_compiler() -> None:
    """Lets RLlib seed torch without an import of torch's compiler. Idempotent.

    With a CPU build of torch, RLlib calls `torch.use_deterministic_algorithms`. That imports the
    compiler, which costs each process 1.4 s, only to set the compiler's own flag.
    """
    deterministic.set_torch_seed = _set_torch_seed


def _set_torch_seed(seed: int | None = None) -> None:
    if seed is None or torch.version.cuda is not None or _COMPILER in sys.modules:
        torch_utils.set_torch_seed(seed)
        return
    torch.manual_seed(seed)
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
