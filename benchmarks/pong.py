"""Sampling Atari Pong, 84x84x4, Nature-CNN, 8 environments in ale-py's vector environment.

In the bare loop ale-py stacks the frames; rlssl gets single frames and stacks them. Both store
single frames. The environment is the same: frame skip 4, no sticky actions, up to 29 no-ops. Names
end in the number of torch's threads and of ale-py's threads.
"""

from functools import partial

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, UnavailableError, repeat
from benchmarks.peers import loops

NUM_ENVS, NUM_ROWS, NUM_ACTIONS = 8, 32, 6
THREADS = ((1, 1), (1, 2), (2, 1), (2, 2))
#: The attribute of a config that turns double buffering on.
DOUBLE_BUFFERING = "double_buffering"


def bare(seconds: float, *, num_threads: int) -> Play:
    """ale-py's vector environment and a forward pass, one after the other."""
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    env = AtariVectorEnv(
        "pong",
        NUM_ENVS,
        stack_num=4,
        frameskip=4,
        noop_max=30,
        repeat_action_probability=0.0,
        use_fire_reset=False,
        reward_clipping=False,
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )
    policy = loops.nature_cnn(NUM_ACTIONS)
    return repeat(loops.BareLoop(env, policy, NUM_ROWS).run, seconds)


def rlssl(seconds: float, *, num_threads: int, double_buffering: bool) -> Play:
    """VectorEnvRunner.sample."""
    import rlssl

    config = (
        rlssl.PPOConfig()
        .environment({"id": "atari/Pong", "num_threads": num_threads})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS)
        .model(encoder="nature", shared_encoder=True)
        .debugging(seed=0, log_level="ERROR")
    )
    if double_buffering and not hasattr(config, DOUBLE_BUFFERING):
        raise UnavailableError(f"this rlssl has no {DOUBLE_BUFFERING}")
    if hasattr(config, DOUBLE_BUFFERING):
        setattr(config, DOUBLE_BUFFERING, double_buffering)
    config.validate()
    runner = config.env_runner_cls(config=config, worker_index=0, num_workers=0)

    def fragment() -> int:
        episodes = runner.sample(num_timesteps=NUM_ENVS * NUM_ROWS, random_actions=False)
        runner.get_metrics()
        return sum(map(len, episodes))

    return repeat(fragment, seconds)


def _contestants() -> tuple[Contestant, ...]:
    bares = [
        Contestant(f"bare {torch}+{ale}", partial(bare, num_threads=ale), threads=torch)
        for torch, ale in THREADS
    ]
    ours = [
        Contestant(
            f"rlssl{', double' if double else ''} {torch}+{ale}",
            partial(rlssl, num_threads=ale, double_buffering=double),
            threads=torch,
        )
        for double in (False, True)
        for torch, ale in ((1, 1), (1, 2))
    ]
    return (*bares, *ours)


CONTESTANTS = _contestants()
OURS = tuple(one.name for one in CONTESTANTS if one.name.startswith("rlssl"))
BARE = tuple(one.name for one in CONTESTANTS if one.name.startswith("bare"))

ROWS = (
    Row(
        "pong_sampling",
        f"Pong sampling, 84x84x4, Nature-CNN, {NUM_ENVS} envs",
        "agent steps",
        CONTESTANTS,
        (
            Comparison(OURS, ("bare 1+1",), must_reach=1.15, goal=1.5),
            Comparison(OURS, BARE, must_reach=1.0, goal=1.1),
            Comparison(("rlssl 1+1",), ("bare 1+1",)),
        ),
        seconds=4.0,
    ),
)
