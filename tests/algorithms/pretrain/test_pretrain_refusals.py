"""What pretraining refuses, in words, and what it needs no environment for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from rlssl.algorithms.pretrain.pretrain import PretrainConfig
from rlssl.batches import to_tensors
from rlssl.cli import main
from rlssl.errors import SpecError
from tests.algorithms.offline.episodes import write_episodes
from tests.algorithms.pretrain.pretrain_bench import PretrainBench, small_pretrain


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({}, "by auxiliary losses alone, and there are none; name one or more"),
        (
            {"bisimulation": {"variant": "paper"}},
            "auxiliary.bisimulation reads 'mean_action': pretrain trains no policy",
        ),
        (
            {"behavior_cloning": {"demonstrations": "DATA"}, "curl": {}},
            "auxiliary.behavior_cloning trains the policy beside the RL loss, and there is none",
        ),
        ({"spr": {"variant": "code"}}, "auxiliary.spr.variant 'code' needs rainbow"),
        ({"icm": {}}, "auxiliary icm: none of these losses trains the encoder"),
    ],
    ids=["none", "mean_action", "policy", "head", "own"],
)
def test_losses_that_cannot_train_an_encoder_alone(tmp_path: Path, losses: Any, words: str) -> None:
    data = tmp_path / "data"
    for options in losses.values():
        if "demonstrations" in options:
            options["demonstrations"] = str(data)
    with pytest.raises(SpecError, match=words):
        PretrainBench(small_pretrain(data, losses))


@pytest.mark.parametrize("name", ["inverse_dynamics", "spr", "deepmdp", "simsr"])
def test_losses_of_actions_are_refused_on_a_video(tmp_path: Path, name: str) -> None:
    config = small_pretrain(tmp_path / "data", {name: {}}, with_actions=False)
    with pytest.raises(SpecError, match=rf"auxiliary.{name} reads 'actions': the data set .* has "):
        PretrainBench(config)


@pytest.mark.parametrize("name", ["curl", "atc", "temporal_distance", "autoencoder"])
def test_losses_of_observations_train_on_a_video(tmp_path: Path, name: str) -> None:
    bench = PretrainBench(small_pretrain(tmp_path / "data", {name: {}}, with_actions=False))
    assert any(key.startswith("encoder.") for key in bench.moved_by_an_update())


def test_an_environment_with_other_spaces_is_refused_if_it_is_given(tmp_path: Path) -> None:
    data = write_episodes(tmp_path / "data")
    config: Any = PretrainConfig().data(path=data).auxiliary(inverse_dynamics={})
    config.environment("CartPole-v1")
    with pytest.raises(SpecError, match=r"env 'CartPole-v1': .* Or leave env out"):
        config.validate()


def test_a_data_set_whose_environment_is_not_installed_trains(tmp_path: Path) -> None:
    data = write_episodes(tmp_path / "data", env="no/such-environment")
    config: Any = PretrainConfig().data(path=data).auxiliary(inverse_dynamics={}, curl={})
    config.model(encoder_config={"hidden": [16]}).training(train_batch_size_per_learner=16)
    bench = PretrainBench(config)
    assert any(key.startswith("encoder.") for key in bench.moved_by_an_update())


def test_frames_that_cannot_be_stacked_are_refused(tmp_path: Path) -> None:
    config = small_pretrain(tmp_path / "data", {"inverse_dynamics": {}}, spaces="dict")
    with pytest.raises(SpecError, match="frame_stack"):
        PretrainBench(config.model(frame_stack=2))


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"every_updates": 5}, "there is nothing else to measure; set data.holdout"),
        ({"every_env_steps": 5}, "every_updates"),
    ],
)
def test_what_a_run_without_a_policy_cannot_measure_is_refused(
    tmp_path: Path, evaluation: Any, words: str
) -> None:
    config = small_pretrain(tmp_path / "data", {"inverse_dynamics": {}})
    with pytest.raises(SpecError, match=words):
        config.evaluation(**evaluation).validate()


def test_train_names_the_command_that_pretrains() -> None:
    result = CliRunner().invoke(main, ["train", "pretrain", "demos", "--aux", "curl"])
    assert result.exit_code == 2
    assert "use rlssl pretrain DATA" in result.output


def test_a_pretrained_encoder_does_not_act(tmp_path: Path) -> None:
    bench = PretrainBench(small_pretrain(tmp_path / "data", {"curl": {}}))
    with pytest.raises(SpecError, match=r"no policy that could act; .* --encoder RUN"):
        bench.module.forward_inference(to_tensors(bench.draw(), torch.device("cpu")))
