"""PPO: its batch, loss, KL rule and counts."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray import tune
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.algorithms.ppo.ppo_learner import kl_coefficient_factor
from rlssl.connectors.intrinsic_reward import TOTAL_REWARDS
from rlssl.errors import SpecError
from rlssl.losses import generalized_advantage
from rlssl.rollouts.stock_env_runner import StockEnvRunner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner
from tests.algorithms.bench import Bench, small_ppo


def raw_episodes(bench: Bench, episodes: list[Any]) -> list[dict[str, np.ndarray]]:
    """Copies of the episodes' data, before connectors extend it."""
    return [
        {
            "obs": np.array(episode.get_observations()),
            "actions": np.array(episode.get_actions()),
            "rewards": np.array(episode.get_rewards()),
            "terminated": episode.is_terminated,
        }
        for episode in episodes
    ]


def rows_by_observation(batch: dict[str, Any]) -> dict[bytes, int]:
    """The index of an observation's row; the batch is shuffled."""
    return {row.numpy().tobytes(): index for index, row in enumerate(batch[Columns.OBS])}


@pytest.mark.parametrize("stock", [False, True])
def test_episodes_have_their_env_steps_where_a_batch_takes_several_samples(stock: bool) -> None:
    config = PPOConfig().environment("CartPole-v1").debugging(seed=0)
    # A sample is 2 * 16 steps, and a batch takes 8 of them.
    config.env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
    config.training(train_batch_size_per_learner=256, minibatch_size=64, num_epochs=1)
    if stock:
        config.env_runners(env_to_module_connector=lambda *_, **__: FlattenObservations())
    algorithm = config.build_algo()
    try:
        assert isinstance(algorithm.env_runner, StockEnvRunner if stock else VectorEnvRunner)
        end = 0
        for _ in range(2):
            begin, result = end, algorithm.train()
            end = result["env_steps"]
            steps = [env_steps for env_steps, *_ in result["episodes"]]
            assert steps == sorted(steps) and begin < steps[0] and end - 100 < steps[-1] <= end
            # Both environments step in turn: an episode of n steps takes at least 2 n - 1.
            if begin == 0:
                assert all(at >= 2 * length - 1 for at, _, length, _ in result["episodes"])
    finally:
        algorithm.stop()


@pytest.mark.parametrize("normalize", [False, True])
def test_batch_equals_a_slow_reference_episode_by_episode(normalize: bool) -> None:
    bench = Bench(small_ppo(normalize_advantages=normalize))
    episodes = bench.sample(120)
    raw = raw_episodes(bench, episodes)
    batch = bench.batch(episodes)
    rows = rows_by_observation(batch)
    assert len(rows) == len(batch[Columns.REWARDS]) == sum(len(e["rewards"]) for e in raw)
    assert Columns.LOSS_MASK not in batch
    expected_advantages = np.zeros(len(rows))
    for episode in raw:
        with torch.no_grad():
            values = bench.module.compute_values({Columns.OBS: torch.as_tensor(episode["obs"])})
        values, running = values.numpy(), 0.0
        for t in reversed(range(len(episode["rewards"]))):
            is_last = t == len(episode["rewards"]) - 1
            bootstrap = 0.0 if is_last and episode["terminated"] else values[t + 1]
            delta = episode["rewards"][t] + 0.99 * bootstrap - values[t]
            running = delta + (0.0 if is_last else 0.99 * 0.95 * running)
            row = rows[episode["obs"][t].tobytes()]
            expected_advantages[row] = running
            assert batch[Columns.ACTIONS][row] == episode["actions"][t]
            target = batch[Postprocessing.VALUE_TARGETS][row].item()
            assert target == pytest.approx(running + values[t], abs=1e-4)
    if normalize:
        deviation = expected_advantages.std(ddof=1)
        expected_advantages = (expected_advantages - expected_advantages.mean()) / deviation
    np.testing.assert_allclose(batch[Postprocessing.ADVANTAGES], expected_advantages, atol=1e-4)


