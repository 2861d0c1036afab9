"""The networks that SAC and DDPG share: encoders, critics and target networks."""

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.action_spaces import ActionKind, check_actions
from rlssl.algorithms.off_policy.module import OffPolicyModule, acting_observations
from rlssl.errors import SpecError
from rlssl.image_spaces import is_image
from rlssl.networks.action_encoding import action_dim
from rlssl.networks.critics import QCritics
from rlssl.networks.encoders import Encoder, are_frames
from rlssl.networks.shared_encoder import SharedEncoder, Trunk, share_convolutions
from rlssl.networks.target_networks import TargetNetworks
from rlssl.networks.update_rng import UpdateRNG
from rlssl.peers import ALONE, Peers
from rlssl.system.seeding import seed_of

#: Default options of the encoder for vectors.
_VECTOR_ENCODER = {"hidden": [256], "activation": "relu"}


class SharedUpdateRNG(UpdateRNG):
    """Random numbers of an update, the same for one Learner and for several that share a batch."""

    #: The Learners that share the batch; set by the Learner.
    peers: Peers = ALONE

    _generator: torch.Generator | None = None

    def begin(self) -> None:
        """Starts the random numbers of an update, also after an update that was skipped."""
        self._generator = None

    def normal(self, like: Tensor) -> Tensor:
        """The update's next standard normal numbers, [N, A], the shape of ``like``."""
        if self._generator is None:
            self._generator = self.generator(like.device)
        first, total = self.peers.rows(len(like))
        shape, device = (total, like.shape[1]), self._generator.device
        drawn = torch.randn(shape, generator=self._generator, device=device)
        return drawn[first : first + len(like)].to(like.device)


