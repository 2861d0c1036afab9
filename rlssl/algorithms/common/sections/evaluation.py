"""The builder method ``.evaluation()``: evaluation during training, on the clock of the run."""

from collections.abc import Mapping
from typing import Any, Self, get_args

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, every_key
from rlssl.environments.rewards.options import of_scores
from rlssl.environments.vector_infos import Success
from rlssl.errors import SpecError


class WithEvaluation(AlgorithmConfig):
    """Adds seeded evaluation to RLlib's; a base class of `BaseConfig`."""

    #: Not named evaluation_*: RLlib passes such attributes to its own `evaluation()`. It may also
    #: have "success", if it is not the default: which steps make an episode a success.
    seeded_evaluation: dict[str, Any]

    @property
    def clock(self) -> str:
        """What stop, checkpoints and evaluations count; see `rlssl.clocks`."""
        return ENV_STEPS

    @property
    def absent_columns(self) -> Mapping[str, str]:
        """Columns of a batch that losses may not read in this run -> why."""
        return {}

    @property
    def data_holdout(self) -> float:
        """Share of the episodes of a data set that is not trained on, but measured."""
        return 0.0

    @property
    def evaluation_period(self) -> int | None:
        """Steps of the run's clock between evaluations; None: there are none."""
        period: int | None = self.seeded_evaluation.get(every_key(self.clock))
        return period

    @property
    def evaluation_episodes(self) -> int:
        """Episodes that an evaluation plays; 0: it measures held-out episodes alone."""
        is_given = self.seeded_evaluation.get(every_key(self.clock)) is not None
        return int(self.seeded_evaluation["episodes"]) if is_given else 0

    @property
    def video_period(self) -> int | None:
        """Steps of the run's clock between videos; None: there are none."""
        return (self.seeded_evaluation.get("video") or {}).get(every_key(self.clock))

    @property
    def evaluation_env_settings(self) -> dict[str, Any]:
        """The evaluation environment as ``{"id": ..., **options}``."""
        return {**of_scores(self.env_settings), **self.seeded_evaluation["env"]}

    def evaluation(
        self,
        *,
        every_env_steps: int | None = None,
        every_updates: int | None = None,
        episodes: int | None = None,
        explore: bool | None = None,
        env: Mapping[str, Any] | None = None,
        success: Success | None = None,
        video: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Evaluates every ``every_env_steps`` on ``episodes`` seeded episodes; see `rlssl.policy`.

        Args:
            every_env_steps: Environment frames between evaluations; None: never.
            every_updates: The same for a run that learns from a data set alone: gradient steps.
            episodes: Number of episodes; episode k runs with seed k. 0: none is played, and an
                evaluation measures the held-out episodes of a data set.
            explore: Whether actions are sampled instead of the policy's mode.
            env: Options that differ from the training environment's.
            success: "any": an episode is a success if one of its steps is, and counts with its
                highest value; "last": only its last step counts. Also for training's success rate.
            video: ``every_env_steps`` between videos, and ``episodes`` of each (1); None: none.
            **kwargs: RLlib's own evaluation settings; they work as in RLlib.
        """
        if success not in (None, *get_args(Success)):
            raise SpecError(f"evaluation.success must be 'any' or 'last'; got {success!r}.")
        given: dict[str, Any] = dict(every_env_steps=every_env_steps, episodes=episodes)
        given |= dict(every_updates=every_updates, explore=explore, env=env and dict(env))
        given |= dict(success=success, video=video)
        given = {key: value for key, value in given.items() if value is not None}
        self.seeded_evaluation = {**self.seeded_evaluation, **given}
        return super().evaluation(**kwargs)

    def check_evaluation(self) -> None:
        """Refuses evaluations that measure nothing.

        Raises:
            SpecError: Naming the key, the value and the fix.
        """
        if self.seeded_evaluation["episodes"] == 0 and not self.data_holdout:
            raise SpecError(
                "evaluation.episodes: 0: an evaluation that plays no episode measures the held-out "
                "episodes of a data set, and there are none; set it to 1 or more, or set "
                "data.holdout (0.1)."
            )

    def check_clock(self) -> None:
        """Refuses periods that are counted on another clock than that of the run.

        Raises:
            SpecError: Naming the key, the value and the right key.
        """
        other = UPDATES if self.clock == ENV_STEPS else ENV_STEPS
        video = self.seeded_evaluation.get("video") or {}
        for where, section in (("evaluation", self.seeded_evaluation), ("evaluation.video", video)):
            value = section.get(every_key(other))
            if value is not None:
                raise SpecError(
                    f"{where}.{every_key(other)}: {value} counts {WORDS[other]}, and this run "
                    f"counts {WORDS[self.clock]}; write {every_key(self.clock)}."
                )
