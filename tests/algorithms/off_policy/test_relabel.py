"""``training.relabel``: algorithms with hindsight, what their losses see, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

import rlssl
from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS, BONUS_STEPS, TAKEN
from rlssl.algorithms.off_policy.data_sets.loading import load_data
from rlssl.algorithms.off_policy.replays import Replays
from rlssl.auxiliary.windows import VALID, WINDOWS
from rlssl.data import DatasetWriter, Description, Episode
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.building import build_config
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow
from tests.auxiliary.imitation.recorded import record
from tests.replay.hindsight.goal_episodes import NUM_GOALS, SPACE, Numbers

REACH = "robotics/FetchReach-v4"

#: `Numbers` with ends of episodes that do not depend on the goal.
rlssl.register_env("test/relabel-numbers", lambda config: LimitedNumbers())


class LimitedNumbers(Numbers):
    """Observations count the steps; episodes are truncated after 6 steps."""

    def reset(self, **kwargs: Any) -> Any:
        self.t = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.t += 1
        seen, reward, ended, _, info = super().step(action)
        return seen, reward, ended, self.t == 6 and not ended, info

    def _observation(self) -> dict[str, np.ndarray]:
        seen = np.array([self.state, self.t], np.float32)
        return {**super()._observation(), "observation": seen}


def rainbow(env: str = "test/relabel-numbers", **training: Any) -> Any:
    config = small_rainbow(env, relabel={"k": 3}, **training)
    return config.model(encoder_config={"hidden": 16})


@pytest.mark.parametrize(
    ("make", "bench_of", "env"),
    [
        (small_rainbow, RainbowBench, "goals/bit-flipping"),
        (small_ddpg, ActorCriticBench, REACH),
        (small_sac, ActorCriticBench, REACH),
    ],
)
def test_every_algorithm_trains(make: Any, bench_of: Any, env: str) -> None:
    if env == REACH:
        pytest.importorskip("gymnasium_robotics", reason="needs rlssl[robotics]")
    config = make(env, relabel={}).model(
        encoder_config={"hidden": 16}, normalize_observations={"min_std": 0.01, "clip": 5}
    )
    bench = bench_of(config)
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    bench.update(bench.sample())
    after = bench.module.state_dict()
    assert any(not before[key].equal(value) for key, value in after.items() if "encoder" in key)
    assert all(value.double().isfinite().all() for value in after.values())
    num_relabeled, num_reached = bench.replay.relabeler.take_counts()
    assert 0 < num_reached <= num_relabeled


def assert_consistent(obs: Any, after: Any, rewards: Any, which: Any) -> None:
    """The rewards of single steps are those of the goals that are seen."""
    goals = obs["desired_goal"]
    np.testing.assert_array_equal(goals, after["desired_goal"])
    expected = -np.abs(after["achieved_goal"] - goals)[..., 0]
    np.testing.assert_array_equal(rewards[which], expected[which])


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("prioritized", [False, True])
def test_losses_see_the_goals_and_the_rewards_of_the_rl_loss(
    uniform: bool, prioritized: bool
) -> None:
    replay = {"uniform_for_auxiliary": uniform, "prioritized": prioritized}
    config = rainbow(n_step=3, replay=replay).auxiliary(deepmdp={}, cpc={})
    bench = RainbowBench(config)
    bench.add(bench.sample(200))
    for _ in range(4):
        batch = bench.draw()
        single = batch[AUXILIARY_COLUMNS]
        of_losses = single if uniform else batch
        goals = of_losses[Columns.OBS]["desired_goal"]
        after, rewards = single[Columns.NEXT_OBS], single[Columns.REWARDS]
        assert_consistent(of_losses[Columns.OBS], after, rewards, slice(None))
        windows = of_losses[WINDOWS]
        seen = windows[Columns.OBS]["desired_goal"]
        assert windows[VALID].sum() > 2 * len(windows[VALID])
        rows = np.broadcast_to(goals[:, None], seen.shape)
        np.testing.assert_array_equal(seen, rows)
    bench.update(bench.sample(64))


def test_single_steps_of_a_sampled_bonus_have_the_goal_of_their_row() -> None:
    options = {"icm": {"bonus_when": "sampled", "reward_clip": None}}
    bench = RainbowBench(rainbow(n_step=3).auxiliary(**options))
    bench.add(bench.sample(200))
    batch = bench.draw()
    steps = batch[BONUS_STEPS]
    seen, taken = steps[Columns.OBS]["desired_goal"], steps[TAKEN]
    goals = batch[Columns.OBS]["desired_goal"]
    for row in range(len(goals)):
        assert set(seen[row][: taken[row].sum() + 1].ravel().tolist()) == {float(goals[row, 0])}
    np.testing.assert_array_equal(taken.sum(axis=1), batch["n_step"])
    bench.update(bench.sample(64))


@pytest.mark.parametrize("data", [{"offline": True}, {"mix": 0.75}, {"mix": 0.0}])
def test_replaced_goals_of_a_data_set_are_counted(tmp_path: Path, data: dict[str, Any]) -> None:
    record(tmp_path, {"id": "goals/bit-flipping"}, [None] * 5, most=20)
    config = rainbow("goals/bit-flipping", n_step=1).data(path=str(tmp_path), **data)
    bench = RainbowBench(config)
    replays = Replays(config, *bench.runner.get_spaces()[INPUT_ENV_SINGLE_SPACES])
    if replays.own is not None:
        replays.own.add(bench.sample(64))
    assert replays.relabeled_success() is None
    batch, rows = replays.draw(beta=0.0, needs=bench.learner.needs)
    reached = batch[Columns.REWARDS][batch["relabeled"]] == 0.0
    assert replays.relabeled_success() == pytest.approx(reached.mean())
    assert len(rows) == 1 + (data.get("mix") == 0.75)
    replays.close()


def test_without_relabel_nothing_changes() -> None:
    plain = RainbowBench(small_rainbow("goals/bit-flipping").model(encoder_config={"hidden": 16}))
    plain.add(plain.sample())
    assert plain.replay.relabeler is None and "relabeled" not in plain.draw()
    assert plain.config.effective_training()["relabel"] is None


def test_the_settings_of_a_spec() -> None:
    document = {
        "algorithm": "rainbow",
        "env": {"id": "goals/bit-flipping"},
        "training": {"relabel": {"strategy": "final"}},
    }
    config = build_config(load_spec(document))
    assert config.effective_training()["relabel"] == {"strategy": "final", "k": 4.0}
    assert config.relabel_settings.share == 0.8


@pytest.mark.parametrize(
    ("relabel", "message"),
    [
        ({"strategie": "final"}, r"unknown key 'training\.relabel\.strategie'; did you mean"),
        ({"strategy": "random"}, r"training\.relabel\.strategy must be one of future"),
        ({"k": -1}, r"training\.relabel\.k must be a number > 0; got -1"),
        ("future", r"training\.relabel must be options"),
    ],
)
def test_wrong_settings_are_refused(relabel: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        small_ddpg(relabel=relabel)


def test_an_environment_without_goals_is_refused() -> None:
    with pytest.raises(SpecError, match=r"CartPole-v1 lack observation.*Leave training\.relabel"):
        small_rainbow("CartPole-v1", relabel={}).validate()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_rewards_of_a_data_set_must_be_those_of_the_environment(
    tmp_path: Path, scale: float
) -> None:
    states = np.array([[0, 7], [1, 7], [2, 7]], np.float32)
    seen = {
        "observation": states,
        "achieved_goal": states[:, :1],
        "desired_goal": np.full((3, 1), 2, np.float32),
    }
    rewards = scale * np.array([-1.0, 0.0])  # the steps lead to 1 and 2; the goal is 2
    with DatasetWriter(tmp_path, Description(SPACE, Discrete(NUM_GOALS))) as writer:
        writer.add(Episode(seen, np.array([1, 2]), rewards, terminated=True))
    config = rainbow().data(path=str(tmp_path))
    config.adapt_to(EnvSpaces(SPACE, Discrete(NUM_GOALS)))
    if scale == 1.0:
        assert load_data(config, SPACE, Discrete(NUM_GOALS)).replay.num_rows == 3
        return
    with pytest.raises(SpecError, match=r"was rewarded with -0\.5, but compute_reward .* says -1:"):
        load_data(config, SPACE, Discrete(NUM_GOALS))


def test_preset_her_has_the_published_settings() -> None:
    document = {"algorithm": "ddpg", "preset": "her", "env": {"id": REACH}}
    config = build_config(load_spec(document))
    # Targets are bounded by the returns of rewards that are always -1: 1 / (1 - 0.98) = 50.
    assert (config.target_min, config.target_max) == (pytest.approx(-1 / (1 - config.gamma)), 0)
    # 40 updates after two episodes of 50 steps, and then one step of the target networks.
    assert config.updates_per_agent_step * 100 == config.target_update_every_updates == 40
    assert config.relabel_settings.share == 0.8
