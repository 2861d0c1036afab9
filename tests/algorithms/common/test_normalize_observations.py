"""``model.normalize_observations``: what sees normalized vectors, and which rows count."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

import rlssl
import rlssl.auxiliary
from rlssl.algorithms.off_policy.algorithm import sampled_observations
from rlssl.batches import take_rows
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.building import build_config
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow
from tests.auxiliary.imitation.recorded import with_demonstrations

#: Algorithm -> functions from an environment to a small config, and from a config to its bench.
ALGORITHMS: dict[str, tuple[Callable[..., Any], Callable[[Any], Bench]]] = {
    "a3c": (small_a3c, A3CBench),
    "ddpg": (small_ddpg, ActorCriticBench),
    "ppo": (small_ppo, Bench),
    "rainbow": (small_rainbow, RainbowBench),
    "sac": (small_sac, ActorCriticBench),
}
#: Losses that need images, which this option does not normalize.
ON_IMAGES = ("rotation", "st_dim")
LOSSES = [
    "no loss",
    *(name for name in AUXILIARY_LOSSES if not name.startswith("test_") and name not in ON_IMAGES),
]

#: Losses that normalize observations by statistics of their own.
NORMALIZING = ("disagreement", "noveld", "rnd")


class Scaled(gym.ObservationWrapper):
    """Multiplies the first element by 1000, and adds 100 to the second."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, env.observation_space.shape)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        changed = observation.copy()
        changed[0] *= 1000.0
        changed[1] += 100.0
        return changed


rlssl.register_env("test/scaled-cartpole", lambda config: Scaled(gym.make("CartPole-v1")))
rlssl.register_env("test/scaled-pendulum", lambda config: Scaled(gym.make("Pendulum-v1")))


def bench_of(algorithm: str, losses: dict[str, Any], normalize: bool, **model: Any) -> Any:
    small, bench = ALGORITHMS[algorithm]
    env = "pendulum" if algorithm in ("sac", "ddpg") else "cartpole"
    config = small(f"test/scaled-{env}").model(normalize_observations=normalize, **model)
    return bench(config.auxiliary(**with_demonstrations(losses, config.env_settings)))


def sampled_by(bench: Any, steps: int = 64) -> list[Any]:
    """New episodes of the runner, with the Learner's weights and statistics."""
    weights = bench.module.get_state(inference_only=True)
    bench.runner.set_state({"rl_module": {"default_policy": weights}})
    episodes: list[Any] = bench.sample(steps)
    return episodes


def count(bench: Any, episodes: list[Any]) -> None:
    """Adds the rows of episodes to the statistics, as an off-policy Algorithm does."""
    bench.learner.normalize_by([bench.module.normalizer.moments(sampled_observations(episodes))])


@pytest.mark.parametrize(
    "algorithm, loss",
    [
        # All losses with one algorithm, and all algorithms with one loss and with none, are fast.
        pytest.param(
            *(algorithm, loss),
            marks=[] if algorithm == "ppo" or loss in ("no loss", "curl") else pytest.mark.slow,
        )
        for algorithm in ALGORITHMS
        for loss in LOSSES
    ],
)
def test_every_loss_of_every_algorithm_trains(algorithm: str, loss: str) -> None:
    losses: dict[str, Any] = {} if loss == "no loss" else {loss: {}}
    bench = bench_of(algorithm, losses, normalize=True)
    episodes = bench.sample()
    if algorithm not in ("ppo", "a3c"):
        count(bench, episodes)
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    bench.update(episodes)
    after = bench.module.state_dict()
    assert all(value.double().isfinite().all() for value in after.values())
    assert any(not before[key].equal(value) for key, value in after.items() if "encoder" in key)
    # Target networks have no statistics of their own, and losses only if they say so.
    assert [key for key in after if key.startswith("normalizer")] == [
        *("normalizer.count", "normalizer.mean", "normalizer.variance")
    ]
    copies = {key for key in after if "normalizer" in key and not key.startswith("normalizer")}
    own = f"auxiliary.{loss}.normalizer." if loss in NORMALIZING else "normalizer."
    assert all(key.startswith(own) for key in copies)


