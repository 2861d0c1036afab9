import importlib.metadata
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlssl import plugins
from rlssl.environments.building import Vectorize, list_environments, make_env, make_vector_env
from rlssl.errors import MissingExtraError, PluginError, SpecError, UnknownNameError
from rlssl.plugins import load_plugins
from rlssl.registry import (
    AUXILIARY_LOSSES,
    ENCODERS,
    ENVIRONMENTS,
    Registry,
    local_registrations,
    register_auxiliary_loss,
    register_encoder,
    register_env,
    restore_registrations,
)

WriteModule = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """Undoes the registrations of a test."""
    with (
        ENVIRONMENTS.undone_afterwards(),
        AUXILIARY_LOSSES.undone_afterwards(),
        ENCODERS.undone_afterwards(),
    ):
        yield


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes a module onto the path; it is removed after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    yield write
    written = [str(path) for path in tmp_path.glob("*.py")]
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) in written:
            del sys.modules[name]


class Countdown(gym.Env):
    """Observes the remaining steps, 2 to 0; each step has reward 1."""

    observation_space = Box(0, 2, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 2
        return np.array([self.left], np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class OtherCountdown(Countdown):
    pass


# --- the tables -----------------------------------------------------------------------------------


def test_unknown_name_is_answered_with_the_closest_and_with_all_that_are_known() -> None:
    losses: Registry[Any] = Registry("loss")
    losses.register("icm", "somewhere:ICM")
    losses.register("curl", "somewhere:CURL")
    with pytest.raises(UnknownNameError) as caught:
        losses["crul"]
    assert str(caught.value) == "unknown loss 'crul'; did you mean 'curl'? Known: curl, icm."
    assert isinstance(caught.value, KeyError)
    assert losses.get("crul") is None


def test_taken_name_is_refused_naming_both_owners() -> None:
    losses: Registry[Any] = Registry("loss")
    losses.register("curl", Countdown)
    with pytest.raises(ValueError, match=r"loss 'curl' is already registered.*OtherCountdown"):
        losses.register("curl", OtherCountdown)
    assert losses["curl"] is Countdown


def test_same_thing_may_be_registered_again() -> None:
    register_env("test/again", Countdown)
    register_env("test/again", Countdown)
    register_encoder("again", "some.module:Encoder")
    register_encoder("again", "some.module:Encoder")
    with pytest.raises(ValueError, match="test/again"):
        register_env("test/again", Countdown, extra="other")


def test_decorator_returns_the_class_and_files_it() -> None:
    @register_auxiliary_loss("decorated")
    class Loss:
        pass

    assert AUXILIARY_LOSSES["decorated"] is Loss


def test_reloaded_module_takes_its_own_names_over(write_module: WriteModule) -> None:
    write_module(
        "reloaded_loss",
        """
        from rlssl.registry import register_auxiliary_loss

        @register_auxiliary_loss("reloaded")
        class Loss:
            pass
        """,
    )
    load_plugins(["reloaded_loss"])
    first = AUXILIARY_LOSSES["reloaded"]
    del sys.modules["reloaded_loss"]
    load_plugins(["reloaded_loss"])
    assert AUXILIARY_LOSSES["reloaded"] is sys.modules["reloaded_loss"].Loss
    assert AUXILIARY_LOSSES["reloaded"] is not first


def test_string_entry_is_imported_at_the_first_look_up_not_before() -> None:
    register_encoder("elsewhere", "no_such_module:Encoder")
    assert "elsewhere" in ENCODERS
    assert "elsewhere" in list(ENCODERS)
    with pytest.raises(PluginError, match="No module named 'no_such_module'"):
        ENCODERS["elsewhere"]


def test_missing_attribute_is_answered_with_the_closest() -> None:
    register_encoder("typo", "rlssl.registry:Regsitry")
    with pytest.raises(
        PluginError, match=r"'rlssl.registry' has no 'Regsitry'; did you mean 'Registry'"
    ):
        ENCODERS["typo"]


@pytest.mark.parametrize("name", ["a.b", "a:b", "a,b", "a=b", "a b"])
def test_loss_name_that_a_spec_could_not_write_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="dotted paths"):
        register_auxiliary_loss(name, Countdown)


def test_importing_the_registry_imports_neither_gymnasium_nor_torch() -> None:
    code = (
        "import sys, rlssl.registry\n"
        "print([m for m in ('gymnasium', 'torch', 'ray', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- one environment ------------------------------------------------------------------------------


def test_make_is_given_id_options_split_worker_index_and_seed() -> None:
    register_env("test/countdown", Countdown)
    env: Any = make_env({"id": "test/countdown", "size": 3}, split="eval", worker_index=2, seed=7)
    assert env.config == {
        "id": "test/countdown",
        "size": 3,
        "split": "eval",
        "worker_index": 2,
        "seed": 7,
    }


def test_exact_name_wins_over_families_and_longer_families_over_shorter() -> None:
    made = []

    def maker(label: str) -> Any:
        def make(config: dict[str, Any]) -> gym.Env:
            made.append(label)
            return Countdown(config)

        return make

    register_env("test/*", maker("short"))
    register_env("test/deep/*", maker("long"))
    register_env("test/deep/one", maker("exact"))
    register_env("CartPole-v1", maker("instead of gymnasium's"))
    for name in ("test/deep/one", "test/deep/two", "test/three", "CartPole-v1"):
        make_env({"id": name})
    assert made == ["exact", "long", "short", "instead of gymnasium's"]


def test_gymnasium_id_is_built_by_gymnasium_with_its_options_and_without_wrappers() -> None:
    env: Any = make_env({"id": "CartPole-v1", "sutton_barto_reward": True}, split="eval", seed=3)
    layers = []
    while env is not env.unwrapped:
        layers.append(type(env).__name__)
        env = env.env
    assert layers == ["TimeLimit", "OrderEnforcing"]
    # With this option a step that does not end the episode has reward 0 instead of 1.
    env.reset(seed=0)
    assert env.step(0)[1] == 0.0


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("cartpole-v1", "CartPole-v1"),
        ("CartPole-v9", "CartPole-v1"),
        ("test/cuntdown", "test/countdown"),
    ],
)
def test_unknown_id_is_answered_with_the_closest_registered_or_gymnasium_one(
    typo: str, meant: str
) -> None:
    register_env("test/countdown", Countdown)
    with pytest.raises(UnknownNameError) as caught:
        make_env({"id": typo})
    assert str(caught.value).startswith(f"unknown environment '{typo}'; did you mean '{meant}'")