def test_a_batch_of_one_row_keeps_its_advantage() -> None:
    # One row has no standard deviation; torch's is nan.
    found = []
    for normalize in (True, False):
        config = small_ppo(normalize_advantages=normalize)
        bench = Bench(config.env_runners(num_envs_per_env_runner=1))
        found.append(bench.batch(bench.sample(1))[Postprocessing.ADVANTAGES])
    assert found[0].shape == (1,) and found[0].isfinite().all()
    torch.testing.assert_close(found[0], found[1])


def test_next_observation_is_the_episodes_own_never_a_reset() -> None:
    bench = Bench(small_ppo().auxiliary(icm={}))
    episodes = bench.sample(120)
    raw = raw_episodes(bench, episodes)
    batch = bench.batch(episodes)
    rows = rows_by_observation(batch)
    assert any(episode["terminated"] for episode in raw)
    for episode in raw:
        for t in range(len(episode["rewards"])):
            row = rows[episode["obs"][t].tobytes()]
            np.testing.assert_array_equal(batch[Columns.NEXT_OBS][row], episode["obs"][t + 1])


def test_intrinsic_reward_enters_the_advantage_and_leaves_rewards_extrinsic() -> None:
    bench = Bench(small_ppo().auxiliary(icm={"intrinsic_coeff": 0.5, "reward_clip": None}))
    batch = bench.batch(bench.sample())
    assert set(batch[Columns.REWARDS].tolist()) == {1.0}
    bonus = batch[TOTAL_REWARDS] - batch[Columns.REWARDS]
    icm = bench.module.auxiliary["icm"]
    torch.testing.assert_close(bonus, 0.5 * icm.intrinsic_reward(batch), atol=1e-6, rtol=1e-4)


def test_pathaks_clip_bounds_the_sum() -> None:
    bench = Bench(small_ppo().auxiliary(icm={"intrinsic_coeff": 100.0}))
    batch = bench.batch(bench.sample())
    assert batch[TOTAL_REWARDS].max() <= 1.0


def test_first_minibatch_has_ratio_one_and_no_kl() -> None:
    bench = Bench(small_ppo(num_epochs=1, minibatch_size=64, entropy_coeff=0.1))
    batch = bench.batch(bench.sample())
    forward = bench.learner.module["default_policy"].forward_train(batch)
    loss = bench.learner.compute_rl_loss(batch, forward)
    values = bench.module.compute_values(batch)
    critic = 0.5 * (values - batch[Postprocessing.VALUE_TARGETS]).square().mean()
    probabilities = forward[Columns.ACTION_DIST_INPUTS].softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1).mean()
    # All ratios are 1: the surrogate is minus the mean advantage, 0 after normalization.
    expected = 0.0 + 0.5 * critic - 0.1 * entropy
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    "kl, factor", [(0.0149, 1.0), (0.0151, 2.0), (0.0067, 1.0), (0.0066, 0.5), (0.01, 1.0)]
)
def test_kl_rule_has_the_papers_thresholds(kl: float, factor: float) -> None:
    # Target 0.01: doubled above 0.015, halved below 0.00667.
    assert kl_coefficient_factor(kl, 0.01) == factor


def test_kl_penalty_adapts_and_is_checkpointed() -> None:
    bench = Bench(small_ppo(variant="adaptive_kl", kl_target=1e-9, kl_coeff=1.0))
    bench.update(bench.sample())
    assert bench.module.kl_coeff.item() == 2.0
    assert bench.module.state_dict()["kl_coeff"].item() == 2.0


def test_kl_penalty_recovers_after_many_halvings() -> None:
    bench = Bench(small_ppo(variant="adaptive_kl", kl_target=1e9))
    bench.module.kl_coeff.fill_(1e-4)
    bench.update(bench.sample())
    assert bench.module.kl_coeff.item() == pytest.approx(1e-4)


def test_clip_variant_does_not_change_the_kl_coefficient() -> None:
    bench = Bench(small_ppo(variant="clip", kl_target=1e-9))
    bench.update(bench.sample())
    assert bench.module.kl_coeff.item() == 1.0


