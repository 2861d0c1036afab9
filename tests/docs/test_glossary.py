"""docs/metrics.md has every key that runs report, and no other."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import rlssl
import rlssl.auxiliary
from rlssl.algorithms.dagger.dagger import DAggerConfig
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.bc.bc_bench import random_data, small_bc
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.imitation.recorded import with_demonstrations
from tests.experiment.command_line import only_trial, results
from tests.experiment.command_line import rlssl as in_own_process

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
LEARNER = "learners/default_policy/"
#: What each section of the page leaves out of its keys.
PREFIXES = {"Auxiliary losses": "aux/", "The RL loss": LEARNER}
#: Keys that not every run of a loss has.
OF_STREAMS = {"aux/<name>/value_loss", "aux/<name>/advantage_size"}


def keys_of_page() -> dict[str, list[str]]:
    """The keys of each section, with their prefix."""
    found = {}
    for title, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE):
        cells = re.findall(r"^\| (`[^|]+`) \|", body, re.MULTILINE)
        keys = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
        found[title] = [PREFIXES.get(title, "") + key for key in keys]
    return found


def pattern(key: str) -> re.Pattern[str]:
    """``<name>`` stands for one part of a key, ``...`` for any rest."""
    parts = (re.escape(part) for part in re.split(r"(?:<name>|\.\.\.)", key))
    holes = [{"<name>": "[^/]+", "...": ".+"}[hole] for hole in re.findall(r"<name>|\.\.\.", key)]
    text = next(parts)
    for hole, part in zip(holes, parts, strict=True):
        text += hole + part
    return re.compile(text)


def unknown(reported: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The reported keys that no key of the page stands for."""
    patterns = [pattern(key) for key in keys]
    return sorted(key for key in reported if not any(one.fullmatch(key) for one in patterns))


def invented(keys: Iterable[str], reported: Iterable[str]) -> list[str]:
    """The keys of the page that stand for nothing that was reported."""
    reported = list(reported)
    return sorted(key for key in keys if not any(pattern(key).fullmatch(r) for r in reported))


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """The keys of nested results, joined by "/"."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}/")
        elif not isinstance(value, Mapping):
            yield f"{prefix}{key}"


def own_losses() -> set[str]:
    """The names of rlssl's losses; other tests register more."""
    return {name for name, of in AUXILIARY_LOSSES.items() if of.__module__.startswith("rlssl.")}


@pytest.fixture(scope="module")
def keys_of_losses() -> set[str]:
    """The keys below aux/ of an update with every loss."""
    losses: dict[str, Any] = {name: {} for name in own_losses()}
    config = small_ppo("minatar/Breakout").model(encoder_config={})
    bench = Bench(config.auxiliary(**with_demonstrations(losses, config.env_settings)))
    return {key for key in flat(bench.update(bench.sample())["default_policy"]) if "aux/" in key}


def test_the_glossary_has_the_keys_of_every_loss(keys_of_losses: set[str]) -> None:
    sections = keys_of_page()
    own = sections["Auxiliary losses"]
    reported = {key for key in keys_of_losses if not key.startswith("aux/latents/")}
    assert {key.split("/")[1] for key in reported} == own_losses()
    assert unknown(reported, own) == []
    assert set(invented(own, reported)) == OF_STREAMS


def keys_of_a_command(folder: Path) -> set[str]:
    """Of a PPO run with evaluations and a bonus with a stream of its own."""
    settings = {
        "training": "{variant: both, train_batch_size_per_learner: 128, num_epochs: 1}",
        "evaluation": "{every_env_steps: 128, episodes: 2}",
        "diagnostics": "[ranks]",
        "report_every_s": "0",
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words = ["ppo", "CartPole-v1", "--aux", "rnd:stream=own", "--stop", "env_steps=256", *options]
    in_own_process("train", *words, "--name", "glossary", cwd=folder)
    rows = results(only_trial(folder / "results" / "glossary"))
    hidden = ("config/", "episodes", "effective/")
    return {key for row in rows for key in flat(row) if not key.startswith(hidden)}


def keys_of_hindsight() -> set[str]:
    """Of Rainbow with replaced goals."""
    config: Any = rlssl.RainbowConfig().environment("goals/bit-flipping")
    config.training(
        relabel={"strategy": "future"}, learning_starts_agent_steps=32, agent_steps_per_iteration=64
    )
    algorithm = config.build_algo()
    found = set(flat(algorithm.train()))
    algorithm.stop()
    return {key for key in found if key.startswith("replay/")}


def keys_of_an_iteration(name: str, env: dict[str, Any] | None = None) -> set[str]:
    """Of an algorithm in this process.

    Args:
        name: The algorithm.
        env: Options of the environment.
    """
    config = getattr(rlssl, f"{name}Config")()
    is_discrete = name in ("A3C", "Rainbow")
    env_id = "CartPole-v1" if is_discrete else "Pendulum-v1"
    config = config.environment(env_id, env_config=env or {})
    config = config.auxiliary(icm={}).model(encoder_config={"hidden": [16]})
    config = config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=64)
    if name != "A3C":
        config = config.training(learning_starts_agent_steps=32)
    algorithm = config.build_algo()
    try:
        found = set(flat(algorithm.train()))
    finally:
        algorithm.stop()
    return {key for key in found if key != "episodes" and not key.startswith("config/")}


def keys_of_imitation(folder: Path) -> set[str]:
    """Of behavior cloning, discrete and continuous, with held-out episodes, and of DAgger."""
    pendulum = DAggerConfig().environment("Pendulum-v1").training(expert="expert/pendulum")
    configs = [pendulum.training(updates_per_round=10)]
    for name in ("CartPole-v1", "Pendulum-v1"):
        env = gym.make(name)
        data = random_data(folder / name, env.observation_space, env.action_space)
        config = small_bc(data, holdout=0.3).environment(name)
        configs.append(config.evaluation(every_updates=10, episodes=1))
    found: set[str] = set()
    for config in configs:
        algorithm = config.build_algo()
        found |= set(flat(algorithm.train()))
        algorithm.stop()
    return {key for key in found if key != "episodes" and not key.startswith("config/")}


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("own_ray")
def test_the_glossary_has_the_keys_of_every_algorithm(
    tmp_path: Path, keys_of_losses: set[str]
) -> None:
    sections = keys_of_page()
    every = [key for keys in sections.values() for key in keys]
    reported = keys_of_a_command(tmp_path) | keys_of_losses
    reported |= keys_of_imitation(tmp_path)
    for name in ("A3C", "Rainbow", "SAC", "DDPG", "IQL"):
        reported |= keys_of_an_iteration(name)
    reported |= keys_of_an_iteration("DDPG", env={"reward": "none"})
    reported |= keys_of_hindsight()
    assert unknown(reported, every) == []
    assert invented(every, reported) == []
