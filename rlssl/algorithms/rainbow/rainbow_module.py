"""Rainbow's networks: an encoder, a head of action values, their target network, and acting."""

import functools
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.action_spaces import check_actions
from rlssl.algorithms.off_policy.module import OffPolicyModule, acting_observations
from rlssl.auxiliary.base import RL_LATENTS
from rlssl.exploration import boltzmann, epsilon_greedy
from rlssl.losses import expected_values, large_margin
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.heads import FirstLayers, QHead
from rlssl.networks.layers.noisy import NoisyLinear, noisy_layers
from rlssl.networks.target_networks import TargetNetwork
from rlssl.networks.update_rng import UpdateRNG
from rlssl.system.seeding import seed_of

#: Outputs of `_forward_train`. ``ONLINE``: values [N, A] of the observations, or logits [N, A,
#: atoms]. ``NEXT_CHOICE``: values [N, A] that choose the next action. ``NEXT_TARGET``: the target
#: network's values or logits, which evaluate that action.
ONLINE, NEXT_CHOICE, NEXT_TARGET = "online", "next_choice", "next_target"

#: The noise seed in an environment's state at the start of an episode.
_EPISODE_STARTS = 0


class RainbowModule(OffPolicyModule):
    """A Q-network; in a Learner also its target network and the auxiliary losses.

    Settings (``model_config``): those of ``.model()``; double, dueling, distributional, noisy,
    num_atoms, v_min, v_max, head_hidden, sigma0, noise, bias_sigma_fan, target_tau,
    target_update_every_updates; for acting: exploration, epsilon, temperature, noise_redraw,
    eval_epsilon, action_repeat.
    """

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        settings = self.model_config
        check_actions(self.action_space, "rainbow", "discrete")
        self.num_actions = int(self.action_space.n)
        self.build_normalizer()
        self.encoder = self.build_encoder(settings)
        self.head = self._build_head()
        support = torch.linspace(settings["v_min"], settings["v_max"], settings["num_atoms"])
        self.register_buffer("support", support)
        #: Noisy layers of the online head; `target_noisy` has those of the target network.
        self.online_noisy = list(noisy_layers(self.head))
        self.auxiliary = nn.ModuleDict()
        self.augmentation = self.next_augmentation = None
        if not self.inference_only:
            self._build_for_learning()

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        names = ["target", "noise_rng", "target_noise_rng", "augmentation", "next_augmentation"]
        return [*names, "auxiliary"]

    def get_initial_state(self) -> dict[str, Any]:
        """The seed of the noise, if the noise for acting changes with every episode; else {}."""
        per_episode = self.model_config["noise_redraw"] == "episode" and self.online_noisy
        if not per_episode or not self.inference_only:
            return {}
        return {"noise_seed": np.int64(_EPISODE_STARTS)}

    def stateful_parts(self) -> list[Any]:
        """The parts whose ``after_update()`` the Learner calls."""
        parts = [self.target, self.noise_rng, self.target_noise_rng, self.next_augmentation]
        return [part for part in parts if part is not None]

    def values(self, outputs: Tensor) -> Tensor:
        """[N, A], from the head's values [N, A] or logits [N, A, atoms]."""
        if outputs.ndim == 2:
            return outputs
        return expected_values(outputs.softmax(dim=-1), self.support)

    def cloning_losses(self, observations: Any, actions: Tensor, *, margin: float) -> Tensor:
        """[N], units of the return: the large-margin loss of the values; see ClonedPolicy."""
        values = self.values(self.head(self.encoder(observations)))
        return large_margin(values, actions, margin=margin)

    def policy_parameters(self) -> list[nn.Parameter]:
        """The parameters of the encoder and of the head."""
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def epsilon_at(self, t: int | None) -> float:
        """Share of random actions after ``t`` agent steps; None: the schedule's last value."""
        return self.scheduled("epsilon", t)

    def _build_head(self) -> QHead:
        settings = self.model_config
        make_linear = None
        if settings["noisy"]:
            make_linear = functools.partial(
                NoisyLinear,
                sigma0=settings["sigma0"],
                noise=settings["noise"],
                bias_sigma_fan=settings["bias_sigma_fan"],
            )
        return QHead(
            self.encoder.output_dim,
            self.num_actions,
            num_atoms=settings["num_atoms"] if settings["distributional"] else None,
            dueling=settings["dueling"],
            hidden=settings["head_hidden"],
            make_linear=make_linear,
        )

    def _build_for_learning(self) -> None:
        settings = self.model_config
        seed = functools.partial(seed_of, seed=settings["seed"])
        online = nn.ModuleDict({"encoder": self.encoder, "head": self.head})
        tau, every = settings["target_tau"], settings["target_update_every_updates"]
        self.target = TargetNetwork(online, tau=tau, every_updates=None if tau else every)
        self.target_noisy = list(noisy_layers(self.target))
        self.noise_rng, self.target_noise_rng = (
            UpdateRNG(seed("noise")) if self.online_noisy else None,
            UpdateRNG(seed("target_noise")) if self.online_noisy else None,
        )
        has_streams = settings["dueling"] and len(settings["head_hidden"]) > 0
        self.build_views_and_losses(rl_projection=FirstLayers(self.head) if has_streams else None)

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        obs, next_obs = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        out = {}
        if self.augmentation is not None and self.next_augmentation is not None:
            obs = out[AUGMENTED_OBS] = self.augmentation(obs)
            next_obs = self.next_augmentation(next_obs)
        self._redraw_for_update()
        with torch.no_grad():
            target: Any = self.target.target
            out[NEXT_TARGET] = target["head"](target["encoder"](next_obs))
            chooser = out[NEXT_TARGET]
            if self.model_config["double"]:
                chooser = self.head(self.encoder(next_obs))
            out[NEXT_CHOICE] = self.values(chooser)
        out[RL_LATENTS] = self.encoder(obs)
        out[ONLINE] = self.head(out[RL_LATENTS])
        return out

    def _redraw_for_update(self) -> None:
        if self.noise_rng is None or self.target_noise_rng is None:
            return
        self._use_noise(True)
        device = self.support.device
        redraw_noise(self.online_noisy, self.noise_rng.generator(device))
        redraw_noise(self.target_noisy, self.target_noise_rng.generator(device))

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._use_noise(False)
        values = self.acting_values(batch)
        epsilon = self.model_config["eval_epsilon"]
        return self._with_state(batch, self._choose(values, epsilon, None))

    def _forward_exploration(
        self, batch: dict[str, Any], t: int | None = None, **_: Any
    ) -> dict[str, Any]:
        self.note_action(t)
        self._use_noise(True)
        temperature = None
        if self.model_config["exploration"] == "boltzmann":
            temperature = self.scheduled("temperature", t)
        state = None
        if Columns.STATE_IN in batch and self.online_noisy:
            state = seeds_of_episodes(batch[Columns.STATE_IN]["noise_seed"].cpu())
            values = self._values_by_episode(batch, state)
        else:
            redraw_noise(self.online_noisy, torch.default_generator)
            values = self.acting_values(batch)
        actions = self._choose(values, self.scheduled("epsilon", t), temperature)
        return self._with_state(batch, actions, state)

    @torch.no_grad()
    def acting_values(self, batch: dict[str, Any]) -> Tensor:
        """[N, A], action values of the observations, with the noise that is set now."""
        return self.values(self.head(self.encoder(acting_observations(batch))))

    @torch.no_grad()
    def _values_by_episode(self, batch: dict[str, Any], seeds: Tensor) -> Tensor:
        """[N, A], action values; the noise of each row comes from the seed of its episode."""
        latents = self.encoder(acting_observations(batch))
        rows = []
        for row, seed in enumerate(seeds.tolist()):
            redraw_noise(self.online_noisy, torch.Generator().manual_seed(seed))
            rows.append(self.values(self.head(latents[row : row + 1])))
        return torch.cat(rows)

    def _choose(self, values: Tensor, epsilon: float, temperature: float | None) -> Any:
        """[N], int64; random choices are seeded by torch's global generator."""
        if temperature is None and epsilon == 0.0:
            return values.argmax(dim=1)
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        if temperature is None:
            return torch.from_numpy(epsilon_greedy(values, epsilon, rng))
        greedy = boltzmann(values, temperature, rng)
        if epsilon > 0.0:
            drawn = rng.integers(values.shape[1], size=len(greedy))
            greedy = np.where(rng.random(len(greedy)) < epsilon, drawn, greedy)
        return torch.from_numpy(greedy)

    def _with_state(
        self, batch: dict[str, Any], actions: Tensor, state: Tensor | None = None
    ) -> dict[str, Any]:
        if Columns.STATE_IN not in batch:
            return {Columns.ACTIONS: actions}
        if state is None:
            state = batch[Columns.STATE_IN]["noise_seed"]
        return {Columns.ACTIONS: actions[:, None], Columns.STATE_OUT: {"noise_seed": state}}

    def _use_noise(self, use_noise: bool) -> None:
        for layer in self.online_noisy:
            layer.use_noise = use_noise


def redraw_noise(layers: list[NoisyLinear], generator: torch.Generator) -> None:
    """Draws new noise for each layer, in order."""
    for layer in layers:
        layer.reset_noise(generator)


def seeds_of_episodes(seeds: Tensor) -> Tensor:
    """[N], int64, the seeds of the environments' noise; new ones where an episode begins."""
    begins = seeds == _EPISODE_STARTS
    if not bool(begins.any()):
        return seeds
    # From torch's global generator; never _EPISODE_STARTS.
    return torch.where(begins, torch.randint(1, 2**31, seeds.shape), seeds)
