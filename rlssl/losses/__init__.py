"""Losses as pure functions: tensors in, per-sample losses out.

No function here reads a network, a config or Ray. Results are not reduced: the Learner applies
masks, weights and the mean in one place.
"""

from rlssl.losses.advantage import generalized_advantage, normalize_advantage
from rlssl.losses.adversarial import discriminator_loss, discriminator_reward, slope_penalty
from rlssl.losses.batch_statistics import barlow_twins, vicreg
from rlssl.losses.bisimulation import bisimulation_loss, gaussian_nll, gaussian_w2
from rlssl.losses.contrastive import (
    bilinear_info_nce,
    info_nce,
    info_nce_at_places,
    masked_info_nce,
    nt_xent,
    queue_info_nce,
)
from rlssl.losses.distributional import c51_loss, c51_project, expected_values
from rlssl.losses.dynamics import (
    forward_dynamics_loss,
    inverse_dynamics_loss,
    lipschitz_penalty,
)
from rlssl.losses.metric_learning import (
    lifted_structure,
    n_pair,
    pair_contrastive,
    semi_hard_triplet,
    triplet,
)
from rlssl.losses.novelty import ensemble_disagreement, episodic_impact, novelty_gain
from rlssl.losses.off_policy_actor_critic import (
    critic_loss,
    deterministic_policy_loss,
    saturation_penalty,
    smoothed_actions,
    soft_policy_loss,
    soft_q_target,
    squashed_gaussian_log_prob,
    squashed_gaussian_sample,
    td3_target,
    temperature_loss,
)
from rlssl.losses.pairwise_metrics import (
    cosine_distance,
    mico_distance,
    mico_operator,
    pairwise_metric_loss,
)
from rlssl.losses.policy_gradient import clipped_surrogate, value_loss
from rlssl.losses.recorded.imitation import behavior_cloning_loss
from rlssl.losses.recorded.implicit_q import (
    advantage_weights,
    expectile_loss,
    weighted_log_likelihood_loss,
)
from rlssl.losses.value_based import (
    double_q_target,
    huber_loss,
    large_margin,
    select_action_values,
    td_error,
    td_target,
)
from rlssl.losses.variational import standard_normal_kl

__all__ = [
    "advantage_weights",
    "barlow_twins",
    "behavior_cloning_loss",
    "bilinear_info_nce",
    "bisimulation_loss",
    "c51_loss",
    "c51_project",
    "clipped_surrogate",
    "cosine_distance",
    "critic_loss",
    "deterministic_policy_loss",
    "discriminator_loss",
    "discriminator_reward",
    "double_q_target",
    "ensemble_disagreement",
    "episodic_impact",
    "expected_values",
    "expectile_loss",
    "forward_dynamics_loss",
    "gaussian_nll",
    "gaussian_w2",
    "generalized_advantage",
    "huber_loss",
    "info_nce",
    "info_nce_at_places",
    "inverse_dynamics_loss",
    "large_margin",
    "lifted_structure",
    "lipschitz_penalty",
    "masked_info_nce",
    "mico_distance",
    "mico_operator",
    "n_pair",
    "normalize_advantage",
    "novelty_gain",
    "nt_xent",
    "pair_contrastive",
    "pairwise_metric_loss",
    "queue_info_nce",
    "saturation_penalty",
    "select_action_values",
    "semi_hard_triplet",
    "slope_penalty",
    "smoothed_actions",
    "soft_policy_loss",
    "soft_q_target",
    "squashed_gaussian_log_prob",
    "squashed_gaussian_sample",
    "standard_normal_kl",
    "td3_target",
    "td_error",
    "td_target",
    "temperature_loss",
    "triplet",
    "value_loss",
    "vicreg",
    "weighted_log_likelihood_loss",
]