class OffPolicyActorCriticModule(OffPolicyModule):
    """Critics with an encoder, an actor, and target networks.

    If the encoder has convolutions, the actor reads their features, without a gradient, and has
    separate layers after them. Otherwise the actor has a separate encoder of the same kind. With
    ``shared_encoder``, the actor reads the critics' latents.

    A subclass defines ``build_actor``, ``best_actions`` and ``explore``.

    Settings (``model_config``): those of ``.model()``; critic_hidden, actor_hidden, num_critics,
    network_init, tau, encoder_tau, target_encoder, random_agent_steps, action_repeat.
    """

    #: The algorithm's name in messages.
    algorithm_name: str
    #: What actions the algorithm can choose.
    action_kind: ActionKind = "continuous"

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        check_actions(self.action_space, self.algorithm_name, self.action_kind)
        self.action_dim = action_dim(self.action_space)
        self.build_normalizer()
        encoder = self._build_encoder()
        self.encoder: Any = encoder
        self.shares_features = isinstance(encoder, SharedEncoder)
        self.actor_encoder = self._build_actor_encoder()
        self.actor: Any = self.build_actor(self.actor_encoder.output_dim)
        self.auxiliary = nn.ModuleDict()
        self.augmentation = self.next_augmentation = None
        if not self.inference_only:
            self._build_for_learning()
        elif isinstance(encoder, SharedEncoder):
            del encoder.projection

    def build_actor(self, latent_dim: int) -> nn.Module:
        """The layers after the actor's encoder."""
        raise NotImplementedError

    def target_parts(self) -> dict[str, nn.Module]:
        """Name -> further networks, besides critics and encoder, that need target networks."""
        return {}

    def best_actions(self, latents: Tensor) -> Tensor:
        """[N, A] in [-1, 1], without exploration."""
        raise NotImplementedError

    def explore(
        self, latents: Tensor, t: int | None, state: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        """Actions [N, A] in [-1, 1], drawn from torch's global generator, and the next state.

        Args:
            latents: [N, D], from the actor's encoder.
            t: Agent steps of all runners; None: unknown.
            state: State of the exploration, if it has one.
        """
        raise NotImplementedError

    def random_actions(self, num_rows: int) -> Tensor:
        """[num_rows, A] in [-1, 1], uniformly random, from torch's global generator."""
        return torch.rand(num_rows, self.action_dim) * 2.0 - 1.0

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        names = ["critic", "target", "update_rng", "augmentation", "next_augmentation", "auxiliary"]
        return [*names, "encoder.projection" if self.shares_features else "encoder"]

    def stateful_parts(self) -> list[Any]:
        """The parts whose ``after_update()`` the Learner calls."""
        parts = [self.update_rng, self.next_augmentation]
        return [part for part in parts if part is not None]

    def as_read(self, views: Tensor) -> Tensor:
        """Views of images in the memory format of the convolutions, converted only once."""
        if not self._encoder_settings["encoder_config"].get("channels_last"):
            return views
        is_first = self.encoder.layout == "CHW"
        return views.contiguous(
            memory_format=torch.channels_last if is_first else torch.contiguous_format
        )

    def features(self, obs: Any) -> Any:
        """The input of actor and critics: the convolutions' output, or else the observations."""
        return self.encoder.features(obs) if self.shares_features else obs

    def target_features(self, obs: Any, features: Any) -> Any:
        """As ``features``, but from the target encoder if there is one.

        Args:
            obs: [N, ...], observations.
            features: The online encoder's features of them, returned without a target encoder.
        """
        if not self.shares_features or not self.has_target_encoder:
            return features
        return self._target("encoder").features(obs)

    def critic_latents(self, features: Any) -> Tensor:
        """[N, D], the critics' latents."""
        if self.shares_features:
            return self.encoder.projection(features)
        return self.encoder(features)

    def actor_latents(self, features: Any) -> Tensor:
        """[N, D], the actor's latents; its gradient does not reach the critics' encoder."""
        if self.shares_features:
            features = features.detach()
        return self.actor_encoder(features)

    def cloning_losses(self, observations: Any, actions: Tensor, *, margin: float) -> Tensor:
        """[N], squared distances of the best actions, summed over dimensions; see ClonedPolicy."""
        del margin
        best = self.best_actions(self.actor_latents(self.features(observations)))
        return (best - actions.float()).square().sum(dim=-1)

    def policy_parameters(self) -> list[nn.Parameter]:
        """The actor's parameters, with those of its encoder."""
        parameters = [*self.actor_encoder.parameters(), *self.actor.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    @torch.no_grad()
    def action_advantages(self, observations: Any, actions: Tensor) -> Tensor:
        """[N], smallest critic's values of actions minus those of the best actions."""
        features = self.features(observations)
        latents = self.critic_latents(features)
        best = self.best_actions(self.actor_latents(features))
        given, own = (
            self.critic(latents, self.critic_actions(it)).amin(dim=0) for it in (actions, best)
        )
        return given - own

    def critic_actions(self, actions: Tensor) -> Tensor:
        """[N, A], a batch's actions as the critics read them."""
        return actions.float()

    def target_values(self, target_features: Any, actions: Tensor) -> Tensor:
        """[C, N], the target critics' values."""
        if not self.has_target_encoder:
            encode = self._target("projection") if self.shares_features else self.encoder
        else:
            encoder = self._target("encoder")
            encode = encoder.projection if self.shares_features else encoder
        return self._target("critic")(encode(target_features), actions)

    def _target(self, name: str) -> Any:
        return self.target.target[name]  # type: ignore[index]

    @functools.cached_property
    def _encoder_settings(self) -> dict[str, Any]:
        return self.encoder_settings(self.model_config, self.observation_space)

    @classmethod
    def encoder_settings(cls, settings: Mapping[str, Any], space: gym.Space) -> dict[str, Any]:
        """The settings of ``model``; frames have CURL's encoder, vectors one hidden layer."""
        settings = dict(settings)
        if settings["encoder"] is None and are_frames(space):
            settings["encoder"] = "curl"
        if settings["encoder"] == "curl":
            # Saves 7 % of an update on a CPU (84 x 84 x 9 pixels, batch of 128).
            settings["encoder_config"] = {"channels_last": True, **settings["encoder_config"]}
        is_vector = len(getattr(space, "shape", None) or ()) == 1
        if settings["encoder"] in (None, "mlp") and is_vector:
            settings["encoder_config"] = {**_VECTOR_ENCODER, **settings["encoder_config"]}
        return settings

    @classmethod
    def shares_encoder(cls, settings: Mapping[str, Any], space: gym.Space) -> bool:
        """Whether actor and critics share the encoder's convolutions, or what the user set."""
        return is_image(space) or bool(settings["shared_encoder"])

    def _build_encoder(self) -> Encoder:
        encoder = self.build_encoder(self._encoder_settings)
        shared = self.model_config["shared_encoder"]
        split = share_convolutions(encoder)
        if shared is False and split is not encoder:
            raise SpecError(
                "model.shared_encoder: false does not work with convolutions: the critics train "
                "them, and the actor reads their features; leave shared_encoder out."
            )
        if shared is True and split is encoder:
            return SharedEncoder(encoder, nn.Sequential(), encoder.output_dim)
        return split

    def _build_actor_encoder(self) -> Any:
        if not isinstance(self.encoder, SharedEncoder):
            return self._build_encoder()
        if not len(list(self.encoder.projection.children())):
            if not is_image(self.observation_space):
                return _Same(self.encoder.feature_dim)
            return Trunk(self.encoder.feature_dim)
        like: Any = self._build_encoder()
        projection = like.projection
        # An nn.Sequential has no output_dim.
        projection.output_dim = like.output_dim
        return projection

    def _build_for_learning(self) -> None:
        settings = self.model_config
        self.critic = QCritics(
            self.encoder.output_dim,
            self.action_dim,
            hidden=settings["critic_hidden"],
            num_critics=settings["num_critics"],
            init=settings["network_init"],
            final_bound=settings.get("final_bound"),
        )
        self.has_target_encoder = bool(settings["target_encoder"])
        self.target = self._build_target()
        self.update_rng = SharedUpdateRNG(seed_of("actions", settings["seed"]))
        self.build_views_and_losses(
            key_encoder=self._target("encoder") if self.has_target_encoder else None
        )
        self._check_that_losses_have_an_encoder()

    def _build_target(self) -> TargetNetworks:
        settings = self.model_config
        parts: dict[str, nn.Module] = {"critic": self.critic, **self.target_parts()}
        taus = dict.fromkeys(parts, settings["tau"])
        if self.has_target_encoder:
            parts["encoder"] = self.encoder
            taus["encoder"] = settings["encoder_tau"] or settings["tau"]
        elif self.shares_features:
            parts["projection"] = self.encoder.projection
            taus["projection"] = settings["tau"]
        return TargetNetworks(nn.ModuleDict(parts), taus)

    def _check_that_losses_have_an_encoder(self) -> None:
        if any(parameter.requires_grad for parameter in self.encoder.parameters()):
            return
        for name, loss in self.auxiliary.items():
            if loss.trains == "encoder":
                raise SpecError(
                    f"loss '{name}' trains the encoder, but this encoder has no layers; add "
                    "layers, for example model: {encoder_config: {hidden: [256]}}."
                )

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        with torch.no_grad():
            actions = self.best_actions(self._acting_latents(batch))
        return self._outputs(batch, actions, batch.get(Columns.STATE_IN))

    def _forward_exploration(
        self, batch: dict[str, Any], t: int | None = None, **_: Any
    ) -> dict[str, Any]:
        self.note_action(t)
        state = batch.get(Columns.STATE_IN)
        with torch.no_grad():
            if t is not None and t < self.model_config["random_agent_steps"]:
                actions = self.random_actions(len(tree.flatten(batch[Columns.OBS])[0]))
            else:
                actions, state = self.explore(self._acting_latents(batch), t, state)
        return self._outputs(batch, actions, state)

    def _acting_latents(self, batch: dict[str, Any]) -> Tensor:
        return self.actor_latents(self.features(acting_observations(batch)))

    def _outputs(
        self, batch: dict[str, Any], actions: Tensor, state: Mapping[str, Tensor] | None
    ) -> dict[str, Any]:
        if Columns.STATE_IN not in batch:
            return {Columns.ACTIONS: actions}
        return {Columns.ACTIONS: actions[:, None], Columns.STATE_OUT: state}


class _Same(nn.Identity):
    """Returns the latents unchanged."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim
