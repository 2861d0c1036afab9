"""Rules for every auxiliary loss, over the registry of losses."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

import rlssl.auxiliary  # noqa: F401  (registers)
from rlssl.algorithms.common.auxiliary_learner import MAX_REACH_TRIES, trainable
from rlssl.auxiliary import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.batches import take_rows
from rlssl.errors import NonFiniteUpdateError, SpecError
from rlssl.registry import AUXILIARY_LOSSES, register_auxiliary_loss
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    on_pixels,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow
from tests.auxiliary.imitation.recorded import with_demonstrations

#: Algorithm -> functions from losses to a small config, and from a config to its bench.
ALGORITHMS: dict[str, tuple[Callable[..., Any], Callable[[Any], Bench]]] = {
    "a3c": (small_a3c, A3CBench),
    "ppo": (small_ppo, Bench),
    "rainbow": (small_rainbow, RainbowBench),
    "sac": (small_sac, ActorCriticBench),
    "ddpg": (small_ddpg, ActorCriticBench),
}

#: Losses that need images.
ON_IMAGES = {"rotation", "st_dim"}

#: Options that are tested besides a loss's defaults.
EXTRA_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "atc": [
        {"delta": 3, "view_probability": 0.5},
        {"delta": 0, "hidden": 0},
        {"shuffled_positives": True},
    ],
    "arrow_of_time": [{"delta": 2, "shuffled_positives": True}],
    "autoencoder": [{"variant": "vae"}, {"shuffled_positives": True}],
    "barlow_twins": [{"shuffled_positives": True}],
    "behavior_cloning": [{"rows": 12}],
    "bisimulation": [
        {"variant": "paper", "transition": "probabilistic"},
        {"transition": "ensemble", "mask_terminals": True, "normalize_rewards": True},
        {"features": "own"},
        {"shuffled_positives": True},
    ],
    "deepmdp": [
        {"decoder": "next_observation", "gradient_penalty": 1.0, "transition": "probabilistic"},
        {"features": "own", "decoder": "observation"},
    ],
    "cpc": [
        {"actions": True},
        {"context": 1, "steps": 1},
        {"shuffled_positives": True},
    ],
    "curl": [
        {"variant": "atari"},
        {"variant": "atari", "trained_layernorm": True},
        {"shuffled_positives": True},
    ],
    "spr": [{"steps": 2, "distance": "l2", "shuffled_positives": True}],
    "disagreement": [{"features": "shared"}],
    "episodic_count": [{"first_only": False}],
    "frame_order": [{"delta": 2, "shuffled_positives": True}],
    "gail": [
        {"features": "shared", "states": True, "normalize": True, "bonus_when": "stored"},
        {"gradient_penalty": 1.0, "hidden": (8,), "reward": "log_d"},
    ],
    "icm": [
        {"variant": "pathak", "features": "shared"},
        {"variant": "pathak", "features": "random"},
        {"variant": "burda"},
        {"variant": "burda", "features": "own"},
        {"variant": "burda", "features": "shared"},
    ],
    "inverse_dynamics": [{"shuffled_positives": True}],
    "mico": [{"normalize_rewards": True}, {"shuffled_positives": True}],
    "simsr": [{"transition": "ensemble", "reward_scale": 0.1}, {"shuffled_positives": True}],
    "rnd": [{"update_share": 0.5}],
    "moco": [{"mask_equal": False}, {"mask_episode": True}, {"shuffled_positives": True}],
    "nt_xent": [{"shuffled_positives": True}],
    "vicreg": [{"shuffled_positives": True}],
    "time_contrastive": [{"near": 1, "far": 3, "farthest": 4, "shuffled_positives": True}],
    "rotation": [{"shuffled_positives": True}],
    "st_dim": [
        {"delta": 2, "layer": 2, "places": 5, "same_episode": False},
        {"shuffled_positives": True},
    ],
    "temporal_distance": [
        {"classes": ((1, 1), (2, 5))},
        {"shuffled_positives": True},
    ],
}


def is_fast(algorithm: str, name: str, options: dict[str, Any]) -> bool:
    """PPO with all losses and options, SAC with all losses, other algorithms with CURL and ICM."""
    return algorithm == "ppo" or (not options and (algorithm == "sac" or name in ("curl", "icm")))


CASES = [
    pytest.param(
        *(algorithm, name, options),
        id="-".join([algorithm, name, *map(str, options.values())]),
        marks=[] if is_fast(algorithm, name, options) else pytest.mark.slow,
    )
    for algorithm in ALGORITHMS
    for name in AUXILIARY_LOSSES
    if not name.startswith("test_")
    for options in [{}, *EXTRA_OPTIONS.get(name, [])]
]


@functools.cache
def built(algorithm: str, name: str, options: tuple[tuple[str, Any], ...]) -> Bench:
    """A Learner with the loss, for tests that do not change it."""
    return bench_of(algorithm, {name: dict(options)})


def bench_of(algorithm: str, losses: dict[str, Any], seed: int = 0) -> Bench:
    """A Learner with losses; on images if one of them needs images."""
    _, bench = ALGORITHMS[algorithm]
    config = small_config(algorithm, on_images=bool(ON_IMAGES & losses.keys()))
    losses = with_demonstrations(losses, config.env_settings)
    return bench(config.debugging(seed=seed).set_auxiliary(losses))


def small_config(algorithm: str, *, on_images: bool) -> Any:
    small, _ = ALGORITHMS[algorithm]
    if not on_images:
        return small()
    if algorithm in ("sac", "ddpg"):
        return on_pixels(small("test/dot"))
    return small("minatar/Breakout").model(encoder_config={})


def gradient_norms(loss: Tensor, parameters: Sequence[Tensor]) -> list[float]:
    if not loss.requires_grad:
        return [0.0] * len(parameters)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [0.0 if g is None else float(g.abs().sum()) for g in gradients]


@pytest.mark.parametrize("algorithm, name, options", CASES)
def test_gradient_reaches_exactly_what_the_loss_declares(
    algorithm: str, name: str, options: dict[str, Any]
) -> None:
    bench = built(algorithm, name, tuple(options.items()))
    loss = bench.module.auxiliary[name]
    batch = bench.batch(bench.sample())
    mean = bench.learner.compute_auxiliary_loss(batch)
    own = trainable(loss)
    trained = trainable(bench.module.encoder)
    if loss.trains == "policy":
        trained = bench.module.policy_parameters()
    everything = trainable(bench.module)
    norms = dict(zip(everything, gradient_norms(mean, everything), strict=True))
    assert all(norms[p] > 0 for p in own)
    assert (sum(norms[p] for p in trained) > 0) == (loss.trains in ("encoder", "policy"))
    assert sum(norms.values()) == pytest.approx(sum(norms[p] for p in [*own, *trained]))


@pytest.mark.parametrize("algorithm, name, options", CASES)
def test_zero_coefficients_equal_no_loss_bit_for_bit(
    algorithm: str, name: str, options: dict[str, Any]
) -> None:
    zero = {**options, "coeff": 0.0, "intrinsic_coeff": 0.0}
    expected = without_losses(algorithm, name in ON_IMAGES)
    found = trained_state(bench_of(algorithm, {name: zero}))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key


@functools.cache
def without_losses(algorithm: str, on_images: bool) -> dict[str, Tensor]:
    config = small_config(algorithm, on_images=on_images)
    return trained_state(ALGORITHMS[algorithm][1](config))


def trained_state(bench: Bench) -> dict[str, Tensor]:
    """The state without the losses' parameters, after two updates of a new Learner."""
    # Building the Learner has seeded all global generators, which later code draws from.
    for _ in range(2):
        bench.update(bench.sample())
    state = bench.module.state_dict()
    return {key: value for key, value in state.items() if not key.startswith("auxiliary")}


