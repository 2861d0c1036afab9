"""The time that an auxiliary loss adds to an update, against its own passes in the same process.

A unit is an update. "added" is the time of an update with the loss minus the time of one without;
both alternate within a play, update by update, on the same rows. "alone" is only the loss on the
same minibatches, forwards and backwards, with no step and no logging. The processes do the same
work in the same order; each reports its part. Above 1, the rest is the steps and clipping of the
loss's heads, its target networks, masks and logging. Below 1, the loss reuses an encoder pass of
the RL loss, as DeepMDP and bisimulation do; "alone" includes that pass.

- SAC: vectors as in `benchmarks.sac`, batch 256, the default networks; batches drawn beforehand.
- PPO: 8 CartPoles (or, "ppo_pixels", MinAtar's Breakout), 128 rows each, 4 epochs of 4 minibatches,
  the default networks. An update begins with episodes, so it includes the connectors' work for the
  loss. "alone" is the loss on 16 minibatches, and the intrinsic reward of the whole batch if the
  loss gives one.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, Sample
from benchmarks.off_policy import filled_replay, learner_of

LOSSES = ("curl", "icm", "deepmdp", "bisimulation")
ADDED, ALONE = "added", "alone"
NUM_ENVS, NUM_ROWS, EPOCHS, MINIBATCHES = 8, 128, 4, 4

#: Batches that SAC draws beforehand, and updates between two of its results.
NUM_BATCHES, REPORT_EVERY = 16, 1_000

#: An update with the loss, one without, the loss alone.
Calls = tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]


def play_of(seconds: float, *, algorithm: str, loss: str, part: str) -> Play:
    """A play that alternates the calls and reports one part."""
    with_loss, without, alone = CALLS[algorithm](loss)

    def play() -> Sample:
        calls = (with_loss, without, alone)
        wall, cpu, count = [0.0] * 3, [0.0] * 3, 0
        while sum(wall) < seconds:
            for index, call in enumerate(calls):
                cpu_start, start = time.process_time(), time.perf_counter()
                call()
                wall[index] += time.perf_counter() - start
                cpu[index] += time.process_time() - cpu_start
            count += 1
        spent = [times[0] - times[1] if part == ADDED else times[2] for times in (wall, cpu)]
        names = ("with_ms", "without_ms", "alone_ms")
        detail = {
            name: round(1e3 * time_ / count, 3) for name, time_ in zip(names, wall, strict=True)
        }
        return Sample(count, spent[0], spent[1], detail)

    return play


def _sac(loss: str) -> Calls:
    """Updates on batches of a replay buffer."""
    import torch

    import rlssl
    from benchmarks.sac import ACTIONS, BATCH, NUM_STEPS, OBSERVATIONS
    from rlssl.algorithms.off_policy.batches import draw
    from rlssl.batches import to_tensors

    def config(losses: dict[str, Any]) -> Any:
        return (
            rlssl.SACConfig()
            .auxiliary(**losses)
            .training(train_batch_size_per_learner=BATCH, replay_capacity=NUM_STEPS)
            .debugging(seed=0, log_level="ERROR")
        )

    both: tuple[dict[str, Any], ...] = ({loss: {}}, {})
    learners = [learner_of(config(losses), OBSERVATIONS, ACTIONS) for losses in both]
    needs = learners[0].needs
    replay = filled_replay(config({}), OBSERVATIONS, ACTIONS, NUM_STEPS)
    batches = [
        draw(replay, BATCH, n_step=1, gamma=0.99, beta=1.0, needs=needs) for _ in range(NUM_BATCHES)
    ]

    def update(learner: Any) -> Callable[[], None]:
        numbers, turns = itertools.count(1), itertools.cycle(batches)

        def once() -> None:
            learner.update_on(next(turns), agent_steps=100_000)
            if next(numbers) % REPORT_EVERY == 0:
                learner.report()

        return once

    rows = itertools.cycle([to_tensors(batch, torch.device("cpu")) for batch in batches])
    passes = _passes(learners[0], loss)
    return update(learners[0]), update(learners[1]), lambda: passes(next(rows))


#: Rows of a batch of PPO, and the passes over them.
BATCH_ROWS = NUM_ENVS * NUM_ROWS
PASSES = {"num_epochs": EPOCHS, "minibatch_size": BATCH_ROWS // MINIBATCHES}


def _ppo_config(env: str, losses: dict[str, Any]) -> Any:
    import rlssl

    config = (
        rlssl.PPOConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=NUM_ENVS, rollout_fragment_length=NUM_ROWS)
        .auxiliary(**losses)
        .training(train_batch_size_per_learner=BATCH_ROWS, **PASSES)
        .debugging(seed=0, log_level="ERROR")
    )
    config.validate()
    return config


def _ppo(loss: str, *, env: str = "CartPole-v1") -> Calls:
    """Updates on episodes."""
    from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

    from rlssl.algorithms.common.minibatches import minibatches
    from rlssl.peers import ALONE as ONE_LEARNER

    configs = [_ppo_config(env, losses) for losses in ({loss: {}}, {})]
    runner = configs[1].env_runner_cls(config=configs[1], worker_index=0, num_workers=0)
    learners = [one.build_learner(spaces=runner.get_spaces()) for one in configs]
    for learner in learners:
        learner.build()
    episodes = runner.sample(num_timesteps=BATCH_ROWS, random_actions=False)

    def update(learner: Any) -> None:
        # Pipelines may change the episodes that they get.
        given = [episode.slice(slice(None), len_lookback_buffer=0) for episode in episodes]
        learner.update(
            episodes=given, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: BATCH_ROWS}, **PASSES
        )

    learner = learners[0]
    batch = learner._learner_connector(
        rl_module=learner.module,
        batch={},
        episodes=[episode.slice(slice(None), len_lookback_buffer=0) for episode in episodes],
        shared_data={},
        metrics=learner.metrics,
    )["default_policy"]
    parts = list(minibatches(batch, peers=ONE_LEARNER, **PASSES))
    passes, module = _passes(learner, loss), learner.rl_module.auxiliary[loss]

    def alone() -> None:
        if module.config.intrinsic_coeff > 0:
            module.intrinsic_reward(batch)
        for part in parts:
            passes(part)

    return partial(update, learner), partial(update, learners[1]), alone


def _passes(learner: Any, loss: str) -> Callable[[Any], None]:
    """Only a loss, forwards and backwards on a minibatch."""
    import torch

    from rlssl.algorithms.common.auxiliary_learner import columns_read, trainable
    from rlssl.batches import valid_rows
    from rlssl.system.denormals import denormals_are_zero

    module = learner.rl_module
    subject = module.auxiliary[loss]
    parameters = [*trainable(subject), *trainable(module.encoder)]

    @denormals_are_zero()
    def once(batch: Any) -> None:
        rows = columns_read(loss, subject, valid_rows(batch))
        values = subject.losses(rows).values()
        total = torch.stack([value.mean() for value in values]).sum()
        torch.autograd.grad(total, parameters, allow_unused=True)

    return once


CALLS: dict[str, Callable[[str], Calls]] = {
    "sac": _sac,
    "ppo": _ppo,
    "ppo_pixels": partial(_ppo, env="minatar/Breakout"),
}


def _row(algorithm: str, loss: str) -> Row:
    parts = [
        Contestant(part, partial(play_of, algorithm=algorithm, loss=loss, part=part))
        for part in (ADDED, ALONE)
    ]
    return Row(
        f"overhead_{algorithm}_{loss}",
        f"time that {loss} adds to an update of {algorithm}, against its own passes",
        "updates",
        tuple(parts),
        (Comparison((ADDED,), (ALONE,), must_reach=1.25, of_time=True),),
        seconds=2.0,
    )


ROWS = tuple(_row(algorithm, loss) for algorithm in CALLS for loss in LOSSES)
