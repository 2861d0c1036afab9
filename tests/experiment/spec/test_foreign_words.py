"""A word of another library is answered with rlssl's word."""

from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.foreign_words import _ALGORITHMS, _SETTINGS
from rlssl.registry import ALGORITHMS


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as raised:
        load_spec({"algorithm": "ppo", "env": "CartPole-v1", **changes})
    return str(raised.value)


@pytest.mark.parametrize(
    "algorithm, word, own",
    [
        ("ppo", "learning_rate", "training.lr"),
        ("ppo", "n_steps", "training.train_batch_size_per_learner"),
        ("ppo", "clip_range", "training.clip_param"),
        ("ppo", "batch_size", "training.minibatch_size"),
        ("rainbow", "batch_size", "training.train_batch_size_per_learner"),
        ("rainbow", "buffer_size", "training.replay_capacity"),
        ("ppo", "total_timesteps", "stop.env_steps"),
    ],
)
def test_settings(algorithm: str, word: str, own: str) -> None:
    said = refusal(algorithm=algorithm, training={word: 3})
    assert f"'training.{word}'" in said and f"in rlssl it is '{own}'" in said


@pytest.mark.parametrize(
    ("word", "own"),
    [
        ("learning_rate", "'training.lr'"),
        ("lr", "'training.lr'"),
        ("gamma", "'training.gamma'"),
        ("n_envs", "'env_runners.num_envs'"),
        ("total_timesteps", "'stop.env_steps'"),
        ("batch_size", "'training.minibatch_size' or 'training.train_batch_size_per_learner'"),
    ],
)
def test_settings_without_their_section(word: str, own: str) -> None:
    assert refusal(**{word: 3}) == f"unknown key '{word}' in the spec; in rlssl it is {own}."


def test_algorithms() -> None:
    assert "In rlssl it is rainbow with preset dqn." in refusal(algorithm="dqn")
    assert "In rlssl it is ddpg with preset td3." in refusal(algorithm="td3")


def test_environments() -> None:
    assert "'ALE/Pong-v5': in rlssl it is atari/Pong" in refusal(env="ALE/Pong-v5")
    raw = load_spec({"algorithm": "ppo", "env": "ale_py:ALE/Pong-v5"})
    assert raw.env == {"id": "ale_py:ALE/Pong-v5"}
    said = refusal(env="my_lab/Corridor")
    assert "plugins: [my_module]" in said and "did you mean" not in said
    assert "did you mean 'CartPole-v1'" in refusal(env="CartPoll-v1")


def test_every_answer_exists() -> None:
    arguments = {
        f"training.{key}" for name in ALGORITHMS.values() for key in name.settings_class.arguments()
    }
    paths = {path for paths in _SETTINGS.values() for path in paths}
    assert {path for path in paths if path.startswith("training.")} <= arguments
    for words in _ALGORITHMS.values():
        name, _, layer = words.partition(" with ")
        kind, _, value = layer.partition(" ")
        assert not layer or value in getattr(ALGORITHMS[name], f"{kind}s")