@pytest.mark.parametrize(
    "setting, value",
    [
        ("use_kl_loss", True),
        ("vf_clip_param", 10.0),
        ("grad_clip_by", "value"),
    ],
)
def test_setting_that_would_be_ignored_is_refused(setting: str, value: Any) -> None:
    config = small_ppo()
    setattr(config, setting, value)
    with pytest.raises(SpecError, match=setting.removeprefix("num_")):
        config.validate()


def test_runner_is_chosen_again_when_a_callback_is_added() -> None:
    config = small_ppo()
    config.validate()
    assert config.env_runner_cls is VectorEnvRunner
    config.callbacks(on_episode_step=print)
    config.validate()
    assert config.env_runner_cls is StockEnvRunner


def test_minibatches_hold_only_valid_rows() -> None:
    bench = Bench(small_ppo(num_epochs=3, minibatch_size=16, variant="both"))
    bench.update(bench.sample())
    assert len(bench.learner.minibatch_kls) == 3 * round(bench.env_steps / 16)


def test_shared_encoder_is_one_and_separate_ones_are_two() -> None:
    shared = Bench(small_ppo().model(shared_encoder=True)).module
    separate = Bench(small_ppo().model(shared_encoder=False)).module
    assert not hasattr(shared, "critic_encoder")
    assert separate.critic_encoder is not separate.encoder


def test_update_moves_policy_and_critic() -> None:
    bench = Bench(small_ppo())
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    bench.update(bench.sample())
    still = [k for k, v in bench.module.state_dict().items() if torch.equal(v, before[k])]
    assert still == ["kl_coeff"]


def test_config_survives_rllibs_round_trip_through_a_dict() -> None:
    # Tune passes a config to an Algorithm in this way.
    config = (
        small_ppo({"id": "CartPole-v1", "max_episode_steps": 30}, variant="both")
        .auxiliary(icm={"coeff": 0.5})
        .evaluation(every_env_steps=500, episodes=3)
    )
    config.validate()
    copy = PPOConfig().update_from_dict(config.to_dict())
    for key in ("env", "env_config", "network", "auxiliary_losses", "seeded_evaluation", "variant"):
        assert getattr(copy, key) == getattr(config, key), key
    assert copy.train_batch_size_per_learner == 64
    assert copy.env_runner_cls is config.env_runner_cls


class OneStep(gym.Env):
    """An environment whose episodes end at once."""

    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any) -> None:
        self.config = config

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(4, np.float32), 1.0, False, True, {}


def test_environment_takes_a_class_and_a_name_registered_with_tune() -> None:
    tune.register_env("tune-one-step", lambda config: OneStep(config))
    for env in (OneStep, "tune-one-step"):
        bench = Bench(small_ppo(env))
        assert all(len(episode) == 1 for episode in bench.sample(8))


def test_model_builder_leaves_rllibs_dict_of_that_name_usable() -> None:
    config = PPOConfig()
    assert config.model["custom_model"] is None
    assert config.model(encoder="mlp", frame_stack=2) is config
    assert config.network["frame_stack"] == 2
    with pytest.raises(SpecError, match=r"unknown option 'model\.enc'"):
        config.model(enc="mlp")


def test_defaults_named_in_training_arguments() -> None:
    arguments = type(small_ppo()).training_arguments()
    assert "lr" in arguments and "rllib" not in arguments and "self" not in arguments


@pytest.mark.parametrize(
    "training, message",
    [
        ({"variant": "clipped"}, "training.variant must be one of"),
        ({"gamma": 1.5}, "training.gamma must be >= 0 and <= 1; got 1.5."),
        ({"clip_param": 0.0}, "training.clip_param must be > 0; got 0.0."),
        ({"lr": [[5, 1.0], [0, 1.0]]}, "training.lr needs env_steps >= 0 in ascending order"),
    ],
)
def test_bad_settings_name_key_and_value(training: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        small_ppo(**training).validate()
    assert message in str(error.value)


def test_one_step_advantage_by_hand() -> None:
    # delta = 1 + 0.9 * 2 - 0.5 = 2.3; the episode ended, so the advantage is delta.
    one = np.array([1.0])
    advantage = generalized_advantage(
        one, 0.5 * one, 2 * one, 0 * one, one, gamma=0.9, lambda_=0.95
    )
    assert advantage[0] == pytest.approx(2.3)
