"""VectorEnvRunner against RLlib's loop: the same chunks, to the last bit, and the same metrics."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics.stats import StatsBase

from rlssl.connectors.stack_observations import AddStackedObservations
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from rlssl.system.seeding import SamplerSeeds
from tests.rollouts.counting import (
    COUNTING,
    CountingEnv,
    ForcedModule,
    assert_same_chunks,
    make_config,
    make_runner,
)

UNEVEN = [[3, 1, 5], [2, 2, 7], [4]]


def counting(**options: Any) -> dict[str, Any]:
    return {"id": COUNTING, **options}


def both(
    env: dict[str, Any], num_envs: int, frame_stack: int = 1, **settings: Any
) -> tuple[VectorEnvRunner, StockEnvRunner]:
    config = make_config(env, num_envs, frame_stack).env_runners(**settings)
    return make_runner(VectorEnvRunner, config), make_runner(StockEnvRunner, config)


def assert_same_fragments(ours: Any, stock: Any, fragments: list[int], **kwargs: Any) -> None:
    ids: dict[str, str] = {}
    for num_timesteps in fragments:
        samples = []
        for runner in (ours, stock):
            torch.manual_seed(0)
            samples.append(runner.sample(num_timesteps=num_timesteps, **kwargs))
        assert_same_chunks(samples[0], samples[1], ids)


def comparable(metrics: Any) -> dict[str, Any]:
    """Flattens reduced metrics; drops times, and the connectors that only the stock runner runs."""
    flat = tree.flatten_with_path(tree.map_structure(_value, metrics))
    named = {"/".join(map(str, path)): value for path, value in flat}
    hidden = ("timer", "duration", "connector", "env_to_module", "time_between", "sample/")
    return {k: v for k, v in named.items() if not any(word in f"{k}/" for word in hidden)}


def _value(stats: Any) -> Any:
    return str(stats.peek()) if isinstance(stats, StatsBase) else stats


@pytest.mark.parametrize(
    "options",
    [{}, {"nested": True}, {"continuous": True}],
    ids=["vector", "dict observations", "continuous actions"],
)
@pytest.mark.parametrize("explore", [False, True])
def test_chunks_equal_the_stock_runners_across_fragments(options: dict, explore: bool) -> None:
    # The lookback is longer than the number of keys, because RLlib's buffers count the keys.
    env = counting(lengths=UNEVEN, **options)
    ours, stock = both(env, num_envs=3, episode_lookback_horizon=3)
    assert_same_fragments(ours, stock, [7, 1, 20, 3, 64], explore=explore)


def test_cartpole_equals_rllibs_own_runner() -> None:
    config = make_config({"id": "CartPole-v1"}, num_envs=4)
    ours, rllibs = (make_runner(cls, config) for cls in (VectorEnvRunner, SingleAgentEnvRunner))
    # RLlib seeds copy i with its runner's seed + i.
    vars(ours)["_reset_seed"] = lambda: rllibs._seed
    assert_same_fragments(ours, rllibs, [50, 50, 33, 200], explore=True)


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=3),
    num_envs=st.integers(1, 4),
    fragments=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    horizon=st.integers(0, 3),
)
def test_any_lengths_and_fragments_equal_the_stock_runners(
    lengths: list[list[int]], num_envs: int, fragments: list[int], horizon: int
) -> None:
    env = counting(lengths=lengths)
    ours, stock = both(env, num_envs, episode_lookback_horizon=horizon)
    assert_same_fragments(ours, stock, fragments)
    assert comparable(ours.get_metrics()) == comparable(stock.get_metrics())


def test_metrics_equal_the_stock_runners_over_several_reports() -> None:
    ours, stock = both(counting(lengths=UNEVEN), num_envs=3)
    for num_timesteps in (10, 25):
        for runner in (ours, stock):
            runner.sample(num_timesteps=num_timesteps)
            runner.sample(num_timesteps=num_timesteps)
        expected = comparable(stock.get_metrics())
        assert comparable(ours.get_metrics()) == expected
        assert {"num_env_steps_sampled", "episode_return_mean", "num_episodes"} < expected.keys()


def test_whole_episodes_are_logged_with_the_step_at_which_they_ended() -> None:
    runner = make_runner(VectorEnvRunner, make_config(counting(lengths=[[2, 3]]), num_envs=1))
    runner.sample(num_timesteps=4)
    series = {k: v.peek() for k, v in runner.get_metrics()["rlssl_episodes"].items()}
    # The first episode has 2 steps: 1 + 2. It terminated, which counts as a success.
    assert series == {"return": [3.0], "length": [2], "success": [1.0], "offset": [2]}
    runner.sample(num_timesteps=2)
    series = {k: v.peek() for k, v in runner.get_metrics()["rlssl_episodes"].items()}
    # The second episode has 3 steps, 2 of them before the report: 1 + 2 + 3. Truncated: no success.
    assert series == {"return": [6.0], "length": [3], "success": [0.0], "offset": [1]}


def test_success_is_nan_if_the_environment_does_not_say() -> None:
    runner = make_runner(VectorEnvRunner, make_config(counting(lengths=[[2]]), num_envs=2))
    runner.sample(num_timesteps=4)
    success = runner.get_metrics()["rlssl_episodes"]["success"].peek()
    # Only slot 0 says whether it succeeded.
    assert success[0] == 1.0
    assert np.isnan(success[1])


@pytest.mark.parametrize("lengths", [UNEVEN, [[2]]], ids=["uneven", "ending together"])
@pytest.mark.parametrize("num_episodes", [1, 5])
def test_sampling_episodes_returns_whole_ones_from_a_fresh_start(
    num_episodes: int, lengths: list[list[int]]
) -> None:
    ours, stock = both(counting(lengths=lengths), num_envs=3)
    ids: dict[str, str] = {}
    for _ in range(2):
        chunks = [runner.sample(num_episodes=num_episodes) for runner in (ours, stock)]
        assert_same_chunks(chunks[0], chunks[1], ids)
        assert len(chunks[0]) == num_episodes
        assert all(chunk.is_done and chunk.t_started == 0 for chunk in chunks[0])
    assert comparable(ours.get_metrics()) == comparable(stock.get_metrics())


def test_a_forced_reset_begins_new_episodes_that_differ_from_the_seeded_first() -> None:
    ours, stock = both({"id": "CartPole-v1"}, num_envs=2)
    ids: dict[str, str] = {}
    firsts = []
    for force_reset in (False, True, False):
        chunks = [r.sample(num_timesteps=4, force_reset=force_reset) for r in (ours, stock)]
        assert_same_chunks(chunks[0], chunks[1], ids)
        firsts.append(chunks[0][0].get_observations(0).tolist())
    # Two environments, reset twice: four episodes.
    assert len(ids) == 4
    assert firsts[0] != firsts[1]


def test_random_actions_are_seeded_and_have_no_outputs_of_the_module() -> None:
    config = make_config(counting(lengths=UNEVEN), num_envs=2)
    first, second = (
        make_runner(VectorEnvRunner, config).sample(num_timesteps=30, random_actions=True)
        for _ in range(2)
    )
    actions = [np.concatenate([c.get_actions() for c in sample]) for sample in (first, second)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert set(actions[0]) == {0, 1, 2}
    assert first[0].extra_model_outputs.keys() == {"weights_seq_no"}


def test_a_fragment_of_the_policy_can_follow_a_random_one() -> None:
    runner = make_runner(VectorEnvRunner, make_config(counting(lengths=[[9]]), num_envs=2))
    runner.sample(num_timesteps=6, random_actions=True)
    chunk = runner.sample(num_timesteps=6)[0]
    assert (chunk.t_started, len(chunk), chunk.actions.lookback) == (3, 3, 1)
    assert chunk.get_extra_model_outputs(Columns.ACTION_LOGP).shape == (3,)


@pytest.mark.parametrize("normalize", [True, False])
def test_actions_reach_the_environment_inside_its_space(normalize: bool) -> None:
    config = make_config(counting(continuous=True), num_envs=1)
    config = config.environment(normalize_actions=normalize, clip_actions=True)
    (chunk,) = make_runner(VectorEnvRunner, config).sample(num_timesteps=2)
    actions = chunk.get_actions()
    assert (np.abs(actions) <= 1).all() and len(np.unique(actions)) > 1
    # Box(-2, 6): normalized, -1 -> -2 and 1 -> 6, so a -> 2 + 4 a. Not normalized: unchanged.
    expected = 2 + 4 * actions if normalize else actions
    # The environment observes the sum of its last action.
    np.testing.assert_allclose(chunk.get_observations()[1:, 3], expected.sum(1), atol=1e-5)


def test_chunks_own_their_arrays_even_if_the_environment_reuses_its_own() -> None:
    env = counting(id="rollouts-test/reusing", lengths=UNEVEN)
    config = make_config(env, num_envs=3)
    config.vectorize = "native"
    ours = make_runner(VectorEnvRunner, config)
    stock = make_runner(StockEnvRunner, make_config(counting(lengths=UNEVEN), num_envs=3))
    ids: dict[str, str] = {}
    samples = [[r.sample(num_timesteps=n) for n in (20, 20, 20)] for r in (ours, stock)]
    # Compared at the end, because later fragments must not overwrite earlier ones.
    for actual, expected in zip(*samples, strict=True):
        assert_same_chunks(actual, expected, ids)
    arrays = [c.observations.data for sample in samples[0] for c in sample]
    assert all(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_writing_into_chunks_does_not_change_the_next_fragment(num_envs: int) -> None:
    config = make_config(counting(lengths=UNEVEN), num_envs=num_envs)
    written, untouched = (make_runner(VectorEnvRunner, config) for _ in range(2))
    ids: dict[str, str] = {}
    for _ in range(3):
        chunks, expected = written.sample(num_timesteps=20), untouched.sample(num_timesteps=20)
        assert_same_chunks(chunks, expected, ids)
        for chunk in chunks:
            for buffer in (chunk.observations, chunk.actions, chunk.rewards):
                buffer.data[:] = 0


def rejoin(samples: list[list[SingleAgentEpisode]]) -> dict[str, list[SingleAgentEpisode]]:
    """Groups chunks by episode and checks that each begins where the last one ended."""
    episodes: dict[str, list[SingleAgentEpisode]] = {}
    for chunk in (chunk for sample in samples for chunk in sample):
        before = episodes.setdefault(chunk.id_, [])
        assert chunk.t_started == (before[-1].t if before else 0)
        assert not (before and before[-1].is_done)
        before.append(chunk)
    return episodes


def test_soft_terminations_close_the_learning_episode_only() -> None:
    env = counting(lengths=[[5, 4]], soft=[2, 5])
    runner = make_runner(VectorEnvRunner, make_config(env, num_envs=1))
    samples = [runner.sample(num_timesteps=n) for n in (1, 3, 5)]
    episodes = [
        (
            np.concatenate([chunk.get_rewards() for chunk in chunks]).tolist(),
            chunks[-1].is_terminated,
            chunks[-1].is_truncated,
            chunks[0].get_observations(0)[2],
        )
        for chunks in rejoin(samples).values()
    ]
    # Learning episodes end at t = 2 and t = 5 of episode 1, which terminates, and at t = 2 and
    # t = 4 of episode 2, which is truncated. The next one begins at the t of that end.
    assert episodes == [
        ([1.0, 2.0], True, False, 0.0),
        ([3.0, 4.0, 5.0], True, False, 2.0),
        ([1.0, 2.0], True, False, 0.0),
        ([3.0, 4.0], False, True, 2.0),
    ]
    metrics = runner.get_metrics()
    # 1 + 2 + 3 + 4 + 5 = 15 and 1 + 2 + 3 + 4 = 10.
    assert metrics["rlssl_episodes"]["return"].peek() == [15.0, 10.0]
    assert metrics["num_episodes"].peek() == 2


def test_a_chunk_does_not_look_back_into_the_learning_episode_before() -> None:
    env = counting(lengths=[[9]], soft=[2])
    config = make_config(env, num_envs=1).env_runners(episode_lookback_horizon=3)
    runner = make_runner(VectorEnvRunner, config)
    runner.sample(num_timesteps=3)
    (chunk,) = runner.sample(num_timesteps=3)
    # The learning episode began at t = 2: only t = 2 lies between its start and the cut at t = 3.
    assert chunk.observations.data[:, 2].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert (chunk.t_started, chunk.observations.lookback, chunk.rewards.lookback) == (1, 1, 1)


def test_learning_rewards_do_not_change_the_score() -> None:
    env = counting(lengths=[[4]], clip=1.5)
    runner = make_runner(VectorEnvRunner, make_config(env, num_envs=1))
    (episode,) = runner.sample(num_episodes=1)
    # min(t, 1.5) for t = 1 to 4; the score is 1 + 2 + 3 + 4.
    assert episode.get_rewards().tolist() == [1.0, 1.5, 1.5, 1.5]
    assert runner.get_metrics()["episode_return_mean"].peek() == 10.0


def naive_stacks(episode: list[SingleAgentEpisode], frame_stack: int) -> np.ndarray:
    """The policy's inputs in one episode, computed from single frames: [T, frame_stack * 4]."""
    frames = np.concatenate([chunk.get_observations()[:-1] for chunk in episode])
    padded = np.concatenate([frames[:1]] * (frame_stack - 1) + [frames])
    return np.stack([padded[t : t + frame_stack].reshape(-1) for t in range(len(frames))])


