"""A spec and what a run leaves of it show every setting as used."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.algorithms.common.effective import effective_settings
from rlssl.environments.env_check import preflight
from rlssl.errors import SpecError
from rlssl.experiment.spec import build_config, load_spec, save_spec
from rlssl.experiment.spec.effective import BY_POINT, effective_of
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES, COUNTING_UPDATES

ENVS = {"ddpg": "Pendulum-v1", "iql": "Pendulum-v1", "sac": "Pendulum-v1"}


def used_in(document: dict[str, Any]) -> dict[str, Any]:
    """The settings of a spec in its environment."""
    config = build_config(load_spec(document))
    spaces = preflight(config.env_settings)
    config.adapt_to(spaces)
    return effective_settings(config, spaces)


@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS} - {*COUNTING_UPDATES}))
def test_every_setting_of_every_algorithm_is_there_as_plain_data(algorithm: str) -> None:
    losses: dict[str, Any] = {name: {} for name in ("icm", "deepmdp")}
    used = used_in(
        {"algorithm": algorithm, "env": ENVS.get(algorithm, "CartPole-v1"), "auxiliary": losses}
    )
    assert used["training"].keys() == ALGORITHMS[algorithm].training_arguments().keys()
    assert used["training"]["gamma"] == 0.99
    for name in losses:
        options = used["auxiliary"][name]
        assert options.keys() == AUXILIARY_LOSSES[name].Config.__dataclass_fields__.keys()
        assert options["lr"] is not None  # the algorithm's
    assert used["model"]["encoder"] == "mlp" and used["model"]["encoder_config"]["hidden"]
    assert yaml.safe_load(yaml.safe_dump(used)) == used


def test_settings_that_follow_others_have_the_value_that_is_used() -> None:
    sac = used_in({"algorithm": "sac", "env": "Pendulum-v1", "training": {"lr": 0.5, "tau": 0.25}})
    # One action dimension.
    followers = {"actor_lr": 0.5, "alpha_lr": 0.5, "encoder_tau": 0.25, "target_entropy": -1.0}
    assert followers.items() <= sac["training"].items()
    rainbow = used_in(
        {"algorithm": "rainbow", "env": "CartPole-v1", "training": {"gamma": 0.5}, "stop": {}}
    )
    assert (rainbow["training"]["v_min"], rainbow["training"]["v_max"]) == (-2.0, 2.0)  # 1 / 0.5
    assert rainbow["training"]["epsilon"] == [[0, 1.0], [5_000, 0.01]]
    assert rainbow["training"]["replay"]["beta_anneal_env_steps"] == 1_000_000
    ddpg = used_in({"algorithm": "ddpg", "env": "Pendulum-v1"})
    assert ddpg["training"]["exploration_std"] == 0.1


def test_preset_variant_and_frames_are_applied() -> None:
    used = used_in({"algorithm": "a3c", "env": "CartPole-v1", "variant": "a2c"})
    assert used["training"]["synchronous"] is True
    used = used_in({"algorithm": "ppo", "env": "atari/Pong", "variant": "both"})
    assert used["training"]["variant"] == "both" and used["training"]["lr"] == 2.5e-4
    model = used["model"]
    assert model["encoder"] == "nature" and model["frame_stack"] == 4
    assert model["shared_encoder"] is True and used["env"]["action_repeat"] == 4


def test_networks_of_sac_are_the_ones_that_it_builds() -> None:
    used = used_in({"algorithm": "sac", "env": "Pendulum-v1"})
    assert used["model"]["encoder_config"]["hidden"] == [256]
    assert used["model"]["encoder_config"]["activation"] == "relu"


def test_without_the_environment_both_defaults_are_shown() -> None:
    used = effective_of(load_spec({"algorithm": "ppo", "env": "CartPole-v1"}))
    assert used["training"]["lr"] == {"vectors": 1e-3, "frames": 2.5e-4}
    assert used["training"]["gamma"] == 0.99 and used["model"]["frame_stack"] is None


def test_searched_values_depend_on_the_point() -> None:
    spec = load_spec(
        {
            "algorithm": "ppo",
            "env": "CartPole-v1",
            "stop": {"env_steps": 10},
            "search": {"auxiliary": {"grid": [{}, {"icm": {}}]}, "training.lr": {"grid": [1, 2]}},
        }
    )
    used = effective_of(spec)
    assert used["training"]["lr"] == used["auxiliary"]["icm"] == BY_POINT
    assert used["training"]["gamma"] == 0.99


def test_a_saved_spec_is_read_without_them(tmp_path: Path) -> None:
    spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 10}})
    path = save_spec(spec, tmp_path / "s.yaml", effective={"training": {"gamma": 0.5, "gone": 1}})
    assert yaml.safe_load(path.read_text())["effective"]["training"]["gamma"] == 0.5
    read = load_spec(path)
    assert read == spec.model_copy(update={"name": read.name}) and not read.training
    with pytest.raises(SpecError, match="effective"):
        load_spec(path, ["effective.training.gamma=0.5"])


@pytest.mark.parametrize(
    "vectorize, is_used", [("native", False), ("sync", False), ("async", True)]
)
def test_double_buffering_says_what_is_used(vectorize: str, is_used: bool) -> None:
    runners = {"vectorize": vectorize, "num_envs": 4}
    used = used_in({"algorithm": "ppo", "env": "CartPole-v1", "env_runners": runners})
    assert used["env_runners"]["double_buffering"] is is_used
