"""``model.normalize_observations`` in whole runs: every process has the same statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.algorithms.off_policy.algorithm import sampled_observations
from rlssl.experiment.checkpoints import checkpoint
from rlssl.policy import Policy
from tests.algorithms.a3c.a3c_bench import small_a3c
from tests.algorithms.bench import small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_sac
from tests.algorithms.rainbow.rainbow_bench import small_rainbow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]

CASES: dict[str, Any] = {
    "ppo": small_ppo,
    "ppo, 2 runners": lambda: small_ppo().env_runners(num_env_runners=2),
    "ppo, 2 learners": lambda: small_ppo().learners(num_learners=2),
    "ppo, overlap": lambda: small_ppo(overlap_sampling=True).env_runners(num_env_runners=1),
    "a3c": small_a3c,
    "a3c, 2 workers": lambda: small_a3c().env_runners(num_env_runners=2),
    "a2c, 2 workers": lambda: small_a3c(synchronous=True).env_runners(num_env_runners=2),
    "sac": lambda: small_sac(agent_steps_per_iteration=60),
    "sac, few updates": lambda: small_sac(agent_steps_per_iteration=60, updates_per_agent_step=0.1),
    "sac, 2 runners": lambda: small_sac(agent_steps_per_iteration=60).env_runners(
        num_env_runners=2
    ),
    "rainbow": lambda: small_rainbow(agent_steps_per_iteration=60),
}

#: Cases that CI runs; the others differ little.
IN_CI = ("ppo, 2 runners", "sac, few updates")


def built(case: str) -> Any:
    config = CASES[case]().model(normalize_observations=True)
    return config.algo_class(config=config)


def statistics_of(module: Any) -> dict[str, Any]:
    statistics: dict[str, Any] = module.normalizer.statistics()
    return statistics


def learned(algorithm: Any) -> list[dict[str, Any]]:
    results = algorithm.learner_group.foreach_learner(
        lambda learner: learner.rl_module.normalizer.statistics()
    )
    return [result.get() for result in results]


def sampled_with(algorithm: Any) -> list[dict[str, Any]]:
    local = algorithm.config.num_env_runners == 0
    found: list[dict[str, Any]] = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: runner.module.normalizer.statistics(), local_env_runner=local
    )
    return found


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.ci if case in IN_CI else []) for case in CASES]
)
def test_everyone_has_the_statistics_of_all_sampled_rows(case: str, tmp_path: Path) -> None:
    algorithm = built(case)
    try:
        for _ in range(2):
            result = algorithm.train()
        expected, *others = learned(algorithm)
        runners = [] if "a3c" in case and "workers" in case else sampled_with(algorithm)
        policy = Policy.from_algorithm(algorithm)
        algorithm.evaluate_seeded()
        after, *_ = learned(algorithm)
    finally:
        algorithm.stop()
    exported = Policy.load(policy.save(tmp_path))
    found = [statistics_of(policy.module), statistics_of(exported.module), after, *others]
    if "a2c" not in case and "overlap" not in case:
        # Workers of A2C, and runners whose fragment overlapped with the update, get them later.
        found += runners
    for statistics in found:
        np.testing.assert_equal(statistics, expected)
    # Each row counts once. With overlapping, a fragment is still on its way.
    assert expected["count"] == result["agent_steps"] or "overlap" in case


@pytest.mark.ci
@pytest.mark.parametrize("case", ["ppo", "sac", "rainbow", "a3c"])
def test_statistics_are_exact_and_a_resumed_run_continues_bit_for_bit(
    case: str, tmp_path: Path
) -> None:
    first, second = built(case), built(case)
    rows = []
    sample = first.env_runner.sample

    def recorded(*args: Any, **kwargs: Any) -> Any:
        episodes = sample(*args, **kwargs)
        rows.append(sampled_observations(episodes).astype(np.float64))
        return episodes

    first.env_runner.sample = recorded
    try:
        result = first.train()
        checkpoint.save(first, tmp_path, env_steps=int(result["env_steps"]))
        first.train()
        (statistics,) = learned(first)
        every = np.concatenate(rows)
        assert statistics["count"] == len(every)
        np.testing.assert_allclose(statistics["mean"], every.mean(0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(statistics["variance"], every.var(0), rtol=1e-9)
        assert checkpoint.restore(second, checkpoint.check(tmp_path)) == 0
        second.train()
        states = [
            algorithm.learner_group.get_state()["learner"]["rl_module"]["default_policy"]
            for algorithm in (first, second)
        ]
    finally:
        first.stop()
        second.stop()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


def test_statistics_of_two_runners_equal_those_of_one_on_the_same_rows() -> None:
    """Two runners' chunks in one update, against the same chunks from one runner."""
    algorithm = built("ppo, 2 runners")
    try:
        episodes = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.sample(num_timesteps=32, random_actions=False),
            local_env_runner=False,
        )
        every = np.concatenate([sampled_observations(part) for part in episodes])
        algorithm.learner_group.update(episodes=[*episodes[0], *episodes[1]], num_epochs=1)
        (found,) = learned(algorithm)
    finally:
        algorithm.stop()
    np.testing.assert_allclose(found["mean"], every.astype(np.float64).mean(0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        found["variance"], every.astype(np.float64).var(0), rtol=0, atol=1e-6
    )
    assert found["count"] == len(every)