@pytest.mark.parametrize("frame_stack", [2, 4])
def test_policy_and_learner_see_stacks_that_begin_with_each_episode(frame_stack: int) -> None:
    env = counting(lengths=UNEVEN, soft=[3])
    runner = make_runner(VectorEnvRunner, make_config(env, 3, frame_stack))
    assert runner.get_spaces()[DEFAULT_MODULE_ID][0].shape == (4 * frame_stack,)
    samples = [runner.sample(num_timesteps=n) for n in (5, 9, 1, 30)]
    module = ForcedModule(action_space=gym.spaces.Discrete(3))
    for chunks in rejoin(samples).values():
        stacks = naive_stacks(chunks, frame_stack)
        forced = module.forward_inference({Columns.OBS: torch.from_numpy(stacks)})
        actual = [c.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS) for c in chunks]
        np.testing.assert_allclose(
            np.concatenate(actual), forced[Columns.ACTION_DIST_INPUTS], atol=1e-4
        )
        piece = AddStackedObservations(frame_stack=frame_stack)
        batch = piece(rl_module=None, batch={}, episodes=chunks)
        np.testing.assert_array_equal(np.concatenate(batch[Columns.OBS][(chunks[0].id_,)]), stacks)


@pytest.mark.parametrize("frame_stack", [2, 4])
def test_stacking_in_the_stock_runner_gives_the_same_actions(frame_stack: int) -> None:
    ours, stock = both(counting(lengths=UNEVEN), num_envs=3, frame_stack=frame_stack)
    assert stock.get_spaces() == ours.get_spaces()
    for num_timesteps in (5, 9, 1, 30):
        samples = [runner.sample(num_timesteps=num_timesteps) for runner in (ours, stock)]
        for a, e in zip(*samples, strict=True):
            np.testing.assert_array_equal(a.get_actions(), e.get_actions())
            np.testing.assert_array_equal(a.get_observations(), e.get_observations())


