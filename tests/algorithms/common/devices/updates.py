"""Benches of all algorithms whose Learners can be told to work as on a GPU."""

import copy
from collections.abc import Callable
from typing import Any

from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    pixel_bench,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

#: Kind of bench and loss.
CASES = [
    *(("sac", loss) for loss in (None, "curl", "icm", "deepmdp", "bisimulation")),
    ("sac-pixels", "curl"),
    ("ddpg", None),
    ("rainbow", "curl"),
    *(("rainbow", loss) for loss in ("nt_xent", "moco", "barlow_twins", "vicreg")),
    *(("rainbow", loss) for loss in ("atc", "arrow_of_time", "cpc", "temporal_distance")),
    ("sac-pixels", "st_dim"),
    ("rainbow-uniform", "curl"),
]

#: Losses with the options that read most.
LOSSES: dict[str, dict[str, Any]] = {
    "curl": {},
    "nt_xent": {},
    "moco": {},
    "barlow_twins": {},
    "vicreg": {},
    "atc": {},
    "icm": {},
    "deepmdp": {"gradient_penalty": 0.1, "normalize_rewards": True},
    "bisimulation": {"normalize_rewards": True},
}

#: Losses that encode several frames of a window. A minibatch of PPO has a frame in several windows,
#: and which frames are equal is known on the device only: there, the host waits for their number.
OVER_TIME: dict[str, dict[str, Any]] = {
    "arrow_of_time": {},
    "cpc": {"actions": True},
    "st_dim": {"places": 9},
    "temporal_distance": {},
}

#: The replay buffer's options without priorities.
_UNIFORM = {"replay": {"prioritized": False}}


def off_policy_bench(kind: str, loss: str | None, *, gpus: float = 0) -> RainbowBench:
    """A bench with a filled replay buffer."""
    losses = {loss: (LOSSES | OVER_TIME)[loss]} if loss else {}
    if kind == "sac-pixels":

        def small(*args: Any, **options: Any) -> Any:
            return _on(small_sac(*args, **options), gpus)

        return pixel_bench(small, auxiliary=losses)
    if kind.startswith("rainbow"):
        options = _UNIFORM if kind == "rainbow-uniform" else {}
        config = small_rainbow(noisy=True, **options)
        bench = RainbowBench(_on(config, gpus).auxiliary(**losses))
    else:
        config = {"sac": small_sac, "ddpg": small_ddpg}[kind]()
        bench = ActorCriticBench(_on(config, gpus).auxiliary(**losses))
    bench.add(bench.sample(200))
    return bench


def _on(config: Any, gpus: float) -> Any:
    return config.learners(num_gpus_per_learner=gpus)


def off_policy_updates(bench: RainbowBench, num: int) -> list[Any]:
    """Makes updates on batches that are drawn before; returns what the Learner returned."""
    batches = [bench.draw() for _ in range(num)]
    return [bench.learner.update_on(batch, agent_steps=64) for batch in batches]


def ppo_updates(loss: str | None, *, gpus: float = 0) -> tuple[Bench, Callable[[], Any]]:
    """A bench of PPO, and a function that takes the same minibatch step every time."""
    losses = {loss: LOSSES[loss]} if loss else {}
    bench = Bench(_on(small_ppo(), gpus).auxiliary(**losses))
    bench.learner.rl_module.train()
    rows = bench.batch(copy.deepcopy(bench.sample()))
    return bench, lambda: bench.learner.take_step(rows)