@pytest.mark.parametrize(
    "algorithm, loss",
    [*(("ppo", loss) for loss in LOSSES[1:] if loss not in NORMALIZING), ("sac", "curl")],
)
def test_losses_read_what_the_rl_loss_reads(algorithm: str, loss: str) -> None:
    """The same numbers as without the option on rows that were normalized before."""
    raw, plain = (bench_of(algorithm, {loss: {}}, normalize=on) for on in (True, False))
    episodes = raw.sample()
    count(raw, episodes)
    demonstrations = getattr(plain.module.auxiliary[loss], "_demonstrations", None)
    if demonstrations is not None:
        frames = torch.from_numpy(demonstrations._frames)
        demonstrations._frames = raw.module.normalizer(frames).numpy()
    # PPO's Learners take windows from the rows that `whole_batch` sees.
    rows = raw.learner.run_pipeline(episodes) if algorithm == "ppo" else raw.batch(episodes)
    normalized = {
        key: raw.module.normalizer(value) if key in (Columns.OBS, Columns.NEXT_OBS) else value
        for key, value in rows.items()
    }
    found, expected = (
        bench.learner.compute_auxiliary_loss(bench.learner.whole_batch(dict(given)))
        for bench, given in ((raw, rows), (plain, normalized))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", NORMALIZING)
def test_losses_with_their_own_normalization_read_raw_observations(loss: str) -> None:
    raw, plain = (bench_of("ppo", {loss: {}}, normalize=on) for on in (True, False))
    episodes = raw.sample()
    count(raw, episodes)
    # The pipeline adds a row to each episode, so each bench gets a copy.
    found, expected = (
        bench.learner.compute_auxiliary_loss(bench.batch(copy.deepcopy(episodes)))
        for bench in (raw, plain)
    )
    torch.testing.assert_close(found, expected)


def test_icm_with_its_own_normalization_reads_raw_observations() -> None:
    losses = {"icm": {"variant": "burda"}}
    raw, plain = (bench_of("ppo", losses, normalize=on) for on in (True, False))
    episodes = raw.sample()
    count(raw, episodes)
    batch = raw.batch(episodes)
    kept = {key: batch[key] for key in (Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS)}
    found = raw.module.auxiliary["icm"].losses(kept)
    # `raw` has seen the batch already, and normalizes it by its own moments; `plain` has not.
    plain.module.auxiliary["icm"].normalizer.observe(batch[Columns.OBS])
    expected = plain.module.auxiliary["icm"].losses(kept)
    torch.testing.assert_close(found["forward"], expected["forward"])


def ratios_of_first_minibatch(bench: Any, episodes: list[Any]) -> Tensor:
    """[N], new / old probability of each action in the first minibatch of an update."""
    seen: list[Tensor] = []
    compute = bench.learner.compute_rl_loss

    def spy(batch: Any, fwd_out: Any) -> Tensor:
        policy = bench.module.action_dist_cls.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp = policy.logp(batch[Columns.ACTIONS])
        seen.append((logp - batch[Columns.ACTION_LOGP]).detach().exp())
        loss: Tensor = compute(batch, fwd_out)
        return loss

    bench.learner.compute_rl_loss = spy
    bench.update(episodes)
    bench.learner.compute_rl_loss = compute
    return seen[0]


@pytest.mark.parametrize("hidden", [[16], [16, 2048]], ids=["numpy policy", "torch policy"])
def test_ppo_learns_with_the_statistics_that_actions_were_sampled_with(hidden: list[int]) -> None:
    bench = bench_of("ppo", {}, normalize=True, encoder_config={"hidden": hidden})
    for _ in range(3):
        episodes = sampled_by(bench)
        rows = sampled_observations(episodes)
        before = bench.module.normalizer.statistics()
        ratios = ratios_of_first_minibatch(bench, episodes)
        torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=1e-5)
        after = bench.module.normalizer.statistics()
        # The statistics change after the update, and each row counts once.
        assert after["count"] == before["count"] + len(rows)
        assert not np.array_equal(after["mean"], before["mean"])
    # Since the second update, observations have been normalized.
    assert float(bench.module.normalizer(torch.as_tensor(rows)).abs().max()) <= 10


