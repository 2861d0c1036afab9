"""Sampling that overlaps with learning: two remote runners whose environments wait 10 ms a step.

A unit is an env step: sampled, learned from, or both. SAC makes an update a step, Rainbow one for
four steps. Each runner has one copy, with vectors as observations.

- "sampling alone" is `Algorithm.train` before learning starts, so without any update.
- "learning alone" is the updates of one env step after the other, on a full replay buffer; nothing
  is sampled, and no weights are sent.
- "in turn" is `training.overlap_sampling: false`.

Overlap cannot be faster than the slower of both parts. The row needs a core for the Learner and
half a core for the runners.
"""

import os
from functools import partial
from typing import Any

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat
from benchmarks.off_policy import random_episodes

NUM_RUNNERS, WAIT_MS, ITERATION = 2, 10, 200
#: Names, not imports: the import would load rlssl in the process of every contestant.
PLUGIN, ENV = "benchmarks.slow_env", "bench/waiting"
#: Steps in the replay buffer before learning is measured.
NUM_STEPS = 10_000
UPDATES_PER_STEP = {"sac": 1.0, "rainbow": 0.25}


def algorithm_of(name: str, *, learns: bool, overlaps: bool) -> Any:
    """A built Algorithm with its runners.

    Args:
        name: ``sac`` or ``rainbow``.
        learns: Whether it makes updates, from the first iteration on.
        overlaps: The setting ``overlap_sampling``.
    """
    # As `rlssl train` sets it: otherwise Ray's workers run at low priority.
    os.environ.update(RAY_worker_niceness="0")

    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

    import rlssl

    configs: dict[str, Any] = {"sac": rlssl.SACConfig, "rainbow": rlssl.RainbowConfig}
    algorithm = (
        configs[name]()
        .plugins([PLUGIN])
        .environment({"id": ENV, "wait_ms": WAIT_MS, "discrete": name == "rainbow"})
        .env_runners(num_env_runners=NUM_RUNNERS, num_envs_per_env_runner=1)
        .training(
            agent_steps_per_iteration=ITERATION,
            learning_starts_agent_steps=ITERATION if learns else 10**9,
            updates_per_agent_step=UPDATES_PER_STEP[name],
            replay_capacity=4 * NUM_STEPS,
            overlap_sampling=overlaps,
        )
        .debugging(seed=0, log_level="ERROR")
        .build_algo()
    )
    frame, actions = algorithm.spaces[INPUT_ENV_SINGLE_SPACES]
    for episode in random_episodes(frame, actions, NUM_STEPS):
        algorithm.replay.add([episode])
    return algorithm


def train(seconds: float, *, name: str, learns: bool = True, overlaps: bool = True) -> Play:
    """Whole iterations, as `rlssl train` makes them."""
    algorithm = algorithm_of(name, learns=learns, overlaps=overlaps)
    algorithm.train()

    def iteration() -> int:
        before = algorithm.clock
        algorithm.train()
        return algorithm.clock - before

    return repeat(iteration, seconds)


def learn(seconds: float, *, name: str) -> Play:
    """Updates alone."""
    algorithm = algorithm_of(name, learns=True, overlaps=False)

    def update() -> float:
        algorithm._update()
        return 1 / UPDATES_PER_STEP[name]

    return repeat(update, seconds)


def row(name: str, title: str) -> Row:
    """The row of an algorithm."""
    return Row(
        f"overlap_{name}",
        f"{title}, {NUM_RUNNERS} remote runners, {WAIT_MS} ms of waiting a step",
        "env steps",
        (
            Contestant("overlap", partial(train, name=name)),
            Contestant("in turn", partial(train, name=name, overlaps=False)),
            Contestant("sampling alone", partial(train, name=name, learns=False)),
            Contestant("learning alone", partial(learn, name=name)),
        ),
        (
            Comparison(
                ("overlap",),
                ("sampling alone", "learning alone"),
                must_reach=0.9,
                against_slowest=True,
            ),
            Comparison(("overlap",), ("in turn",)),
        ),
        seconds=8.0,
    )


ROWS = (row("sac", "SAC, an update a step"), row("rainbow", "Rainbow, an update for four steps"))
