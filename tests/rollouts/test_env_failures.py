"""Environments that fail while sampling: the words that reach the user, and going on if asked."""

from typing import Any

import pytest

from rlssl.errors import UnknownNameError
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.rollouts.counting import COUNTING, ForcedModule, make_config, make_runner

RUNNERS = pytest.mark.parametrize("runner_cls", [VectorEnvRunner, StockEnvRunner])


def failing(**options: Any) -> dict[str, Any]:
    return {"id": COUNTING, "lengths": [[2, 4]], "fail": (0, 1, 1), **options}


@RUNNERS
def test_a_failing_step_is_reported_in_the_environments_own_words(runner_cls: type) -> None:
    runner = make_runner(runner_cls, make_config(failing(), num_envs=1))
    words = rf"environment '{COUNTING}' failed in step\(\): KeyError: 'the pole fell off the table'"
    with pytest.raises(RuntimeError, match=words) as raised:
        runner.sample(num_timesteps=20)
    assert isinstance(raised.value.__cause__, KeyError)


@RUNNERS
def test_a_failing_reset_is_reported_too(runner_cls: type, monkeypatch: Any) -> None:
    runner = make_runner(runner_cls, make_config(failing(), num_envs=1))

    def reset(**kwargs: Any) -> None:
        raise OSError("no table")

    monkeypatch.setattr(runner.env, "reset", reset)
    with pytest.raises(RuntimeError, match=r"failed in reset\(\): OSError: no table"):
        runner.sample(num_timesteps=1)


def test_sampling_goes_on_with_new_environments_where_restarting_is_allowed() -> None:
    config = make_config(failing(), num_envs=2).fault_tolerance(
        restart_failed_sub_environments=True
    )
    runner = make_runner(VectorEnvRunner, config)
    chunks = runner.sample(num_timesteps=7)
    # Both slots finish an episode of 2 steps (4 in all) and take one step of the next (6); then
    # slot 0 fails and that step of both is lost (4). The new environments count from episode 0
    # again, and two steps of both (8) reach the 7 asked for.
    assert [(len(c), c.is_done) for c in chunks] == [(2, True)] * 4
    assert [c.get_observations()[:, 1:3].tolist() for c in chunks] == [[[0, 0], [0, 1], [0, 2]]] * 4
    assert len({c.id_ for c in chunks}) == 4
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == 8
    assert metrics["rlssl_episodes"]["offset"].peek() == [3, 4, 7, 8]


def test_after_an_error_the_next_call_starts_over() -> None:
    runner = make_runner(VectorEnvRunner, make_config(failing(), num_envs=1))
    with pytest.raises(RuntimeError):
        runner.sample(num_timesteps=20)
    chunks = runner.sample(num_timesteps=1)
    assert [(len(c), c.t_started) for c in chunks] == [(1, 0)]


@RUNNERS
def test_an_unknown_environment_is_refused_with_a_suggestion(runner_cls: type) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'CartPole-v1'"):
        make_runner(runner_cls, make_config({"id": "CartPoll-v1"}, num_envs=1))


def test_plugins_are_loaded_before_the_environment_is_looked_up(
    tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "rollouts_test_plugin.py").write_text(
        "from rlssl.registry import register_env\n"
        "from tests.rollouts.counting import CountingEnv\n"
        "register_env('rollouts-test/plugged', CountingEnv)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config({"id": "rollouts-test/plugged"}, num_envs=1)
    config.plugin_modules = ("rollouts_test_plugin",)
    (chunk,) = make_runner(VectorEnvRunner, config).sample(num_timesteps=1)
    assert len(chunk) == 1


def test_recurrent_modules_are_refused_by_name_of_the_setting(monkeypatch: Any) -> None:
    monkeypatch.setattr(ForcedModule, "is_stateful", lambda self: True)
    with pytest.raises(NotImplementedError, match=r"model\.lstm"):
        make_runner(VectorEnvRunner, make_config({"id": COUNTING}, num_envs=1))
