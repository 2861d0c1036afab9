"""The module of pretraining: an encoder and the auxiliary losses."""

from typing import Any

from ray.rllib.core.columns import Columns
from torch import nn

from rlssl.algorithms.off_policy.module import OffPolicyModule
from rlssl.auxiliary.base import RL_LATENTS
from rlssl.errors import SpecError
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.target_networks import TargetNetwork

#: What a user is told who lets a pretrained encoder act, or probes it in an environment.
NO_POLICY = (
    "a pretrained encoder has no policy that could act; train one that begins with it: "
    "rlssl train ppo ENV --encoder RUN. What its latents tell is measured on its data set while it "
    "trains: diagnostics: [ranks, action_probe, reward_probe] in the spec."
)


class PretrainModule(OffPolicyModule):
    """An encoder; in a Learner also its target network and the auxiliary losses.

    Settings (``model_config``): those of ``.model()``; target_tau.
    """

    def setup(self) -> None:
        """Builds the encoder from the spaces and ``model_config``."""
        self.build_normalizer()
        self.encoder = self.build_encoder(self.model_config)
        self.auxiliary = nn.ModuleDict()
        self.augmentation = self.next_augmentation = None
        self.target: TargetNetwork | None = None
        if self.inference_only:
            return
        key_encoder = None
        if (tau := self.model_config["target_tau"]) is not None:
            online = nn.ModuleDict({"encoder": self.encoder})
            self.target = TargetNetwork(online, tau=tau, every_updates=None)
            targets: Any = self.target.target
            key_encoder = targets["encoder"]
        self.build_views_and_losses(key_encoder)
        _check_trains_encoder(self.auxiliary)

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        return ["target", "augmentation", "next_augmentation", "auxiliary"]

    def stateful_parts(self) -> list[Any]:
        """The parts whose ``after_update()`` the Learner calls."""
        return [] if self.target is None else [self.target]

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The latents that several losses share; {} if all losses have windows."""
        if all(loss.window is not None for loss in self.auxiliary.values()):
            return {}
        out, obs = {}, batch[Columns.OBS]
        if self.augmentation is not None:
            obs = out[AUGMENTED_OBS] = self.augmentation(obs)
        out[RL_LATENTS] = self.encoder(obs)
        return out

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        del batch
        raise SpecError(NO_POLICY)


def _check_trains_encoder(losses: nn.ModuleDict) -> None:
    """Refuses losses of which none trains the encoder."""
    if losses and not any(loss.trains == "encoder" for loss in losses.values()):
        raise SpecError(
            f"auxiliary {', '.join(losses)}: none of these losses trains the encoder, which is all "
            "that pretrain trains; add one that does, as inverse_dynamics."
        )
