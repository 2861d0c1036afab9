"""PPO on CartPole-v1, end to end: 8 environments, 128 steps, 4 epochs, 4 minibatches, 64x64 tanh.

A unit is an environment step that an iteration sampled and learned from. Hyperparameters are those
of `loops`. "rlssl native", the default of rlssl, steps gymnasium's native vector environment; all
other contestants step single environments one by one. rlssl and RLlib run their whole `train()`:
metrics, episode statistics, weight synchronization.
"""

from functools import partial
from typing import Any

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat
from benchmarks.peers import frameworks, loops

NUM_ENVS, NUM_ROWS = 8, 128


def rlssl(seconds: float, *, vectorize: str) -> Play:
    """rlssl's Algorithm."""
    return _algorithm(frameworks.rlssl_config(NUM_ENVS, NUM_ROWS, vectorize), seconds)


def stock(seconds: float) -> Play:
    """RLlib's Algorithm."""
    return _algorithm(frameworks.stock_config(NUM_ENVS, NUM_ROWS), seconds)


def _algorithm(config: Any, seconds: float) -> Play:
    from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

    algorithm, so_far = config.build_algo(), 0

    def iteration() -> int:
        nonlocal so_far
        before, so_far = so_far, int(algorithm.train()[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        return so_far - before

    return repeat(iteration, seconds)


def sb3(seconds: float) -> Play:
    """Stable-Baselines3's PPO."""
    model = frameworks.sb3_model(NUM_ENVS, NUM_ROWS)

    def iteration() -> int:
        model.learn(NUM_ENVS * NUM_ROWS, reset_num_timesteps=False)
        return NUM_ENVS * NUM_ROWS

    return repeat(iteration, seconds)


def cleanrl(seconds: float) -> Play:
    """CleanRL's PPO."""
    return repeat(loops.CleanLoop(loops.cartpoles(NUM_ENVS), NUM_ROWS).train, seconds)


ROWS = (
    Row(
        "ppo_cartpole",
        "PPO CartPole-v1 end to end, 8 envs, 128 steps, 4 epochs, 4 minibatches, 64x64",
        "env steps",
        (
            Contestant("rlssl", partial(rlssl, vectorize="sync")),
            Contestant("rlssl native", partial(rlssl, vectorize="native")),
            Contestant("sb3", sb3),
            Contestant("cleanrl", cleanrl),
            Contestant("stock", stock),
        ),
        (
            Comparison(("rlssl",), ("sb3", "cleanrl"), must_reach=1.0, goal=1.5),
            Comparison(("rlssl",), ("stock",), must_reach=2.0),
            Comparison(("rlssl native",), ("sb3", "cleanrl")),
        ),
        seconds=5.0,
    ),
)