def test_id_that_gymnasium_cannot_parse_is_unknown_too() -> None:
    with pytest.raises(UnknownNameError, match="unknown environment 'foo bar'"):
        make_env({"id": "foo bar"})


def test_environment_without_id_is_refused_with_the_fix() -> None:
    with pytest.raises(SpecError, match=r"as \{id: CartPole-v1\}; got \{'name': 'x'\}"):
        make_env({"name": "x"})


def test_make_that_returns_no_environment_is_refused() -> None:
    register_env("test/none", dict)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"'test/none' must return a gymnasium.Env"):
        make_env({"id": "test/none"})


def test_suite_that_is_not_installed_is_answered_with_the_extra(write_module: WriteModule) -> None:
    write_module("suite_user", "import no_such_suite\n")
    register_env("gone/*", "suite_user:make", extra="gone", ids="suite_user:ids")
    with pytest.raises(MissingExtraError) as caught:
        make_env({"id": "gone/Game"})
    assert str(caught.value) == (
        "environment 'gone/*' needs 'no_such_suite', which is not installed; "
        "run: pip install 'rlssl[gone]'."
    )
    assert isinstance(caught.value, ImportError)
    assert {"id": "gone/*", "note": "needs rlssl[gone]"} in list_environments()


def test_import_error_in_a_users_module_keeps_its_own_words(write_module: WriteModule) -> None:
    write_module("suite_user", "import no_such_suite\n")
    register_env("mine", "suite_user:make")
    with pytest.raises(PluginError, match=r"'suite_user'.*No module named 'no_such_suite'"):
        make_env({"id": "mine"})
    register_env("typo", "suite_usr:make", extra="gone")
    with pytest.raises(PluginError, match="No module named 'suite_usr'"):
        make_env({"id": "typo"})