@pytest.mark.parametrize(
    "algorithm, frame_stack, lstm",
    [("ppo", 1, None), ("ppo", 3, {"hidden": 8, "sequence_length": 4}), ("a3c", 3, None)],
)
def test_statistics_are_those_of_all_sampled_frames(
    algorithm: str, frame_stack: int, lstm: Any
) -> None:
    bench = bench_of(algorithm, {"icm": {}}, True, frame_stack=frame_stack, lstm=lstm)
    rows = []
    for _ in range(4):
        episodes = sampled_by(bench)
        rows.append(sampled_observations(episodes))
        bench.update(episodes)
    every = np.concatenate(rows).astype(np.float64)
    assert every.shape[1:] == (4,)
    found = bench.module.normalizer.statistics()
    assert found["count"] == len(every)
    np.testing.assert_allclose(found["mean"], every.mean(0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["variance"], every.var(0), rtol=1e-9)


def test_sampled_observations_hold_each_frame_once() -> None:
    bench = bench_of("sac", {}, normalize=True, frame_stack=3)
    first, second = bench.sample(10), bench.sample(10)
    # Two environments with five steps each; the lookback of the second chunks does not count.
    rows = sampled_observations([*first, *second])
    assert len(rows) == 20 and len(np.unique(rows, axis=0)) == 20
    whole = [episode.get_observations(slice(0, len(episode))) for episode in (*first, *second)]
    np.testing.assert_array_equal(rows, np.concatenate(whole))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_runner_learner_and_export_act_alike_on_badly_scaled_vectors(
    algorithm: str, tmp_path: Any
) -> None:
    bench = bench_of(algorithm, {}, normalize=True)
    episodes = bench.sample()
    count(bench, episodes)
    bench.update(episodes)
    sampled_by(bench)
    ours, theirs = bench.module.normalizer, bench.runner.module.normalizer
    for name in ("count", "mean", "variance", "shift", "scale", "low", "high"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    rows = {Columns.OBS: torch.as_tensor(sampled_observations(episodes))}
    with torch.no_grad():
        for key, value in bench.module.eval()._forward_inference(rows).items():
            assert torch.equal(value, bench.runner.module._forward_inference(rows)[key]), key
    read = ours(rows[Columns.OBS])
    assert float(read.mean(0).abs().max()) < 1.0 and float(read.abs().max()) <= 10.0


def test_numpy_policy_equals_the_torch_policy() -> None:
    bench = bench_of("ppo", {}, normalize=True)
    episodes = bench.sample()
    bench.update(episodes)
    sampled_by(bench)
    rows = sampled_observations(episodes)
    policy = bench.runner.module.numpy_policy(2)
    assert policy is not None
    with torch.no_grad():
        expected = bench.runner.module._forward_inference({Columns.OBS: torch.as_tensor(rows)})
    np.testing.assert_allclose(
        policy(rows), expected[Columns.ACTION_DIST_INPUTS], rtol=1e-5, atol=1e-6
    )


def test_statistics_survive_a_state_exactly() -> None:
    bench, other = (bench_of("ppo", {}, normalize=True) for _ in range(2))
    bench.update(bench.sample())
    other.module.set_state(bench.module.get_state())
    for name, buffer in bench.module.named_buffers():
        assert torch.equal(buffer, dict(other.module.named_buffers())[name]), name
    # 1 / 3 has no float32; RLlib alone would round it.
    bench.module.normalizer.mean.fill_(1 / 3)
    other.module.set_state(bench.module.get_state())
    assert other.module.normalizer.mean.tolist() == [1 / 3] * 4


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_states_without_statistics_still_load(algorithm: str) -> None:
    old, off = (bench_of(algorithm, {}, normalize=False) for _ in range(2))
    del old.config.network["normalize_observations"]
    assert not old.config.normalizes_observations and off.module.normalizer is None
    state = old.module.get_state()
    assert not [key for key in state if "normalizer" in key]
    off.module.set_state(state)


def test_images_are_refused_and_vectors_beside_images_are_normalized() -> None:
    with pytest.raises(SpecError, match=r"model\.normalize_observations needs vectors"):
        small_ppo("minatar/Breakout").model(
            encoder_config={}, normalize_observations=True
        ).validate()
    rlssl.register_env("test/both", lambda config: _Both())
    for losses in ({}, {"icm": {"variant": "burda"}}):
        config = small_ppo("test/both").auxiliary(**losses)
        bench = Bench(config.model(encoder_config={}, normalize_observations=True))
        bench.update(bench.sample())
        assert bench.module.normalizer.mean.shape == (2,)
        batch = bench.batch(bench.sample())[Columns.OBS]
        found = bench.module.normalizer(batch)
        assert found["image"] is batch["image"]
        assert not torch.equal(found["vector"], batch["vector"])


class _Both(gym.Env):
    observation_space = gym.spaces.Dict(
        {
            "image": gym.spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "vector": gym.spaces.Box(-9, 9, (2,)),
        }
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self._observation(), 1.0, False, self._steps == 10, {}

    def _observation(self) -> dict[str, np.ndarray]:
        image = self.np_random.integers(0, 256, (3, 8, 8), np.uint8)
        return {"image": image, "vector": self.np_random.uniform(4, 8, 2).astype(np.float32)}


def test_two_learners_hold_the_moments_of_both() -> None:
    """Each Learner adds the moments of both; `test_distributed` has real processes."""
    bench = bench_of("ppo", {}, normalize=True)
    rows = torch.as_tensor(sampled_observations(bench.sample())).float()
    halves = [{Columns.OBS: take_rows(rows, slice(k, None, 2))} for k in (0, 1)]
    bench.learner.normalize_by([bench.learner.moments_of(half) for half in halves])
    np.testing.assert_allclose(
        bench.module.normalizer.mean, rows.double().mean(0), rtol=0, atol=1e-9
    )


def test_padding_rows_do_not_count() -> None:
    bench = bench_of("ppo", {}, normalize=True)
    rows = {
        Columns.OBS: torch.tensor([[1.0] * 4, [99.0] * 4, [3.0] * 4]),
        Columns.LOSS_MASK: torch.tensor([True, False, True]),
    }
    assert bench.learner.moments_of(rows).mean.tolist() == [2.0] * 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spec_and_builder_set_the_option(algorithm: str) -> None:
    env = "Pendulum-v1" if algorithm in ("sac", "ddpg") else "CartPole-v1"
    document = {"algorithm": algorithm, "env": env}
    spec = load_spec({**document, "model": {"normalize_observations": True}})
    assert build_config(spec).normalizes_observations
    assert not build_config(load_spec(document)).normalizes_observations
    with pytest.raises(SpecError, match=r"model\.normalize_observations must be true or false"):
        load_spec({**document, "model": {"normalize_observations": "yes"}})
    with pytest.raises(SpecError, match=r"model\.normalize_observations must be true, false or"):
        small_ppo().model(normalize_observations="yes")
    options = {"min_std": 0.01, "clip": 5.0}
    config = build_config(load_spec({**document, "model": {"normalize_observations": options}}))
    assert config.network["normalize_observations"] == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0}, r"model\.normalize_observations\.clip must be a number > 0; got 0"),
        ({"min_std": "a"}, r"normalize_observations\.min_std must be a number >= 0; got 'a'"),
        ({"min_sdt": 1}, r"'model\.normalize_observations\.min_sdt'.*min_std"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        small_ppo().model(normalize_observations=options)


def test_options_reach_the_module() -> None:
    bench = bench_of("sac", {}, normalize=True)
    config = small_sac("test/scaled-pendulum")
    config.model(normalize_observations={"min_std": 2.0, "clip": 0.5})
    bounded = ActorCriticBench(config)
    for each in (bench, bounded):
        count(each, each.sample())
    row = torch.full((1, 3), 1e6)
    # The standard deviation of these angles is below 1; of 1e6, all is cut off.
    assert bench.module.normalizer(row).tolist() == [[10.0] * 3]
    assert bounded.module.normalizer(row).tolist() == [[0.5] * 3]
