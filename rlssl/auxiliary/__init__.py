"""Auxiliary losses: one file per method, registered by name.

Importing this package registers the built-in losses without importing torch. Everything that a loss
of your own needs can be imported from here; see docs/your_own_loss.md.
"""

from typing import TYPE_CHECKING

from rlssl.registry import register_auxiliary_loss
from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.auxiliary.base import MEAN_ACTION, AuxiliaryLoss, AuxiliaryLossConfig, ChunkInfo
    from rlssl.auxiliary.bonus_options import BonusConfig
    from rlssl.auxiliary.normalization import RunningMoments
    from rlssl.auxiliary.queue import Queue, content_ids
    from rlssl.auxiliary.windows import VALID, Window, mean_over_valid, over_time
    from rlssl.batches import COPY, EPISODE, STEP
    from rlssl.networks.encoders import Encoder
    from rlssl.networks.target_networks import EMACopy
    from rlssl.networks.update_rng import UpdateRNG

__all__ = [
    "COPY",
    "EPISODE",
    "MEAN_ACTION",
    "STEP",
    "VALID",
    "AuxiliaryLoss",
    "AuxiliaryLossConfig",
    "BonusConfig",
    "ChunkInfo",
    "EMACopy",
    "Encoder",
    "Queue",
    "RunningMoments",
    "UpdateRNG",
    "Window",
    "content_ids",
    "mean_over_valid",
    "over_time",
]

register_auxiliary_loss("atc", "rlssl.auxiliary.contrastive.atc:ATC")
register_auxiliary_loss("arrow_of_time", "rlssl.auxiliary.predictive.arrow_of_time:ArrowOfTime")
register_auxiliary_loss("autoencoder", "rlssl.auxiliary.predictive.autoencoder:Autoencoder")
register_auxiliary_loss("barlow_twins", "rlssl.auxiliary.contrastive.barlow_twins:BarlowTwins")
register_auxiliary_loss(
    "behavior_cloning", "rlssl.auxiliary.imitation.behavior_cloning:BehaviorCloning"
)
register_auxiliary_loss("bisimulation", "rlssl.auxiliary.metric.bisimulation:Bisimulation")
register_auxiliary_loss("cpc", "rlssl.auxiliary.contrastive.cpc:CPC")
register_auxiliary_loss("curl", "rlssl.auxiliary.contrastive.curl:CURL")
register_auxiliary_loss("deepmdp", "rlssl.auxiliary.predictive.deepmdp:DeepMDP")
register_auxiliary_loss(
    "demonstration_progress",
    "rlssl.auxiliary.imitation.demonstration_progress:DemonstrationProgress",
)
register_auxiliary_loss("disagreement", "rlssl.auxiliary.bonuses.disagreement:Disagreement")
register_auxiliary_loss("episodic_count", "rlssl.auxiliary.bonuses.episodic_count:EpisodicCount")
register_auxiliary_loss("frame_order", "rlssl.auxiliary.predictive.frame_order:FrameOrder")
register_auxiliary_loss("gail", "rlssl.auxiliary.imitation.gail:GAIL")
register_auxiliary_loss("icm", "rlssl.auxiliary.bonuses.icm:ICM")
register_auxiliary_loss(
    "inverse_dynamics", "rlssl.auxiliary.predictive.inverse_dynamics:InverseDynamics"
)
register_auxiliary_loss("mico", "rlssl.auxiliary.metric.mico:MICo")
register_auxiliary_loss("moco", "rlssl.auxiliary.contrastive.moco:MoCo")
register_auxiliary_loss("noveld", "rlssl.auxiliary.bonuses.noveld:NovelD")
register_auxiliary_loss("nt_xent", "rlssl.auxiliary.contrastive.nt_xent:NTXent")
register_auxiliary_loss("random_bonus", "rlssl.auxiliary.bonuses.random_bonus:RandomBonus")
register_auxiliary_loss("ride", "rlssl.auxiliary.bonuses.ride:RIDE")
register_auxiliary_loss("rnd", "rlssl.auxiliary.bonuses.rnd:RND")
register_auxiliary_loss("rotation", "rlssl.auxiliary.predictive.rotation:Rotation")
register_auxiliary_loss("simsr", "rlssl.auxiliary.metric.simsr:SimSR")
register_auxiliary_loss("spr", "rlssl.auxiliary.predictive.spr:SPR")
register_auxiliary_loss("st_dim", "rlssl.auxiliary.contrastive.st_dim:STDIM")
register_auxiliary_loss(
    "temporal_distance", "rlssl.auxiliary.metric.temporal_distance:TemporalDistance"
)
register_auxiliary_loss("vicreg", "rlssl.auxiliary.contrastive.vicreg:VICReg")
register_auxiliary_loss(
    "time_contrastive", "rlssl.auxiliary.metric.time_contrastive:TimeContrastive"
)

# Public name -> the module that defines it.
_DEFINED_IN = dict.fromkeys(
    ("AuxiliaryLoss", "AuxiliaryLossConfig", "ChunkInfo", "MEAN_ACTION"), "rlssl.auxiliary.base"
) | {
    "COPY": "rlssl.batches",
    "EPISODE": "rlssl.batches",
    "STEP": "rlssl.batches",
    "BonusConfig": "rlssl.auxiliary.bonus_options",
    "EMACopy": "rlssl.networks.target_networks",
    "Encoder": "rlssl.networks.encoders",
    "Queue": "rlssl.auxiliary.queue",
    "RunningMoments": "rlssl.auxiliary.normalization",
    "content_ids": "rlssl.auxiliary.queue",
    "UpdateRNG": "rlssl.networks.update_rng",
}
_DEFINED_IN |= dict.fromkeys(
    ("VALID", "Window", "mean_over_valid", "over_time"), "rlssl.auxiliary.windows"
)

__getattr__ = attribute_loader(__name__, _DEFINED_IN)
