"""SAC on a replay of single frames, from vectors and from pixels, with auxiliary losses."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.sac.presets import PRESETS, VARIANTS
from rlssl.errors import SpecError
from rlssl.schedules import Schedule

_WORDS = {"log_std_mode": ("clamp", "tanh")}
_NETWORK = ("initial_alpha", "log_std_bounds", "log_std_mode")


class SACConfig(OffPolicyActorCriticConfig):
    """Configures SAC; some defaults depend on the observations: ``defaults_by_input``.

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905.
    """

    algorithm_name = "sac"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS
    defaults_by_input: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vectors": {
            **OffPolicyActorCriticConfig.defaults_by_input["vectors"],
            "initial_alpha": 1.0,
            "log_std_bounds": [-20.0, 2.0],
            "log_std_mode": "clamp",
        },
        "frames": {
            **OffPolicyActorCriticConfig.defaults_by_input["frames"],
            "initial_alpha": 0.1,
            "log_std_bounds": [-10.0, 2.0],
            "log_std_mode": "tanh",
        },
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SAC)
        self._set_actor_critic_defaults()
        self.initial_alpha: float | None = None
        self.learn_alpha = True
        self.alpha_lr: Schedule | None = None
        self.alpha_beta1 = 0.9
        self.target_entropy: float | None = None
        self.log_std_bounds: list[float] | None = None
        self.log_std_mode: str | None = None
        self._set_rlssl_defaults()

    def training(
        self,
        *,
        initial_alpha: float = NotProvided,
        learn_alpha: bool = NotProvided,
        alpha_lr: Schedule | None = NotProvided,
        alpha_beta1: float = NotProvided,
        target_entropy: float | None = NotProvided,
        log_std_bounds: list[float] = NotProvided,
        log_std_mode: Literal["clamp", "tanh"] = NotProvided,
        **shared: Any,
    ) -> Self:
        """Sets what the update does; see `OffPolicyActorCriticConfig.training` for the rest.

        Args:
            initial_alpha: Temperature at the start; > 0, units of the return a nat.
            learn_alpha: Whether it follows the policy's entropy, or stays.
            alpha_lr: Learning rate of its logarithm; None: ``lr``.
            alpha_beta1: Of its Adam; in [0, 1).
            target_entropy: Nats; None: minus the dimensions of the action.
            log_std_bounds: Least and largest logarithm of a deviation before the tanh, nats.
            log_std_mode: How it is kept there: ``clamp``, or rescaled by a ``tanh``.
            **shared: What all actor-critics have.
        """
        self._set_given(locals(), SACConfig)
        return super().training(**shared)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if self.log_std_mode is not None:
            self.check_words(_WORDS)
        self.check_range("initial_alpha", 0, None, exclusive=True)
        self.check_schedule_of("alpha_lr")
        if not 0 <= self.alpha_beta1 < 1:
            raise SpecError(f"training.alpha_beta1 must be in [0, 1); got {self.alpha_beta1}.")
        bounds = self.log_std_bounds
        if bounds is not None and (len(bounds) != 2 or not bounds[0] < bounds[1]):
            raise SpecError(f"training.log_std_bounds must be two that ascend; got {bounds}.")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """SAC's networks with this config's settings."""
        # Imported here, because they need torch, which reading a spec does not.
        from rlssl.algorithms.sac.sac_module import SACModule

        own = {key: getattr(self, key) for key in _NETWORK}
        return RLModuleSpec(module_class=SACModule, model_config={**self.module_settings, **own})

    def get_default_learner_class(self) -> type[Learner]:
        """The Learner."""
        from rlssl.algorithms.sac.sac_learner import SACTorchLearner

        return SACTorchLearner


class SAC(OffPolicyAlgorithm):
    """SAC with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return SACConfig()
