"""Sampling CartPole-v1: 16 environments, 128 vector steps a fragment, one process, one thread.

A unit is a step of an environment that is not the reset of NEXT_STEP autoreset. Not equal:

- SB3 and CleanRL's loop run the critic while they sample; rlssl and RLlib run it in the Learner.
  The bare loop does not run it.
- rlssl and RLlib reduce their metrics after each fragment, as `train()` does, and keep the scores
  of episodes. The other contestants do neither.
- SB3 also computes advantages.
- RLlib wraps each environment twice in gymnasium's checks.

"native" is gymnasium's own vector version of CartPole.
"""

from functools import partial

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat
from benchmarks.peers import frameworks, loops

NUM_ENVS, NUM_ROWS = 16, 128


def rlssl(seconds: float, *, vectorize: str) -> Play:
    """VectorEnvRunner.sample."""
    config = frameworks.rlssl_config(NUM_ENVS, NUM_ROWS, vectorize)
    config.validate()
    return _runner(config.env_runner_cls, config, seconds)


def stock(seconds: float) -> Play:
    """SingleAgentEnvRunner.sample."""
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = frameworks.stock_config(NUM_ENVS, NUM_ROWS)
    config.validate()
    return _runner(SingleAgentEnvRunner, config, seconds)


def _runner(cls: type, config: object, seconds: float) -> Play:
    runner = cls(config=config, worker_index=0, num_workers=0)

    def fragment() -> int:
        episodes = runner.sample(num_timesteps=NUM_ENVS * NUM_ROWS, random_actions=False)
        runner.get_metrics()
        return sum(map(len, episodes))

    return repeat(fragment, seconds)


def sb3(seconds: float) -> Play:
    """PPO.collect_rollouts."""
    model = frameworks.sb3_model(NUM_ENVS, NUM_ROWS)
    _, callback = model._setup_learn(total_timesteps=10**12)

    def fragment() -> int:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, NUM_ROWS)
        return NUM_ENVS * NUM_ROWS

    return repeat(fragment, seconds)


def cleanrl(seconds: float) -> Play:
    """The first half of CleanRL's PPO."""
    return repeat(loops.CleanLoop(loops.cartpoles(NUM_ENVS), NUM_ROWS).collect, seconds)


def bare(seconds: float, *, mode: str) -> Play:
    """The bare loop."""
    policy = loops.mlp(4, 2, gain=0.01)
    return repeat(loops.BareLoop(loops.cartpoles(NUM_ENVS, mode), policy, NUM_ROWS).run, seconds)


ROWS = (
    Row(
        "cartpole_sampling",
        f"CartPole-v1 sampling, {NUM_ENVS} envs, 1 process, 1 thread, SyncVectorEnv",
        "agent steps",
        (
            Contestant("rlssl", partial(rlssl, vectorize="sync")),
            Contestant("bare", partial(bare, mode="sync")),
            Contestant("sb3", sb3),
            Contestant("cleanrl", cleanrl),
            Contestant("stock", stock),
        ),
        (
            Comparison(("rlssl",), ("bare",), must_reach=0.85, goal=0.95),
            Comparison(("rlssl",), ("sb3", "cleanrl"), must_reach=1.0, goal=1.3),
            Comparison(("rlssl",), ("stock",), must_reach=2.7, goal=4.0),
        ),
    ),
    Row(
        "cartpole_native_sampling",
        f"CartPole-v1 sampling, {NUM_ENVS} envs, gymnasium's native vector environment",
        "agent steps",
        (
            Contestant("rlssl native", partial(rlssl, vectorize="native")),
            Contestant("bare native", partial(bare, mode="vector_entry_point")),
            Contestant("rlssl sync", partial(rlssl, vectorize="sync")),
        ),
        (
            Comparison(("rlssl native",), ("bare native",)),
            Comparison(("rlssl native",), ("rlssl sync",)),
        ),
    ),
)
