"""A3C with one and two workers, and against PPO and RLlib's IMPALA at equal settings.

Units: in the first row an env step of `bench/slow`, which costs a millisecond of a processor; in
the second an env step of CartPole; in the third an applied gradient (IMPALA: an update) on
CartPole. Every contestant runs whole `train()` calls: metrics, episode statistics, weights.
Fragments are 20 steps of 8 environments, networks 64x64 tanh. IMPALA updates on each fragment as it
arrives; PPO updates in one pass on one fragment of each worker. "Own batch" uses IMPALA's defaults:
batches of 500 steps, fragments of 50. There the cost of an update is spread over more steps. The
rows need a core for every worker, and half a core for the driver: with two workers on two cores,
workers and driver share the cores.
"""

import os
from functools import partial
from typing import Any

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat

NUM_ENVS, LENGTH, HIDDEN = 8, 20, (64, 64)
#: A name, not an import: the import would load rlssl in the process of every contestant.
PLUGIN, SLOW = "benchmarks.slow_env", "bench/slow"
FRAGMENT = NUM_ENVS * LENGTH


def a3c(
    seconds: float, *, workers: int, env: str, synchronous: bool = False, unit: str = "env_steps"
) -> Play:
    """rlssl's A3C or A2C."""
    _be_nice()
    import rlssl

    config = rlssl.A3CConfig().plugins([PLUGIN] if env == SLOW else []).environment(env)
    config = _settings(config, workers).training(
        lr=7e-4, synchronous=synchronous, agent_steps_per_iteration=4_000
    )
    return _trained(config.build_algo(), seconds, unit)


def ppo(seconds: float, *, workers: int, env: str) -> Play:
    """rlssl's PPO; one pass over the steps that its workers sample at once."""
    _be_nice()
    import rlssl

    config = rlssl.PPOConfig().plugins([PLUGIN] if env == SLOW else []).environment(env)
    batch = FRAGMENT * max(1, workers)
    config = _settings(config, workers).training(
        train_batch_size_per_learner=batch, minibatch_size=batch, num_epochs=1
    )
    config.min_sample_timesteps_per_iteration = 4_000
    return _trained(config.build_algo(), seconds, "env_steps")


def impala(
    seconds: float,
    *,
    workers: int,
    env: str,
    unit: str = "env_steps",
    length: int = LENGTH,
    batch: int = FRAGMENT,
) -> Play:
    """RLlib's IMPALA: a Learner in the driver's process takes each sample as it arrives."""
    _be_nice()
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    env_id: Any = env
    if env == SLOW:
        from benchmarks.slow_env import SlowEnv

        env_id = SlowEnv
    model = DefaultModelConfig(
        fcnet_hiddens=list(HIDDEN), fcnet_activation="tanh", vf_share_layers=False
    )
    config = (
        IMPALAConfig()
        .environment(env_id)
        .env_runners(
            num_env_runners=workers,
            num_envs_per_env_runner=NUM_ENVS,
            rollout_fragment_length=length,
        )
        .learners(num_learners=0)
        .rl_module(model_config=model)
        .training(train_batch_size_per_learner=batch, lr=7e-4, grad_clip=0.5)
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=4_000)
        .debugging(seed=0, log_level="ERROR")
    )
    return _trained(config.build_algo(), seconds, unit)


def _be_nice() -> None:
    # As `rlssl train` sets it: otherwise Ray's workers run at low priority.
    os.environ.update(RAY_worker_niceness="0")


def _settings(config: Any, workers: int) -> Any:
    return (
        config.env_runners(
            num_env_runners=workers,
            num_envs_per_env_runner=NUM_ENVS,
            rollout_fragment_length=LENGTH,
        )
        .model(encoder_config={"hidden": list(HIDDEN), "activation": "tanh"}, shared_encoder=False)
        .debugging(seed=0, log_level="ERROR")
    )


def _trained(algorithm: Any, seconds: float, unit: str) -> Play:
    so_far = 0

    def iteration() -> int:
        nonlocal so_far
        before, so_far = so_far, _count(algorithm, algorithm.train(), unit)
        return so_far - before

    return repeat(iteration, seconds)


def _count(algorithm: Any, result: dict[str, Any], unit: str) -> int:
    """Env steps that were sampled, or updates that were made, since the start.

    IMPALA's count of trained steps is not used: it includes one more row for each chunk, for the
    bootstrap. IMPALA drops no batch, so it trains on all steps that it samples, as the others do.
    """
    if unit == "env_steps":
        return int(result["num_env_steps_sampled_lifetime"])
    if "updates" in result:
        return int(result["updates"])
    return int(algorithm.learner_group._learner._weights_seq_no)


ROWS = (
    Row(
        "a3c_workers",
        f"A3C, {NUM_ENVS} envs a worker, 1 ms of a processor a step: two workers against one",
        "env steps",
        (
            Contestant("one worker", partial(a3c, workers=1, env=SLOW)),
            Contestant("two workers", partial(a3c, workers=2, env=SLOW)),
            Contestant("A2C, two", partial(a3c, workers=2, env=SLOW, synchronous=True)),
            Contestant("ppo, two", partial(ppo, workers=2, env=SLOW)),
            Contestant("impala, two", partial(impala, workers=2, env=SLOW)),
        ),
        (
            Comparison(("two workers",), ("one worker",), must_reach=1.6, goal=1.9),
            Comparison(("two workers",), ("impala, two",)),
            Comparison(("two workers",), ("ppo, two",)),
        ),
        seconds=8.0,
    ),
    Row(
        "a3c_cartpole",
        f"CartPole-v1 end to end, two workers of {NUM_ENVS} envs, fragments of {LENGTH} steps",
        "env steps",
        (
            Contestant("a3c", partial(a3c, workers=2, env="CartPole-v1")),
            Contestant("a2c", partial(a3c, workers=2, env="CartPole-v1", synchronous=True)),
            Contestant("a3c, in process", partial(a3c, workers=0, env="CartPole-v1")),
            Contestant("ppo", partial(ppo, workers=2, env="CartPole-v1")),
            Contestant("impala", partial(impala, workers=2, env="CartPole-v1")),
            Contestant(
                "impala, own batch",
                partial(impala, workers=2, env="CartPole-v1", length=50, batch=500),
            ),
        ),
        (
            Comparison(("a3c",), ("impala",)),
            Comparison(("a3c",), ("impala, own batch",)),
            Comparison(("a3c",), ("ppo",)),
        ),
        seconds=8.0,
    ),
    Row(
        "a3c_updates",
        f"updates on CartPole-v1, two workers, a gradient (IMPALA: a batch) of {FRAGMENT} steps",
        "updates",
        (
            Contestant("a3c", partial(a3c, workers=2, env="CartPole-v1", unit="updates")),
            Contestant("impala", partial(impala, workers=2, env="CartPole-v1", unit="updates")),
        ),
        (Comparison(("a3c",), ("impala",)),),
        seconds=8.0,
    ),
)
