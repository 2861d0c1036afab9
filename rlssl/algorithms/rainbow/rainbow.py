"""Rainbow on a replay of single frames, each of its parts a switch, with auxiliary losses."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.algorithms.rainbow.presets import PRESETS, VARIANTS
from rlssl.errors import SpecError
from rlssl.schedules import Schedule, value_at

#: The words that an option takes.
_WORDS = {
    "td_loss": ("huber", "mse"),
    "priority": ("kl", "cross_entropy"),
    "exploration": ("epsilon_greedy", "boltzmann"),
    "noise": ("factorised", "independent"),
    "bias_sigma_fan": ("in", "out"),
    "noise_redraw": ("step", "episode"),
}


class RainbowConfig(OffPolicyConfig):
    """Configures Rainbow; some defaults depend on the observations: ``defaults_by_input``.

    Source:
        Hessel et al. 2018, arXiv:1710.02298.
    """

    algorithm_name = "rainbow"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS
    # Frames: as published for Atari, with a replay that fits most nodes. Vectors: noise small
    # enough to balance a pole is too small to find out that it can be; so epsilon comes first.
    defaults_by_input: ClassVar = {
        "vectors": {
            "lr": 5e-4,
            "adam_epsilon": 1e-5,
            "_train_batch_size_per_learner": 128,
            "num_atoms": 101,
            "head_hidden": [128],
            "sigma0": 0.1,
            "epsilon_with_noise": [[0, 1.0], [5_000, 0.01]],
            "epsilon_without_noise": [[0, 1.0], [10_000, 0.05]],
            "target_update_every_updates": 100,
            "learning_starts_agent_steps": 1_000,
            "agent_steps_per_iteration": 1_000,
        },
        "frames": {
            "lr": 6.25e-5,
            "adam_epsilon": 1.5e-4,
            "_train_batch_size_per_learner": 32,
            "num_atoms": 51,
            "head_hidden": [512],
            "sigma0": 0.5,
            "v_min": -10.0,
            "v_max": 10.0,
            "epsilon_with_noise": 0.0,
            "epsilon_without_noise": [[0, 1.0], [1_000_000, 0.01]],
            "target_update_every_updates": 2_000,
            "learning_starts_agent_steps": 20_000,
            "agent_steps_per_iteration": 250,
        },
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Rainbow)
        self._set_off_policy_defaults()
        self.double = self.dueling = self.distributional = self.noisy = True
        self.td_loss = "huber"
        self.priority = "kl"
        self.reward_bound = 1.0
        self.v_min: float | None = None
        self.v_max: float | None = None
        self.noise = "factorised"
        self.bias_sigma_fan = "in"
        self.noise_redraw = "step"
        self.exploration = "epsilon_greedy"
        # None: by the observations, one with noisy layers and one without.
        self.epsilon: Schedule | None = None
        self.temperature: Schedule = 1.0
        self.eval_epsilon = 0.0
        self.epsilon_with_noise: Schedule | None = None
        self.epsilon_without_noise: Schedule | None = None
        self._set_rlssl_defaults()

    def training(
        self,
        *,
        double: bool = NotProvided,
        dueling: bool = NotProvided,
        distributional: bool = NotProvided,
        noisy: bool = NotProvided,
        n_step: int = NotProvided,
        gamma: float = NotProvided,
        lr: Schedule = NotProvided,
        adam_epsilon: float = NotProvided,
        train_batch_size_per_learner: int = NotProvided,
        grad_clip: float | None = NotProvided,
        td_loss: Literal["huber", "mse"] = NotProvided,
        priority: Literal["kl", "cross_entropy"] = NotProvided,
        num_atoms: int = NotProvided,
        v_min: float | None = NotProvided,
        v_max: float | None = NotProvided,
        reward_bound: float = NotProvided,
        head_hidden: list[int] = NotProvided,
        sigma0: float = NotProvided,
        noise: Literal["factorised", "independent"] = NotProvided,
        bias_sigma_fan: Literal["in", "out"] = NotProvided,
        noise_redraw: Literal["step", "episode"] = NotProvided,
        exploration: Literal["epsilon_greedy", "boltzmann"] = NotProvided,
        epsilon: Schedule | None = NotProvided,
        temperature: Schedule = NotProvided,
        eval_epsilon: float = NotProvided,
        replay: Mapping[str, Any] = NotProvided,
        replay_capacity: int = NotProvided,
        learning_starts_agent_steps: int = NotProvided,
        updates_per_agent_step: float = NotProvided,
        target_update_every_updates: int = NotProvided,
        target_tau: float | None = NotProvided,
        auxiliary_in_priorities: bool = NotProvided,
        agent_steps_per_iteration: int = NotProvided,
        **rllib: Any,
    ) -> Self:
        """Sets what the update does. Schedules are a number or [[env_steps, value], ...].

        Args:
            double: Whether the online network chooses the next action that the target values.
            dueling: Whether state and actions have streams of their own.
            distributional: Whether distributions of returns are learned (C51), or their means.
            noisy: Whether the head's layers are noisy.
            n_step: Steps of the return before the bootstrap; >= 1.
            gamma: Discount per agent step; in [0, 1].
            lr: Learning rate of Adam; > 0.
            adam_epsilon: Adam's epsilon; > 0.
            train_batch_size_per_learner: Transitions of an update, for each Learner.
            grad_clip: Largest global gradient norm; None: no clipping.
            td_loss: Without ``distributional``: ``huber`` (delta 1) or ``mse`` (half the square).
            priority: With it: ``kl``, the divergence from the target (the paper), or
                ``cross_entropy``, which is the target's entropy higher (published codes).
            num_atoms: Atoms of a distribution; >= 2.
            v_min: Return of the first atom; None: ``-reward_bound / (1 - gamma)``.
            v_max: Return of the last atom; None: ``reward_bound / (1 - gamma)``.
            reward_bound: Largest size of a reward that is usual; > 0.
            head_hidden: Features of the hidden layers of each stream.
            sigma0: Noise at the start; > 0.
            noise: ``factorised`` or ``independent``.
            bias_sigma_fan: Whether noise of biases starts by the layer's inputs or outputs.
            noise_redraw: Noise of acting is drawn every ``step`` or every ``episode``.
            exploration: ``epsilon_greedy`` or ``boltzmann``.
            epsilon: Share of random actions; None: see ``defaults_by_input``.
            temperature: Of ``boltzmann``; > 0, units of the return.
            eval_epsilon: Share of random actions in evaluation.
            replay: Fields of `ReplaySettings`.
            replay_capacity: Frames.
            learning_starts_agent_steps: Agent steps before the first update.
            updates_per_agent_step: Updates for every agent step from then on.
            target_update_every_updates: The target is renewed every so many updates.
            target_tau: It moves by this share after every update instead; None: it does not.
            auxiliary_in_priorities: Whether the auxiliary loss is weighted and enters priorities
                as a part of each row's loss.
            agent_steps_per_iteration: Agent steps that a result tells of, at least.
            **rllib: What RLlib itself passes when it copies a config.
        """
        given = {key: value for key, value in locals().items() if value is not NotProvided}
        own = self.training_arguments().keys()
        self._set_training({key: value for key, value in given.items() if key in own})
        return super().training(**rllib)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        for key, words in _WORDS.items():
            if getattr(self, key) not in words:
                raise SpecError(
                    f"training.{key} must be one of {list(words)}; got {getattr(self, key)!r}."
                )
        self.check_range("reward_bound", 0, None, exclusive=True)
        self.check_range("eval_epsilon", 0, 1)
        self.check_range("sigma0", 0, None)
        self.check_range("num_atoms", 2, None)
        for key in ("epsilon", "temperature"):
            self.check_schedule_of(key)
        if max(_values(self.effective_epsilon)) > 1:
            raise SpecError(f"training.epsilon must be <= 1; got {self.epsilon}.")
        if min(_values(self.temperature)) <= 0:
            raise SpecError(f"training.temperature must be > 0; got {self.temperature}.")
        if any(type(size) is not int or size < 1 for size in self.head_hidden or []):
            raise SpecError(f"training.head_hidden must list sizes >= 1; got {self.head_hidden}.")
        low, high = self.support_bounds
        if not low < high:
            raise SpecError(f"training.v_min must be < v_max; got {low} and {high}.")

    @property
    def effective_epsilon(self) -> Schedule:
        """``epsilon``, or what stands for it where it is None."""
        by_input = self.epsilon_with_noise if self.noisy else self.epsilon_without_noise
        return next(given for given in (self.epsilon, by_input, 0.0) if given is not None)

    @property
    def support_bounds(self) -> tuple[float, float]:
        """``v_min`` and ``v_max``, or what stands for them.

        Raises:
            SpecError: If they depend on a horizon that has no end.
        """
        if self.gamma >= 1 and (self.v_min is None or self.v_max is None):
            raise SpecError("training.v_min and training.v_max must be set where gamma is 1.")
        low, high = self.v_min, self.v_max
        bound = self.reward_bound / (1 - self.gamma) if self.gamma < 1 else 0.0
        return -bound if low is None else low, bound if high is None else high

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Rainbow's networks with this config's settings."""
        # Imported here, because they need torch, which reading a spec does not.
        from rlssl.algorithms.rainbow.rainbow_module import RainbowModule

        low, high = self.support_bounds
        own = {key: getattr(self, key) for key in (*_SWITCHES, *_NETWORK, *_ACTING)}
        settings = {
            **self.module_settings,
            **own,
            "v_min": low,
            "v_max": high,
            "epsilon": self.effective_epsilon,
            "action_repeat": self.action_repeat or 1,
        }
        return RLModuleSpec(module_class=RainbowModule, model_config=settings)

    def get_default_learner_class(self) -> type[Learner]:
        """The Learner."""
        from rlssl.algorithms.rainbow.rainbow_learner import RainbowTorchLearner

        return RainbowTorchLearner


_SWITCHES = ("double", "dueling", "distributional", "noisy")
_NETWORK = ("num_atoms", "head_hidden", "sigma0", "noise", "bias_sigma_fan", "target_tau")
_ACTING = (
    *("exploration", "temperature", "noise_redraw", "eval_epsilon"),
    "target_update_every_updates",
)


class Rainbow(OffPolicyAlgorithm):
    """Rainbow with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return RainbowConfig()

    def own_results(self) -> dict[str, Any]:
        """Adds the share of random actions."""
        epsilon = value_at(self.config.effective_epsilon, self.replay_env_steps)
        return {**super().own_results(), "epsilon": epsilon}


def _values(schedule: Schedule) -> list[float]:
    return [point[1] for point in schedule] if isinstance(schedule, Sequence) else [schedule]
