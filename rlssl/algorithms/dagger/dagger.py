"""DAgger: behavior cloning of an expert's answers to the states that the policy visits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

from rlssl.algorithms.bc.bc import BC, BCConfig
from rlssl.algorithms.dagger.presets import PRESETS, VARIANTS
from rlssl.algorithms.dagger.rounds import (
    LabeledEpisode,
    beta_of,
    environment_of_rounds,
    find_expert,
    play,
)
from rlssl.algorithms.dagger.settings import DAggerSettings
from rlssl.environments.experts import is_expert
from rlssl.errors import SpecError
from rlssl.networks.action_encoding import to_module_actions
from rlssl.policy import Policy
from rlssl.system.random_state import undisturbed_generators
from rlssl.system.seeding import seed_episode, seed_of

#: Key of the state in the checkpoint.
_STATE = "rlssl_dagger"


class DAggerConfig(BCConfig):
    """Configures DAgger; see `DAggerSettings` for the training settings.

    Example:
        >>> config = DAggerConfig().environment("Pendulum-v1").training(expert="expert/pendulum")
        >>> config.clock, config.needs_environment
        ('updates', True)

    Source:
        Ross et al. 2011, arXiv:1011.0686. Differs: see PAPERS.md.
    """

    algorithm_name = "dagger"
    settings_class = DAggerSettings
    makes_data = True
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS
    absent_columns: Mapping[str, str] = {
        Columns.ACTIONS: (
            "dagger's actions are the expert's answers, not those that led to the next "
            "observation; use a loss of observations alone"
        )
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or DAgger)

    @property
    def needs_environment(self) -> bool:
        """Always: rounds are played in it."""
        return True

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if not self.expert:
            raise SpecError(
                "training.expert: dagger needs an expert that labels the visited states; name one, "
                "such as expert/pendulum (rlssl list experts), or the folder of an exported policy."
            )
        if not is_expert(self.expert) and not Path(self.expert).is_absolute():
            raise SpecError(
                f"training.expert: {self.expert!r} must be expert/NAME (rlssl list experts), or "
                "the absolute path of an exported policy: trials run in other folders."
            )
        if not self.checkpoint_replay:
            raise SpecError(
                "checkpoint.replay: false: dagger cannot make the labels of earlier rounds again; "
                "leave the key out."
            )

    def data(self, *, path: str, **options: Any) -> Self:
        """Refuses a data set.

        Raises:
            SpecError: Always.
        """
        del options
        raise SpecError(
            f"data.path {path}: dagger makes its own data, and its first round is played by the "
            "expert; leave data out, or use bc."
        )

    def _check_data(self) -> None:
        if self.env is None:
            raise SpecError("dagger plays episodes; set env.")


class DAgger(BC):
    """Rounds of labeled episodes, and updates on all of them, from the current weights.

    Rounds are played in the trial's process, by a copy of the policy. Round r is played before
    update ``r * updates_per_round``. A result's ``dagger`` has the number of rounds so far and, of
    all rounds together, episodes and env steps; of the last round, ``beta``, the mean return and
    the share of the expert's actions.
    """

    def setup(self, config: Any) -> None:
        """Builds the Algorithm with an empty set of labels."""
        super().setup(config)
        self._num_rounds = 0
        self._last_round: dict[str, float] = {}

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return DAggerConfig()

    def training_step(self) -> None:
        """Plays the round that is due, and makes updates."""
        config = self.config
        due = self.update_ratio.num_updates // config.updates_per_round
        while self._num_rounds <= min(due, config.rounds - 1):
            self._play_round()
        super().training_step()

    def updates_of_iteration(self, start: int) -> int:
        """As the base; an iteration ends where a round is due."""
        every = self.config.updates_per_round
        return min(super().updates_of_iteration(start), every - start % every)

    def extra_results(self) -> dict[str, Any]:
        """Adds the rounds."""
        found = {
            "rounds": self._num_rounds,
            "episodes": self._num_rounds * self.config.episodes_per_round,
            "env_steps": self.update_ratio.agent_steps * (self.config.action_repeat or 1),
            **self._last_round,
        }
        return {**super().extra_results(), "dagger": found}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As the base, with the rounds."""
        rounds = {"num_rounds": self._num_rounds, "last_round": self._last_round}
        return {**super().get_state(*args, **kwargs), _STATE: rounds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what ``get_state`` gave."""
        super().set_state(state)
        if _STATE in state:
            self._num_rounds = state[_STATE]["num_rounds"]
            self._last_round = dict(state[_STATE]["last_round"])

    def _play_round(self) -> None:
        config, number = self.config, self._num_rounds
        beta = beta_of(number, config.beta_rounds)
        with undisturbed_generators():
            episodes = self._episodes(number, beta)
        to_policy = to_module_actions(self.spaces[INPUT_ENV_SINGLE_SPACES][1])
        labeled = [each.labeled for each in episodes]
        labeled = [replace(each, actions=to_policy(each.actions)) for each in labeled]
        self._store(
            [each.to_single_agent_episode(f"round{number}.{k}") for k, each in enumerate(labeled)]
        )
        self._num_rounds += 1
        self._last_round = {
            "beta": beta,
            "episode_return_mean": float(np.mean([each.score for each in episodes])),
            "expert_share": float(np.mean([each.expert_share for each in episodes])),
        }

    def _episodes(self, number: int, beta: float) -> list[LabeledEpisode]:
        """The episodes of a round; they depend on the run's seed, the round and the weights."""
        config = self.config
        policy = None if beta >= 1 else Policy.from_algorithm(self)

        def act(observation: Any) -> Any:
            assert policy is not None  # with beta = 1, the policy is not asked
            return policy.act(observation, explore=config.explore)

        episodes = []
        for k in range(config.episodes_per_round):
            seed = seed_of(f"dagger/{number}/{k}", config.seed)
            seed_episode(seed)
            with environment_of_rounds(config.env_settings, seed) as env:
                if policy is not None:
                    policy.reset()
                expert = find_expert(config.expert, env)
                episodes.append(play(env, expert, act, beta=beta, seed=seed))
        return episodes
