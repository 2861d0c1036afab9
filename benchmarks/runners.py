"""Two remote runners of 8 environments each against one, 1 ms of a processor a step.

A unit is an agent step that arrived in the driver. A play calls RLlib's
`synchronous_parallel_sample` over the runners of a built Algorithm: PPO's sampling phase, without
the Learner's update. Each fragment is 2,048 steps, with one runner and with two. The row needs a
core for every runner.
"""

import os
from functools import partial

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat

NUM_ENVS, STEPS = 8, 2048
#: A name, not an import: the import would load rlssl in the process of every contestant.
PLUGIN, ENV = "benchmarks.slow_env", "bench/slow"


def rlssl(seconds: float, *, num_runners: int) -> Play:
    """The sampling phase of `Algorithm.training_step`."""
    # As `rlssl train` sets it: otherwise Ray's workers run at low priority.
    os.environ.update(RAY_worker_niceness="0")

    from ray.rllib.execution.rollout_ops import synchronous_parallel_sample

    import rlssl

    algorithm = (
        rlssl.PPOConfig()
        .plugins([PLUGIN])
        .environment(ENV)
        .env_runners(num_env_runners=num_runners, num_envs_per_env_runner=NUM_ENVS)
        .training(train_batch_size_per_learner=STEPS)
        .debugging(seed=0, log_level="ERROR")
        .build_algo()
    )

    def fragment() -> int:
        episodes, _ = synchronous_parallel_sample(
            worker_set=algorithm.env_runner_group,
            max_agent_steps=STEPS,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        return sum(map(len, episodes))

    return repeat(fragment, seconds)


ROWS = (
    Row(
        "remote_runners",
        f"remote runners of {NUM_ENVS} envs, 1 ms of a processor a step: two against one",
        "agent steps",
        (
            Contestant("one runner", partial(rlssl, num_runners=1)),
            Contestant("two runners", partial(rlssl, num_runners=2)),
        ),
        (Comparison(("two runners",), ("one runner",), must_reach=1.6, goal=1.9),),
        seconds=8.0,
    ),
)
