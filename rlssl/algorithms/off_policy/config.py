"""The base of the configs of all algorithms with a replay buffer."""

import dataclasses
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.common.config import BaseConfig
from rlssl.algorithms.off_policy.data_sets.settings import DataSettings
from rlssl.algorithms.off_policy.settings import (
    DEFAULT_ANNEAL_ENV_STEPS,
    ReplaySettings,
    parse_relabel,
    parse_replay,
)
from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import check_bonuses, is_sampled
from rlssl.auxiliary.building import loss_configs
from rlssl.batches import IDENTITY
from rlssl.clocks import ENV_STEPS, UPDATES, default_period, every_key
from rlssl.environments.env_check import EnvSpaces
from rlssl.environments.goals import goal_functions
from rlssl.errors import SpecError
from rlssl.image_spaces import with_layout
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.registry import AUXILIARY_LOSSES
from rlssl.replay import RelabelSettings, check_memory, estimate_bytes
from rlssl.rollouts.no_env_runner import NoEnvRunner

#: Vector steps of a fragment if `env_runners.fragment_length` is not set.
VECTOR_STEPS = 4

#: Batches that are drawn ahead for a Learner on a GPU, if `training.replay.prefetch` is not set.
PREFETCH_WITH_GPU = 2


class OffPolicyConfig(BaseConfig, AlgorithmConfig):
    """Configures the replay buffer, the start of learning and the updates per agent step."""

    #: Whether the replay buffer will be on this node, so that `adapt_to` compares it with the
    #: node's memory. The driver of a run on a cluster is on another node.
    holds_replay = True

    #: The data set to learn from; None: the run's own steps alone.
    data_settings: DataSettings | None = None

    #: Whether the algorithm never makes steps of its own.
    always_offline = False

    #: Whether the algorithm makes its data set itself, between updates.
    makes_data = False

    #: Whether the algorithm has a policy, which can be evaluated in an environment.
    has_policy = True

    #: Whether the Learner measures a loss of its own on held-out rows; see `held_out_means`.
    has_held_out_loss = False

    #: Whether the algorithm cannot learn from a data set without actions.
    needs_actions = True

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_env_runners = 0
        # With RLlib's 200 vector steps, the acting policy would be many updates old.
        self.rollout_fragment_length = "auto"
        self.grad_clip_by = "global_norm"

    def data(
        self,
        *,
        path: str,
        mix: float | None = None,
        offline: bool | None = None,
        holdout: float | None = None,
        episodes: int | None = None,
    ) -> Self:
        """Sets a data set to learn from; see `DataSettings`.

        Args:
            path: Folder or URI of the data set.
            mix: Share of each batch that comes from the data set; the rest are the run's own steps.
            offline: Whether to learn from the data set alone, without steps of the run.
            holdout: Share of the episodes that is not trained on, but measured at evaluations.
            episodes: Number of episodes that are trained on, drawn by the seed of the run.
        """
        given: dict[str, Any] = {"mix": mix, "offline": offline, "holdout": holdout}
        given["episodes"] = episodes
        given = {key: value for key, value in given.items() if value is not None}
        if self.always_offline:
            if given.get("offline", True) is not True:
                raise SpecError(
                    f"data.offline: {offline!r}: {self.algorithm_name} learns from a data set "
                    "alone; leave the key out."
                )
            given["offline"] = True
        self.data_settings = DataSettings(path, **given)
        return self

    @property
    def data_holdout(self) -> float:
        """Share of the episodes of the data set that is not trained on."""
        return 0.0 if self.data_settings is None else self.data_settings.holdout

    @property
    def trains_offline(self) -> bool:
        """Whether the run learns from a data set alone, and makes no steps of its own."""
        return self.always_offline or bool(self.data_settings and self.data_settings.offline)

    @property
    def has_own_steps(self) -> bool:
        """Whether the run puts steps of its own into a replay buffer."""
        return self.makes_data or not self.trains_offline

    @property
    def clock(self) -> str:
        """Updates for a run that makes no steps; else env steps."""
        return UPDATES if self.trains_offline else ENV_STEPS

    @property
    def evaluation_period(self) -> int | None:
        """As in the base class; with held-out episodes, a tenth of the run if none is given."""
        given = super().evaluation_period
        if given is None and self.data_holdout and self.total_env_steps:
            return default_period(self.total_env_steps)
        return given

    @property
    def needs_environment(self) -> bool:
        """Whether the run makes the environment: to sample, or to evaluate its policy."""
        is_evaluated = bool(self.evaluation_episodes or self.video_period)
        return not self.trains_offline or (self.has_policy and is_evaluated)

    def set_setting(self, name: str, value: Any) -> None:
        """Sets one training setting; options of ``replay`` update those that were set before."""
        if name == "replay":
            value = {**self.replay, **value}
            parse_replay(value)
        if name == "relabel":
            parse_relabel(value)
        super().set_setting(name, value)

    @property
    def replay_settings(self) -> ReplaySettings:
        """``training.replay`` with the defaults."""
        return parse_replay({**self.settings_class().defaults()["replay"], **self.replay})

    @property
    def relabel_settings(self) -> RelabelSettings | None:
        """``training.relabel`` with the defaults; None: goals are not replaced."""
        # A config of an earlier version lacks the attribute.
        return parse_relabel(vars(self).get("relabel"))

    @property
    def beta_anneal_env_steps(self) -> int:
        """Env steps until the exponent of the importance weights reaches ``beta_end``."""
        given = self.replay_settings.beta_anneal_env_steps
        return given or self.total_env_steps or DEFAULT_ANNEAL_ENV_STEPS

    @property
    def prefetch_depth(self) -> int:
        """Batches that are drawn ahead; 0: none."""
        given = self.replay_settings.prefetch
        if given is not None:
            return given
        on_gpu = self.num_gpus_per_learner > 0 and not self.num_learners
        return PREFETCH_WITH_GPU if on_gpu else 0

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with all options of the replay buffer."""
        resolved = {
            "beta_anneal_env_steps": self.beta_anneal_env_steps,
            "prefetch": self.prefetch_depth,
        }
        replay = {**dataclasses.asdict(self.replay_settings), **resolved}
        relabel = self.relabel_settings
        used = {"replay": replay, "overlap_sampling": self.overlaps_sampling}
        used["relabel"] = None if relabel is None else dataclasses.asdict(relabel)
        return {**super().effective_training(action_space), **used}

    @property
    def overlaps_sampling(self) -> bool:
        """Whether remote EnvRunners sample the next fragment during the updates."""
        samples = self.num_env_runners > 0 and not self.trains_offline
        return samples and self.overlap_sampling is not False

    @property
    def gives_intrinsic_rewards(self) -> bool:
        """Whether one of the auxiliary losses gives intrinsic rewards that are stored."""
        return bool(self.stored_bonuses)

    @property
    def stored_bonuses(self) -> list[str]:
        """The losses whose intrinsic rewards are stored with the run's own steps."""
        base = AuxiliaryLoss.intrinsic_reward
        return [
            name
            for name, config in loss_configs(self).items()
            if AUXILIARY_LOSSES[name].intrinsic_reward is not base and not is_sampled(config)
        ]

    @property
    def reads_identity(self) -> bool:
        """Whether one of the auxiliary losses reads where rows come from."""
        reads = (AUXILIARY_LOSSES[name].reads for name in self.auxiliary_losses)
        return bool(IDENTITY & frozenset().union(*reads))

    @property
    def network_settings(self) -> dict[str, Any]:
        """The training settings of the networks, and the action repeat for schedules."""
        return {**super().network_settings, "action_repeat": self.action_repeat or 1}

    #: See `check_losses`.
    windows_end_with_fragments = False

    @property
    def rows_of_step(self) -> int:
        """Rows of one gradient step, of all Learners together."""
        return int(self.total_train_batch_size)

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Vector steps of a fragment; few by default, so that the acting policy is recent."""
        del worker_index
        given = self.rollout_fragment_length
        return VECTOR_STEPS if given == "auto" else int(given)

    def find_spaces(self) -> EnvSpaces:
        """The spaces of the environment, or of the data set if nothing makes the environment.

        Raises:
            SpecError: If there is no such data set, it does not fit the run, or its spaces are not
                those of the environment.
        """
        if self.data_settings is None:
            return super().find_spaces()
        from rlssl.algorithms.off_policy.data_sets.checks import find_spaces

        return find_spaces(self, super().find_spaces)

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """Adapts as every config, and checks goals and the memory of the replay buffer.

        Raises:
            SpecError: With the sizes of the replay buffer and of the memory; or goals are to be
                replaced, and the environment has no goals.
        """
        super().adapt_to(spaces)
        if self.trains_offline and spaces is not None:
            # `NoEnvRunner` reads them here.
            self.observation_space = spaces.observation_space
            self.action_space = spaces.action_space
        if self.data_settings is not None and spaces is not None:
            self._check_size(self.data_settings)
        if spaces is not None and self.relabel_settings is not None:
            goal_functions(self.env_settings).close()
        if not self.holds_replay or spaces is None:
            return
        if spaces.observation_space is None or spaces.action_space is None:
            return
        settings = self.replay_settings
        try:
            check_memory(
                self.replay_bytes(spaces),
                settings.max_memory_share,
                setting="the data set" if self.trains_offline else "training.replay_capacity",
            )
        except (MemoryError, ValueError) as error:
            raise SpecError(f"training.replay: {error}") from error

    def _check_size(self, settings: DataSettings) -> None:
        from rlssl.algorithms.off_policy.data_sets.checks import check_size
        from rlssl.data import EpisodeDataset

        check_size(EpisodeDataset(settings.path), settings)

    def replay_bytes(self, spaces: EnvSpaces) -> int:
        """Bytes of memory of the full replay buffer, and of the data set.

        Raises:
            ValueError: If the spaces cannot be stored.
        """
        settings = self.replay_settings
        num_rows = int(self.replay_capacity) if self.has_own_steps else 0
        if self.data_settings is not None:
            from rlssl.data import EpisodeDataset

            num_rows += EpisodeDataset(self.data_settings.path).num_rows
        return estimate_bytes(
            num_rows,
            with_layout(spaces.observation_space, self.network["encoder_config"]),
            spaces.action_space,
            self.frame_stack,
            prioritized=settings.prioritized,
            intrinsic_rewards=self.gives_intrinsic_rewards,
            frames_in_memory=settings.storage_path is None,
            identity=self.reads_identity,
            relabel=self.relabel_settings is not None,
        )

    def validate(self) -> None:
        """As in the base class; a run on a data set alone has no environment."""
        if self.trains_offline:
            self.env_runner_cls = NoEnvRunner
        super().validate()

    def check_training(self) -> None:
        """Checks the training settings, including the replay buffer's.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if self.replay_capacity <= self.frame_stack:
            raise SpecError(
                f"training.replay_capacity must be > model.frame_stack ({self.frame_stack}); got "
                f"{self.replay_capacity}."
            )
        samples = self.num_env_runners or self.in_evaluation or self.trains_offline
        if self.overlap_sampling and not samples:
            raise SpecError(
                "training.overlap_sampling: true needs remote EnvRunners; set "
                "resources.env_runners to 1 or more, or leave overlap_sampling out."
            )
        parse_replay(self.replay)

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        self._check_data()
        check_bonuses(loss_configs(self), self.algorithm_name, has_replay=True)
        for name, config in loss_configs(self).items():
            clip = getattr(config, "reward_clip", None)
            if is_sampled(config) and self.n_step > 1 and clip is not None:
                raise SpecError(
                    f"auxiliary.{name}.reward_clip={clip} with bonus_when=sampled needs "
                    f"training.n_step=1, since batches have sums of {self.n_step} rewards; set "
                    "reward_clip to null, or leave bonus_when out."
                )
        self._check_fragments()
        pieces = custom_connectors(self)
        if self._learner_connector is not None:
            pieces.append("learner_connector")
        if pieces:
            raise SpecError(
                f"your {pieces} have no effect on batches of a replay buffer; leave them out, or "
                "change observations in a wrapper of the environment."
            )

    def _check_data(self) -> None:
        """Refuses what a run with a data set cannot have."""
        if self.data_settings is None:
            if self.always_offline:
                raise SpecError(
                    f"{self.algorithm_name} learns from a data set; set data.path to its folder."
                )
            return
        if self.trains_offline and self.num_env_runners and not self.in_evaluation:
            raise SpecError(
                f"resources.env_runners: {self.num_env_runners} would sample, and this run learns "
                "from a data set alone; leave the key out."
            )
        holdout = self.data_settings.holdout
        if holdout and self.evaluation_period is None:
            raise SpecError(
                f"data.holdout: {holdout}: held-out episodes are measured at evaluations, and "
                f"there are none; set stop.{self.clock}, a tenth of which is the default, or "
                f"evaluation.{every_key(self.clock)}, or leave the key out."
            )
        if holdout and not (self.auxiliary_losses or self.has_held_out_loss):
            raise SpecError(
                f"data.holdout: {holdout}: auxiliary losses are measured on held-out episodes, and "
                "there are none; leave the key out."
            )
        for name in self.stored_bonuses:
            raise SpecError(
                f"auxiliary.{name}: intrinsic rewards are stored with the run's own steps, and "
                f"the steps of the data set have none; set auxiliary.{name}.bonus_when: sampled, "
                "or leave the loss out."
            )

    def _check_fragments(self) -> None:
        num_envs = self.num_envs_per_env_runner * max(1, self.num_env_runners)
        is_short = num_envs < self.num_learners or self.get_rollout_fragment_length() < 2
        # RLlib's config for its own evaluation has fragments of one step, and does not learn.
        is_short = is_short and not self.in_evaluation
        if self.gives_intrinsic_rewards and self.num_learners > 1 and is_short:
            # One vector step is too few: a step that resets the environment gives no chunk.
            raise SpecError(
                f"with intrinsic rewards and {self.num_learners} Learners, every fragment needs a "
                f"chunk for each Learner: at least {self.num_learners} environments (got "
                f"{num_envs}) and 2 vector steps (got {self.get_rollout_fragment_length()}). Raise "
                "env_runners.num_envs and env_runners.fragment_length, or lower "
                "resources.learners."
            )