@pytest.mark.parametrize("algorithm, name, options", CASES)
def test_masked_rows_are_never_seen(algorithm: str, name: str, options: dict[str, Any]) -> None:
    bench = built(algorithm, name, tuple(options.items()))
    batch = bench.batch(bench.sample())
    kept = torch.arange(len(batch[Columns.REWARDS])) % 3 > 0
    spoiled = tree.map_structure(torch.clone, batch)
    for value in tree.flatten(spoiled):
        value[~kept] = 77
    compute = bench.learner.compute_auxiliary_loss
    only_kept = compute(take_rows(batch, kept))
    masked = compute({**spoiled, Columns.LOSS_MASK: kept})
    assert torch.equal(only_kept, masked)


@pytest.mark.parametrize("algorithm, name, options", CASES)
def test_weights_of_a_loss_are_only_in_the_learner(
    algorithm: str, name: str, options: dict[str, Any]
) -> None:
    bench = built(algorithm, name, tuple(options.items()))
    sent = bench.module.get_state(inference_only=True)
    assert not any(key.startswith("auxiliary") for key in sent)
    assert not any(key.startswith("auxiliary") for key in bench.runner.module.state_dict())
    has_state = bool(bench.module.auxiliary[name].state_dict())
    in_learner = any(key.startswith(f"auxiliary.{name}") for key in bench.module.state_dict())
    assert in_learner == has_state