def test_family_is_listed_by_its_members() -> None:
    register_env("pair/*", Countdown, ids=lambda: ["pair/b", "pair/a"])
    register_env("open/*", Countdown)
    listed = [row["id"] for row in list_environments()]
    assert [name for name in listed if name.startswith(("open/", "pair/"))] == [
        "open/*",
        "pair/a",
        "pair/b",
    ]


# --- several environments -------------------------------------------------------------------------


@pytest.mark.parametrize("vectorize", ["native", "sync", "async"])
def test_vector_environment_resets_in_the_step_after_the_last(
    vectorize: Vectorize,
) -> None:
    register_env("test/countdown", Countdown)
    vector = make_vector_env({"id": "test/countdown"}, num_envs=2, vectorize=vectorize)
    try:
        assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        observation, _ = vector.reset(seed=0)
        seen = [observation[0, 0]]
        rewards = []
        for _ in range(3):
            observation, reward, *_ = vector.step(np.zeros(2, np.int64))
            seen.append(observation[0, 0])
            rewards.append(reward[0])
    finally:
        vector.close()
    # 2, 1, 0: the end. The third step ignores its action, resets to 2 and pays nothing.
    assert seen == [2, 1, 0, 2]
    assert rewards == [1, 1, 0]


def test_copies_are_built_with_their_own_seeds() -> None:
    register_env("test/countdown", Countdown)
    vector: Any = make_vector_env({"id": "test/countdown"}, num_envs=3, seed=10, worker_index=1)
    assert [env.config["seed"] for env in vector.envs] == [10, 11, 12]
    assert [env.config["worker_index"] for env in vector.envs] == [1, 1, 1]


def test_native_takes_gymnasiums_own_vector_environment() -> None:
    env = {"id": "CartPole-v1", "sutton_barto_reward": True}
    native: Any = make_vector_env(env, num_envs=3)
    assert type(native).__name__ == "CartPoleVectorEnv"
    # With this option a step that does not end the episode has reward 0 instead of 1.
    native.reset(seed=0)
    assert native.step(np.zeros(3, np.int64))[1].tolist() == [0.0] * 3
    assert type(make_vector_env(env, num_envs=3, vectorize="sync")) is SyncVectorEnv


def test_native_takes_make_vec_and_passes_it_the_config() -> None:
    given = []

    def make_vec(config: dict[str, Any], num_envs: int) -> Any:
        given.append((config, num_envs))
        return SyncVectorEnv([lambda: Countdown(config)] * num_envs)

    register_env("test/own", Countdown, make_vec)
    make_vector_env({"id": "test/own", "size": 3}, num_envs=2, split="eval", seed=5)
    config = {"id": "test/own", "size": 3, "split": "eval", "worker_index": 0, "seed": 5}
    assert given == [(config, 2)]


def test_gymnasium_vector_environment_with_other_spaces_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def other_vector(num_envs: int) -> Any:
        return gym.make_vec("CartPole-v1", num_envs=num_envs)

    def one() -> Any:
        return Countdown({})

    gym.register("Other-v0", entry_point=one, vector_entry_point=other_vector)  # type: ignore[arg-type]
    try:
        with caplog.at_level("INFO", logger="rlssl"):
            vector = make_vector_env({"id": "Other-v0"}, num_envs=2)
    finally:
        del gym.registry["Other-v0"]
    assert type(vector) is SyncVectorEnv
    assert "Other-v0: vectorize is sync, not native: single_observation_space is" in caplog.text


