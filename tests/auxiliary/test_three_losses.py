"""CURL, ICM and DBC together on one encoder: 50 updates on a fixed stream of data."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac

LOSSES = {"curl": {}, "icm": {}, "bisimulation": {"normalize_rewards": True}}

#: Number of updates, and number of different batches that they cycle through.
UPDATES, STREAM = 50, 5

#: Losses that fall on fixed data: largest ratio of the mean over the last cycle to the first.
FALLING = {
    "curl/info_nce": 0.95,
    "icm/forward": 0.2,
    "icm/inverse": 0.9,
    "bisimulation/transition": 0.5,
    "bisimulation/reward": 0.5,
}


def on_ppo() -> tuple[Bench, dict[str, Any], Callable[[int], Any]]:
    """Returns a bench, a batch, and a function that makes update k and returns its result."""
    settings = {"num_epochs": 1, "minibatch_size": 64, "lr": 1e-3}
    bench = Bench(small_ppo(**settings).auxiliary(**LOSSES))
    stream = [bench.sample() for _ in range(STREAM)]
    batch = bench.batch(copy.deepcopy(stream[0]))
    # The Learner's pipeline changes its episodes in place, so give it copies.
    return bench, batch, lambda k: bench.update(copy.deepcopy(stream[k % STREAM]))


def on_sac() -> tuple[Bench, dict[str, Any], Callable[[int], Any]]:
    """Like `on_ppo`, with batches that are drawn in advance."""
    bench = ActorCriticBench(small_sac(lr=1e-3).auxiliary(**LOSSES))
    bench.add(bench.sample(200))
    stream = [bench.draw() for _ in range(STREAM)]

    def update(k: int) -> Any:
        bench.learner.update_on(stream[k % STREAM], agent_steps=bench.env_steps)
        return bench.learner.report()

    batch = {key: torch.as_tensor(value) for key, value in stream[0].items()}
    return bench, batch, update


@pytest.mark.parametrize("make", [on_ppo, on_sac], ids=["ppo", "sac"])
def test_losses_on_one_encoder_all_learn(make: Callable[[], Any]) -> None:
    bench, batch, update = make()
    seen = []
    for k in range(UPDATES):
        result = update(k)
        assert "faults" not in result  # no update was skipped
        aux = result["default_policy"]["aux"]
        seen.append(
            {
                f"{name}/{key}": float(value.peek())
                for name in LOSSES
                for key, value in aux[name].items()
                if key != "intrinsic_reward"  # SAC logs it for the first stored chunks only
            }
        )
    assert np.isfinite([list(row.values()) for row in seen]).all()
    first, last = (
        {key: np.mean([row[key] for row in turn]) for key in seen[0]}
        for turn in (seen[:STREAM], seen[-STREAM:])
    )
    for key, share in FALLING.items():
        assert last[key] < share * first[key], (key, first[key], last[key])
    # The bisimulation loss need not fall: its targets are predicted, and they move apart while the
    # transition model learns. It falls when the models are fixed and the latents too far apart.
    with torch.no_grad():
        for parameter in bench.module.encoder.parameters():
            parameter.mul_(2.0)
    trace = with_fixed_models(bench, batch)
    assert trace[-1] < 0.7 * trace[0], trace


def with_fixed_models(bench: Bench, batch: dict[str, Any]) -> list[float]:
    """The bisimulation loss on a batch while Adam updates only the encoder."""
    loss: Any = bench.module.auxiliary["bisimulation"]
    adam = torch.optim.Adam(bench.module.encoder.parameters(), lr=1e-2)
    trace = []
    for _ in range(60):
        adam.zero_grad()
        mean = loss.losses(batch)["bisimulation"].mean()
        mean.backward()
        adam.step()
        trace.append(mean.item())
    return trace