def test_chunks_include_the_frames_of_their_first_stack() -> None:
    runner = make_runner(VectorEnvRunner, make_config(counting(lengths=[[9]]), 1, frame_stack=4))
    chunks = [runner.sample(num_timesteps=2)[0] for _ in range(3)]
    # Column 2 is t. Before the first chunk, the first frame (t = 0) is repeated.
    assert [c.observations.data[:, 2].tolist() for c in chunks] == [
        [0, 0, 0, 0, 1, 2],
        [0, 0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6],
    ]
    assert [c.observations.lookback for c in chunks] == [3, 3, 3]
    # Actions are not padded.
    assert [c.actions.lookback for c in chunks] == [0, 2, 3]


def test_rllib_can_append_its_phantom_row_without_touching_the_next_fragment() -> None:
    runner = make_runner(VectorEnvRunner, make_config(counting(lengths=UNEVEN), num_envs=3))
    chunks = runner.sample(num_timesteps=20)
    lengths = [len(chunk) for chunk in chunks]
    AddOneTsToEpisodesAndTruncate()(rl_module=None, batch={}, episodes=chunks, shared_data={})
    assert [len(chunk) for chunk in chunks] == [length + 1 for length in lengths]
    assert all(chunk.get_rewards(-1) == 0.0 for chunk in chunks)
    following = runner.sample(num_timesteps=20)
    assert all(0.0 not in chunk.rewards.data for chunk in following)


def test_evaluation_runners_build_the_evaluation_split() -> None:
    seen = []

    def make(config: dict[str, Any]) -> CountingEnv:
        seen.append(config)
        return CountingEnv(config)

    register_env("rollouts-test/recording", make)
    config = make_config({"id": "rollouts-test/recording"}, num_envs=1)
    config.in_evaluation = True
    make_runner(VectorEnvRunner, config)
    seed = SamplerSeeds(0, evaluation=True).environment(0, restart=0)
    assert [(c["split"], c["seed"]) for c in seen] == [("eval", seed)]
    # Runners that train have other seeds.
    assert seed != SamplerSeeds(0).environment(0, restart=0)


def test_weights_and_counters_survive_a_round_trip() -> None:
    config = make_config({"id": "CartPole-v1"}, num_envs=1)
    first, second = (make_runner(VectorEnvRunner, config) for _ in range(2))
    second.set_state({**first.get_state(), "weights_seq_no": 3})
    (chunk,) = second.sample(num_timesteps=2)
    assert chunk.get_extra_model_outputs("weights_seq_no").tolist() == [3, 3]
