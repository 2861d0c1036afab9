"""Options of losses that change nothing are refused, over the whole registry of losses."""

import dataclasses
from typing import Any

import pytest
import torch

import rlssl.auxiliary  # noqa: F401  (registers)
from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.auxiliary import AuxiliaryLoss
from rlssl.auxiliary.building import idle_by_class, ineffective_options
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.common.test_auxiliary_rules import bench_of

LOSSES = [name for name in AUXILIARY_LOSSES if not name.startswith("test_")]
#: Options beside which others are idle, besides the defaults.
MODES: dict[str, list[dict[str, Any]]] = {
    "autoencoder": [{}, {"variant": "vae"}],
    "bisimulation": [{}, {"transition": "ensemble"}, {"latent_norm": "max"}],
    "curl": [{"variant": "dmc"}, {"variant": "atari"}],
    "deepmdp": [{}, {"transition": "ensemble"}, {"latent_norm": "max"}],
    "disagreement": [{}, {"features": "shared"}],
    "gail": [{}, {"features": "shared"}, {"normalize": True}],
    "icm": [
        {},
        {"features": "shared"},
        {"variant": "burda"},
        {"variant": "burda", "features": "shared"},
    ],
    "simsr": [{}, {"transition": "ensemble"}],
}
#: Another value of options whose type does not tell one.
OTHER: dict[str, Any] = {
    "encoder": "mlp",
    "encoder_config": {"hidden": [8]},
    "every": 2,
    "grad_clip": 1e-3,
    "lr": 0.5,
    "normalize": True,
    "schedule": [[0, 0.5]],
    "max_norm": 0.5,
}
CASES = [(name, mode) for name in LOSSES for mode in MODES.get(name, [{}])]


def other_value(name: str, key: str) -> Any:
    """A valid value of an option that is not its default."""
    if key in OTHER:
        return OTHER[key]
    fields = {field.name: field.default for field in dataclasses.fields(config_class(name))}
    default: Any = fields[key]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else default / 2 or 0.5


def config_class(name: str) -> Any:
    return AUXILIARY_LOSSES[name].Config


def idle_of(name: str, mode: dict[str, Any]) -> dict[str, str]:
    return {**idle_by_class(AUXILIARY_LOSSES[name]), **config_class(name)(**mode).idle_options()}


@pytest.mark.parametrize("name, mode", CASES, ids=str)
def test_idle_options_are_named_with_what_they_need(name: str, mode: dict[str, Any]) -> None:
    for key, needed in idle_of(name, mode).items():
        given = {name: {**mode, key: other_value(name, key)}}
        assert ineffective_options(given) == {f"auxiliary.{name}.{key}": needed}
    assert ineffective_options({name: mode}) == {}


@pytest.mark.parametrize("name", LOSSES)
def test_the_weights_of_what_a_loss_does_not_give_are_idle(name: str) -> None:
    loss = AUXILIARY_LOSSES[name]
    idle = idle_of(name, {})
    assert ("coeff" in idle) == (loss.losses is AuxiliaryLoss.losses)
    bonus_free = loss.intrinsic_reward is AuxiliaryLoss.intrinsic_reward
    assert ("intrinsic_coeff" in idle) == bonus_free


def after_two_updates(name: str, options: dict[str, Any]) -> dict[str, torch.Tensor]:
    """All weights and statistics of a small PPO with the loss."""
    bench = bench_of("ppo", {name: options})
    for _ in range(2):
        bench.learner.update(episodes=bench.sample())
    state = bench.module.state_dict()
    return {key: value.clone() for key, value in state.items() if torch.is_tensor(value)}


@pytest.mark.parametrize("name, mode", CASES, ids=str)
def test_idle_options_change_no_weight(name: str, mode: dict[str, Any]) -> None:
    idle = [key for key in idle_of(name, mode) if key != "every"]  # it has a count of its own
    if not idle:
        pytest.skip("every option has an effect")
    given = {key: other_value(name, key) for key in idle}
    plain, changed = (after_two_updates(name, {**mode, **more}) for more in ({}, given))
    assert plain.keys() == changed.keys()
    assert [key for key in plain if not torch.equal(plain[key], changed[key])] == []