@pytest.mark.parametrize("algorithm, name, options", CASES)
def test_state_of_a_loss_survives_save_and_restore(
    algorithm: str, name: str, options: dict[str, Any]
) -> None:
    trained = bench_of(algorithm, {name: options})
    trained.update(trained.sample())
    restored = bench_of(algorithm, {name: options}, seed=9)
    restored.learner.set_state(trained.learner.get_state())
    for key, value in trained.module.state_dict().items():
        assert torch.equal(value, restored.module.state_dict()[key]), key
    for bench in (trained, restored):
        # One of the RL parameters, and one of the loss's heads.
        least = 1 + bool(trainable(bench.module.auxiliary[name]))
        assert len(bench.learner.get_optimizers_for_module("default_policy")) >= least
    moments = [adam_moments(bench) for bench in (trained, restored)]
    assert moments[0] and all(map(torch.equal, *moments))


def adam_moments(bench: Bench) -> list[Tensor]:
    """Adam's running means of all parameters, heads included."""
    optimizers = [o for _, o in bench.learner.get_optimizers_for_module("default_policy")]
    return [state["exp_avg"] for optimizer in optimizers for state in optimizer.state.values()]


class _Detached(AuxiliaryLoss):
    reads = frozenset({Columns.OBS})

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.head = torch.nn.Linear(int(self.encoder.output_dim), 1)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"square": self.head(self.encoder(batch[Columns.OBS]).detach()).square().squeeze(-1)}


class _Zero(AuxiliaryLoss):
    reads = frozenset({Columns.OBS})

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"zero": 0.0 * self.encoder(batch[Columns.OBS]).sum(-1)}


class _Scalar(AuxiliaryLoss):
    reads = frozenset({Columns.OBS})

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"norm": self.encoder(batch[Columns.OBS]).square().mean()}


class _Exploding(AuxiliaryLoss):
    reads = frozenset({Columns.OBS})

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"inf": self.encoder(batch[Columns.OBS]).sum(-1) * float("inf")}


class _TwoNames(_Scalar):
    @dataclasses.dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        pass

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {"norm": self.encoder(batch[Columns.OBS]).square().mean(-1)}

    def metrics(self, batch: Any) -> dict[str, Tensor]:
        return {"norm": torch.zeros(())}


for _name, _loss in {
    "test_detached": _Detached,
    "test_zero": _Zero,
    "test_scalar": _Scalar,
    "test_exploding": _Exploding,
    "test_two_names": _TwoNames,
}.items():
    register_auxiliary_loss(_name)(_loss)


@pytest.mark.parametrize("name", ["test_detached", "test_zero"])
def test_loss_that_changes_no_encoder_gradient_is_an_error_not_a_no_op(name: str) -> None:
    bench = Bench(small_ppo().auxiliary(**{name: {}}))
    with pytest.raises(ValueError, match="declares trains='encoder', but its gradient did not"):
        for _ in range(MAX_REACH_TRIES):
            bench.update(bench.sample())


def test_reduced_loss_is_refused() -> None:
    bench = Bench(small_ppo().auxiliary(test_scalar={}))
    with pytest.raises(ValueError, match=r"'norm' of shape \(\); it must be per-sample, \[N\]"):
        bench.update(bench.sample())


