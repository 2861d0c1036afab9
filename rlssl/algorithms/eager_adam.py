"""Adam that does not load torch.compile's machinery, which takes most of a second a process."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Adam, Optimizer


class EagerAdam(Adam):
    """torch.optim.Adam, step for step; for code that is not compiled.

    torch wraps these methods to keep its compiler away from them, and imports the compiler for it.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As torch.optim.Adam's."""
        return _STEP(self, closure)


_STEP = inspect.unwrap(Adam.step)