def test_make_vec_without_autoreset_is_refused() -> None:
    def disabled(config: dict[str, Any], num_envs: int) -> Any:
        makers = [lambda: Countdown(config)] * num_envs
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)

    register_env("test/disabled", Countdown, disabled)
    with pytest.raises(SpecError, match=r"must be NEXT_STEP or SAME_STEP; got AutoresetMode\."):
        make_vector_env({"id": "test/disabled"}, num_envs=2)


# --- plug-ins -------------------------------------------------------------------------------------


def test_plugin_is_imported_once_however_often_it_is_loaded(write_module: WriteModule) -> None:
    write_module(
        "once_plugin",
        """
        from rlssl.registry import register_env

        register_env("once/env", "once_plugin:make")
        imports = []
        """,
    )
    load_plugins(["once_plugin"])
    sys.modules["once_plugin"].imports.append(1)
    load_plugins(["once_plugin"])
    assert sys.modules["once_plugin"].imports == [1]
    assert ENVIRONMENTS["once/env"].make == "once_plugin:make"


def test_installed_plugins_are_found_by_their_entry_points_once(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(
        "installed_plugin",
        "from rlssl.registry import register_encoder\nregister_encoder('installed', 'm:E')\n",
    )
    asked = []

    def entry_points(*, group: str) -> Any:
        asked.append(group)
        return [importlib.metadata.EntryPoint("any", "installed_plugin", group)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(plugins, "_entry_points_loaded", False)
    load_plugins()
    load_plugins()
    assert "installed" in ENCODERS
    assert asked == ["rlssl.plugins"]


def test_plugin_that_fails_is_named_with_its_error(write_module: WriteModule) -> None:
    write_module("broken_plugin", "raise RuntimeError('no license file')\n")
    with pytest.raises(PluginError, match=r"'broken_plugin'.*RuntimeError: no license file"):
        load_plugins(["broken_plugin"])


def test_missing_plugin_has_another_error_than_a_plugin_that_misses_something(
    write_module: WriteModule,
) -> None:
    write_module("needy_plugin", "import no_such_library\n")
    with pytest.raises(PluginError, match="no module 'absent_plugin' on the path"):
        load_plugins(["absent_plugin"])
    with pytest.raises(PluginError, match=r"'needy_plugin'.*No module named 'no_such_library'"):
        load_plugins(["needy_plugin"])
    write_module("fine_plugin", "")
    with pytest.raises(PluginError, match=r"no module 'fine_plugin\.py'.*without '\.py'"):
        load_plugins(["fine_plugin.py"])


def test_only_registrations_of_a_script_are_shipped(
    write_module: WriteModule,
) -> None:
    write_module(
        "shipped_plugin",
        "from rlssl.registry import register_env\nregister_env('plug/in', 'shipped_plugin:make')\n",
    )
    load_plugins(["shipped_plugin"])
    register_env("by/script", "my_pkg.envs:make")
    register_encoder("rlssls_own", "rlssl.networks.encoders:MLP")
    shipped = local_registrations()
    assert "by/script" in shipped["environments"]
    assert "plug/in" not in shipped["environments"]
    assert "rlssls_own" not in shipped.get("encoders", {})


def test_environment_of_main_works_in_a_process_that_never_saw_its_source(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import cloudpickle, gymnasium as gym
            from gymnasium.envs.classic_control import CartPoleEnv
            from rlssl.registry import local_registrations, register_env

            class Mine(CartPoleEnv):
                def __init__(self, config):
                    super().__init__()
                    self.size = config["size"]

            register_env("main/mine", Mine)
            sys.stdout.buffer.write(cloudpickle.dumps(local_registrations()))
            """
        )
    )
    out = subprocess.run([sys.executable, script], capture_output=True, check=True)
    # Twice, as in a worker that holds an EnvRunner and a Learner.
    for _ in range(2):
        restore_registrations(cloudpickle.loads(out.stdout))
    env: Any = make_env({"id": "main/mine", "size": 4})
    assert env.size == 4