def test_key_of_both_a_loss_and_a_metric_is_refused() -> None:
    bench = Bench(small_ppo().auxiliary(test_two_names={}))
    with pytest.raises(ValueError, match="gives \\['norm'\\] as a loss and as a metric"):
        bench.update(bench.sample())


def test_non_finite_updates_are_skipped_and_counted_then_fail(tmp_path: Path) -> None:
    config = small_ppo(num_epochs=1).auxiliary(test_exploding={})
    config.run_folder = str(tmp_path)
    bench = Bench(config)
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    result = bench.update(bench.sample())
    # Each minibatch of about 32 rows is one update; all are skipped.
    assert result["faults"]["nonfinite_updates"].peek() == round(bench.env_steps / 32)
    assert all(torch.equal(value, before[key]) for key, value in bench.module.state_dict().items())
    with pytest.raises(NonFiniteUpdateError, match="10 updates in a row") as error:
        for _ in range(5):
            bench.update(bench.sample())
    (saved,) = tmp_path.iterdir()
    assert str(saved) in str(error.value) and "none of its columns" in str(error.value)
    assert np.load(saved)[Columns.OBS].shape[1:] == (4,)


def test_features_of_a_loss_do_not_start_as_a_copy_of_the_encoder() -> None:
    module = Bench(small_ppo().auxiliary(icm={"encoder_config": {"hidden": [16]}})).module
    features = module.auxiliary["icm"].features.state_dict()
    encoder = module.encoder.state_dict()
    assert features.keys() == encoder.keys()
    assert not all(torch.equal(features[key], encoder[key]) for key in encoder)


def test_phantom_rows_never_reach_the_intrinsic_reward() -> None:
    bench = Bench(small_ppo().auxiliary(icm={"variant": "burda"}))
    episodes = bench.sample()
    bench.batch(episodes)
    moments = bench.module.auxiliary["icm"].normalizer.moments
    observations = np.concatenate([episode.get_observations()[:-2] for episode in episodes])
    # Without the phantom row and the last observation that it repeats.
    assert moments.count == len(observations)
    np.testing.assert_allclose(moments.mean, observations.mean(0), rtol=1e-4, atol=1e-6)


def test_learning_rate_of_a_loss_is_its_own() -> None:
    bench = Bench(small_ppo(lr=[[0, 1e-3], [128, 0.0]]).auxiliary(icm={"lr": 0.5}))
    bench.update(bench.sample())
    rates = {
        name: optimizer.param_groups[0]["lr"]
        for name, optimizer in bench.learner.get_optimizers_for_module("default_policy")
    }
    # 64 of 128 env steps sampled: half of 1e-3 on the schedule.
    assert rates["default_optimizer"] == pytest.approx(1e-3 * (1 - bench.env_steps / 128))
    assert rates["auxiliary_icm"] == 0.5


@pytest.mark.parametrize(
    "losses, message",
    [
        ({"icn": {}}, "unknown loss 'icn'; did you mean 'icm'?"),
        ({"icm": {"coef": 1.0}}, "unknown option 'auxiliary.icm.coef'; did you mean 'coeff'?"),
        ({"icm": {"coeff": -1.0}}, "auxiliary.icm: coeff must be finite and >= 0; got -1.0."),
        ({"icm": {"coeff": [[0, 1.0], [9, 0.0]]}}, "coeff must be a number; got [[0, 1.0], [9"),
        ({"icm": {"isolated": True}}, "loss 'icm' has no such control"),
    ],
)
def test_bad_options_name_key_value_and_fix(losses: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        small_ppo().auxiliary(**losses)
    assert message in str(error.value)


FLAGS = [
    (name, field.name)
    for name in AUXILIARY_LOSSES
    if not name.startswith("test_")
    for field in dataclasses.fields(AUXILIARY_LOSSES[name].Config)
    if field.type in (bool, "bool")
]


@pytest.mark.parametrize("name, flag", FLAGS)
def test_flags_of_losses_are_true_or_false(name: str, flag: str) -> None:
    with pytest.raises(ValueError, match=f"^{flag} must be true or false; got 'no'"):
        AUXILIARY_LOSSES[name].Config(**{flag: "no"})