DOCUMENT: dict[str, Any] = {
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "stop": {"env_steps": 1000},
}


def test_a_spec_with_such_an_option_is_refused() -> None:
    given = {"auxiliary": {"episodic_count": {"coeff": 0.1}}}
    with pytest.raises(SpecError, match=r"auxiliary\.episodic_count\.coeff: 0\.1 has no effect"):
        load_spec({**DOCUMENT, **given})
    given = {"auxiliary": {"rnd": {"stream_gamma": 0.9}}}
    with pytest.raises(SpecError, match=r"the option needs stream: own\. Leave it out\."):
        load_spec({**DOCUMENT, **given})
    assert load_spec({**DOCUMENT, "auxiliary": {"rnd": {"stream": "own", "stream_gamma": 0.9}}})


def test_a_config_with_such_an_option_is_refused_in_the_same_words() -> None:
    with pytest.raises(SpecError) as of_spec:
        load_spec({**DOCUMENT, "auxiliary": {"rnd": {"stream_gamma": 0.9}}})
    with pytest.raises(SpecError) as of_config:
        PPOConfig().environment("CartPole-v1").auxiliary(rnd={"stream_gamma": 0.9})
    assert str(of_config.value) == str(of_spec.value).removesuffix("\n")
    used = {"stream": "own", "stream_gamma": 0.9}
    assert PPOConfig().auxiliary(rnd=used).auxiliary_losses == {"rnd": used}


def test_a_point_with_an_option_of_another_point_s_variant_can_be_built() -> None:
    given = {
        "auxiliary": {"rnd": {"stream_gamma": 0.9}},
        "search": {"auxiliary.rnd.stream": {"grid": ["shared", "own"]}},
    }
    spec = load_spec({**DOCUMENT, **given})
    shared = build_config(at_point(spec, {"auxiliary.rnd.stream": "shared"}, 0))
    assert shared.auxiliary_losses["rnd"]["stream_gamma"] == 0.9


def test_a_search_may_have_an_option_that_some_of_its_points_use() -> None:
    given = {
        "auxiliary": {"rnd": {"stream_gamma": 0.9}},
        "search": {"auxiliary.rnd.stream": {"grid": ["shared", "own"]}},
    }
    assert load_spec({**DOCUMENT, **given}).search
    given["search"] = {"auxiliary.rnd.update_share": {"grid": [0.5, 1.0]}}
    with pytest.raises(SpecError, match=r"stream_gamma: 0\.9 has no effect"):
        load_spec({**DOCUMENT, **given})


def test_a_saved_spec_of_an_earlier_version_can_be_continued() -> None:
    saved = resolved_dict(load_spec({**DOCUMENT, "auxiliary": {"rnd": {}}}))
    saved["auxiliary"] = {"rnd": {"stream_gamma": 0.9}}
    assert load_spec(saved).auxiliary == {"rnd": {"stream_gamma": 0.9}}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"auxiliary": {"zzz_forgotten": {}}}, "unknown loss 'zzz_forgotten'"),
        ({"model": {"encoder": "zzz_forgotten"}}, "unknown encoder 'zzz_forgotten'"),
        ({"env": "zzz-forgotten"}, "unknown environment 'zzz-forgotten'"),
        ({"env": "zzz/Forgotten"}, "unknown environment 'zzz/Forgotten'"),
    ],
)
def test_an_unknown_name_may_be_that_of_a_forgotten_plugin(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({**DOCUMENT, **changes})
    assert words in str(caught.value)
    assert "--plugin my_module, or in the spec plugins: [my_module]" in str(caught.value)
    with pytest.raises(SpecError) as caught:
        load_spec({**DOCUMENT, "auxiliary": {"crul": {}}})
    assert "did you mean 'curl'" in str(caught.value) and "--plugin" not in str(caught.value)
