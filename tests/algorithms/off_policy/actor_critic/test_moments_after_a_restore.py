"""A restored Learner continues bit for bit, also if the pickle dropped the memory formats."""

import copy
from typing import Any

import numpy as np
import torch
import tree

from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    BOTH,
    Small,
    pixel_bench,
)


def without_strides(state: Any) -> Any:
    """A state as it comes out of a pickle of numpy 2.0 to 2.2: every array is C-contiguous."""
    return tree.map_structure(
        lambda value: np.array(value, order="C") if isinstance(value, np.ndarray) else value, state
    )


@BOTH
def test_channels_last_moments_survive_a_pickle_without_strides(small: Small) -> None:
    losses = {"auxiliary": {"curl": {}}, "auxiliary_step": "separate"}
    first, second = (pixel_bench(small, **copy.deepcopy(losses)) for _ in range(2))
    batches = [first.draw() for _ in range(8)]
    for batch in batches[:4]:
        first.learner.update_on(batch, agent_steps=64)
    second.learner.set_state(without_strides(copy.deepcopy(first.learner.get_state())))
    laid_out = 0
    for _, optimizer in second.learner.get_optimizers_for_module("default_policy"):
        for parameter, moments in optimizer.state.items():
            for moment in (moments["exp_avg"], moments["exp_avg_sq"]):
                assert moment.stride() == parameter.stride()
                laid_out += not parameter.is_contiguous()
    assert laid_out > 0  # some weights are channels-last
    for batch in batches[4:]:
        for bench in (first, second):
            bench.learner.update_on(batch, agent_steps=64)
    expected = first.states()
    assert [k for k, v in second.states().items() if not torch.equal(v, expected[k])] == []
