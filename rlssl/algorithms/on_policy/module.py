"""The networks of PPO and A3C: a policy head and a value head on one encoder, or on one each."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from torch import Tensor, nn

from rlssl.algorithms.on_policy.actor_module import (
    ActorModule,
    part_of_state,
    rows_of_sequences,
    through_lstm,
)
from rlssl.auxiliary.bonus_options import own_streams
from rlssl.auxiliary.building import build_losses, build_views
from rlssl.image_spaces import is_image
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.encoders import MLP, Encoder
from rlssl.networks.heads import GaussianHead, linear_head
from rlssl.networks.layers.numpy_forward import numpy_forward, reads_vectors, with_log_std
from rlssl.networks.recurrent import LSTM, LSTMConfig
from rlssl.networks.rl_encoder import NormalizedEncoder
from rlssl.system.seeding import seed_of

#: Prefix of the keys of the critic's state, if the critic has its own LSTM.
_CRITIC = "critic_"


class ActorCriticModule(ActorModule, ValueFunctionAPI):
    """Actor and critic; in a Learner also the auxiliary losses.

    Settings (``model_config``): encoder, encoder_config, shared_encoder, augmentation, precision,
    lstm, auxiliary, seed, and kl_coeff, the KL penalty's initial coefficient.

    With ``lstm``, an LSTM follows the encoder: one for both heads if they share the encoder, else
    one for each head. For acting, the module takes OBS [B, T, ...] and STATE_IN, and returns
    STATE_OUT; both states include the critic's. For learning, it takes rows [N, ...], the STATE_IN
    of each row, and ``SEQUENCE_BEGINS``; without that column, every row is a separate sequence.
    """

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        settings = self.model_config
        lstm = LSTMConfig.parse(settings.get("lstm"))
        self.critic_lstm = None
        self.build_actor()
        if not self.shares_encoder(settings, self.observation_space):
            self.critic_encoder = self.build_encoder(settings)
            if lstm:
                self.critic_lstm = LSTM(self.critic_encoder.output_dim, lstm.hidden)
        critic_dim = lstm.hidden if lstm else self._critic_encoder.output_dim
        self.vf = linear_head(critic_dim, 1, gain=1.0)
        self.intrinsic_vf = nn.ModuleDict()
        self.register_buffer("kl_coeff", torch.tensor(float(settings["kl_coeff"])))
        self.augmentation = None
        self.auxiliary = nn.ModuleDict()
        if not self.inference_only:
            self.augmentation = build_views(self, "augmentation")
            self.auxiliary = build_losses(self)
            self.intrinsic_vf = intrinsic_value_heads(
                own_streams(self.auxiliary), critic_dim, settings["seed"]
            )

    @classmethod
    def shares_encoder(cls, settings: Mapping[str, Any], space: gym.Space) -> bool:
        """Whether policy and value function share the encoder; by default only for images."""
        given = settings["shared_encoder"]
        return is_image(space) if given is None else given

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs; a recurrent critic also runs in acting."""
        critic = [] if self.lstm else ["critic_encoder"]
        return [*critic, "vf", "intrinsic_vf", "kl_coeff", "augmentation", "auxiliary"]

    def get_initial_state(self) -> dict[str, np.ndarray]:
        """The state before an episode's first step: zeros, [H] each; {} without an LSTM."""
        state = super().get_initial_state()
        if self.critic_lstm is not None:
            state |= _prefixed(self.critic_lstm.initial_state(), _CRITIC)
        return state

    def critic_embeddings(self, batch: Mapping[str, Any]) -> Tensor:
        """[N, H], the inputs of all value heads.

        If observations are augmented, the critic reads the same augmented views as the policy.
        """
        latents = self._critic_encoder(batch.get(AUGMENTED_OBS, batch[Columns.OBS]))
        prefix = "" if self.critic_lstm is None else _CRITIC
        return through_lstm(self.critic_lstm or self.lstm, latents, batch, prefix)

    def cloning_losses(self, observations: Any, actions: Tensor, *, margin: float) -> Tensor:
        """[N], nats, ``-log pi(a|s)``; see ClonedPolicy."""
        del margin
        inputs = self.pi(self.encoder(observations))
        logp: Tensor = self.action_dist_cls.from_logits(inputs).logp(actions)
        return -logp

    def policy_parameters(self) -> list[nn.Parameter]:
        """The parameters of the encoder and of the policy head."""
        parameters = [*self.encoder.parameters(), *self.pi.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """[N], the critic's values, in units of the return.

        The return includes the intrinsic rewards of losses without a stream of their own.
        """
        if embeddings is None:
            embeddings = self.critic_embeddings(batch)
        return self.vf(embeddings).squeeze(-1)

    def compute_intrinsic_values(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Loss with a stream of its own -> [N], values in units of its unweighted return."""
        return {name: head(embeddings).squeeze(-1) for name, head in self.intrinsic_vf.items()}

    def numpy_policy(self, num_rows: int) -> Callable[[np.ndarray], np.ndarray] | None:
        """A numpy function from vectors [N, D] to ACTION_DIST_INPUTS, the same as `_forward`.

        It is valid until weights are set again. None if numpy is not faster, or cannot compute it.
        """
        encoder, head = self.encoder, self.pi
        if (
            type(self) is not ActorCriticModule
            or not reads_vectors(self.observation_space)
            or self.lstm
        ):
            return None
        first: list[Callable[[np.ndarray], np.ndarray]] = []
        if isinstance(encoder, NormalizedEncoder):
            first, encoder = [encoder.normalizer.numpy_function()], encoder.encoder
        if type(encoder) is not MLP:
            return None
        layers = list(encoder.layers)
        if not isinstance(head, GaussianHead):
            return numpy_forward([*layers, head], num_rows, first=first)
        mean = numpy_forward([*layers, head.mean], num_rows, first=first)
        log_std = head.log_std.detach().numpy()
        return mean and (lambda observations: with_log_std(mean(observations), log_std))

    def _forward_recurrent(self, batch: dict[str, Any], lstm: LSTM) -> dict[str, Any]:
        """As the base; also advances the critic's LSTM."""
        out = super()._forward_recurrent(batch, lstm)
        if self.critic_lstm is not None:
            rows, shape = rows_of_sequences(batch[Columns.OBS])
            latents = self._critic_encoder(rows).unflatten(0, shape)
            state = part_of_state(batch[Columns.STATE_IN], _CRITIC)
            _, critic_after = self.critic_lstm(latents, state)
            out[Columns.STATE_OUT] = {**out[Columns.STATE_OUT], **_prefixed(critic_after, _CRITIC)}
        return out

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        out = super()._forward_train(batch)
        if hasattr(self, "critic_encoder"):
            # The critic reads other latents.
            del out[Columns.EMBEDDINGS]
        return out

    @property
    def _critic_encoder(self) -> Encoder:
        encoder: Encoder = getattr(self, "critic_encoder", self.encoder)
        return encoder


def _prefixed(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def intrinsic_value_heads(
    losses: Iterable[str], critic_dim: int, seed: int | None
) -> nn.ModuleDict:
    """A value head for each loss with a stream of its own; draws nothing from torch's generator."""
    heads = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        for name in losses:
            torch.default_generator.manual_seed(seed_of(f"intrinsic_vf/{name}", seed))
            heads[name] = linear_head(critic_dim, 1, gain=1.0)
    return heads
