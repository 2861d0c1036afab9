"""Models of curiosity: inverse (the action), forward (the next latent), distilled (a network)."""

from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.networks.action_encoding import action_dim, check_action_space
from rlssl.networks.encoders import Encoder, flat_dim
from rlssl.networks.heads import linear_head
from rlssl.networks.layers.initialization import HIDDEN_GAIN, OUTPUT_GAIN
from rlssl.networks.layers.linear import Layers

# TensorFlow's default, which Burda's code uses; torch's default is 0.01.
LEAKY_SLOPE = 0.2


class InverseModel(nn.Module):
    """Predicts the action from the latents before and after it: FC 256, ReLU, linear.

    Outputs start near 0, so the cross-entropy starts at ``log n``.

    Source:
        Pathak et al. 2017, arXiv:1705.05363, section 4 and published code. Differs: orthogonal
        initialization. Multi-discrete, multi-binary and continuous actions are ours.
    """

    def __init__(self, feature_dim: int, action_space: gym.Space, hidden: int = 256) -> None:
        """Builds the layers.

        Args:
            feature_dim: D of a latent.
            action_space: Space of one action; see ``encode_action`` for the supported spaces.
            hidden: Features of the hidden layer.

        Raises:
            SpecError: If the action space is not supported.
        """
        super().__init__()
        check_action_space(action_space)
        self._num_logits = _num_logits(action_space)
        self._is_discrete = isinstance(action_space, spaces.Discrete)
        output_dim = sum(self._num_logits) or flat_dim(action_space)
        self.layers = Layers(
            linear_head(2 * feature_dim, hidden, HIDDEN_GAIN),
            nn.ReLU(),
            linear_head(hidden, output_dim, OUTPUT_GAIN),
        )

    def forward(self, phi: Tensor, phi_next: Tensor) -> Tensor | list[Tensor]:
        """Predicts the action between two latents, for ``inverse_dynamics_loss``.

        Args:
            phi: [N, D], latent before the action.
            phi_next: [N, D], latent after the action.

        Returns:
            [N, n] logits for Discrete; a list of [N, n_j] logits for MultiDiscrete and (n_j = 2)
            MultiBinary; [N, A] means for Box.
        """
        output = self.layers(torch.cat([phi, phi_next], dim=-1))
        if self._is_discrete or not self._num_logits:
            return output
        return list(output.split(self._num_logits, dim=-1))


class ForwardModel(nn.Module):
    """Predicts the next latent from a latent and an action: FC 256, ReLU, linear.

    Predictions start near 0, so the ``half_sum`` loss starts at half the squared norm of the
    target.

    Source:
        Pathak et al. 2017, arXiv:1705.05363, section 4 and published code. Differs: orthogonal
        initialization.
    """

    def __init__(
        self,
        feature_dim: int,
        action_space: gym.Space,
        hidden: int = 256,
        *,
        output_gain: float = OUTPUT_GAIN,
    ) -> None:
        """Builds the layers; for other arguments and errors see ``InverseModel``.

        Args:
            feature_dim: D of a latent.
            action_space: Space of one action.
            hidden: Features of the hidden layer.
            output_gain: Gain of the last layer; with 1, predictions do not start near 0.
        """
        super().__init__()
        self.layers = Layers(
            linear_head(feature_dim + action_dim(action_space), hidden, HIDDEN_GAIN),
            nn.ReLU(),
            linear_head(hidden, feature_dim, output_gain),
        )

    def forward(self, phi: Tensor, action: Tensor) -> Tensor:
        """[N, D] and an encoded action [N, A] to the predicted next latent [N, D]."""
        return self.layers(torch.cat([phi, action], dim=-1))


class ResidualForwardModel(nn.Module):
    """Predicts the next latent with residual blocks; every layer also reads the action.

    ``x = leaky(W [phi, a])``; then ``num_blocks`` times
    ``x = x + W2 [leaky(W1 [x, a]), a]``; then ``W [x, a]``.

    Source:
        Burda et al. 2018, arXiv:1808.04355, published code (``dynamics.py``). Differs: orthogonal
        initialization. The gain is 1 for layers without an activation, so that the sum of the
        blocks does not grow.
    """

    def __init__(
        self,
        feature_dim: int,
        action_space: gym.Space,
        hidden: int = 512,
        num_blocks: int = 4,
    ) -> None:
        """Builds the layers.

        Args:
            feature_dim: D of a latent.
            action_space: Space of one action; see ``encode_action`` for the supported spaces.
            hidden: Features of every hidden layer; Burda: 512.
            num_blocks: Residual blocks of two layers; Burda: 4.

        Raises:
            SpecError: If the action space is not supported.
        """
        super().__init__()
        actions = action_dim(action_space)
        self.first = linear_head(feature_dim + actions, hidden, HIDDEN_GAIN)
        self.blocks = nn.ModuleList(_ResidualBlock(hidden, actions) for _ in range(num_blocks))
        self.last = linear_head(hidden + actions, feature_dim, 1.0)

    def forward(self, phi: Tensor, action: Tensor) -> Tensor:
        """[N, D] and an encoded action [N, A] to the predicted next latent [N, D]."""
        x = F.leaky_relu(self.first(torch.cat([phi, action], dim=-1)), LEAKY_SLOPE)
        for block in self.blocks:
            x = block(x, action)
        return self.last(torch.cat([x, action], dim=-1))


class _ResidualBlock(nn.Module):
    def __init__(self, hidden: int, actions: int) -> None:
        super().__init__()
        self.inner = linear_head(hidden + actions, hidden, HIDDEN_GAIN)
        self.outer = linear_head(hidden + actions, hidden, 1.0)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        inner = F.leaky_relu(self.inner(torch.cat([x, action], dim=-1)), LEAKY_SLOPE)
        return x + self.outer(torch.cat([inner, action], dim=-1))


class Distiller(nn.Module):
    """An encoder and a head: the target or the predictor of random network distillation.

    The head of the target is a linear layer. The head of the predictor is FC, ReLU, linear. All
    layers are orthogonal with gain sqrt(2), so that outputs of the target are not small.

    Source:
        Burda et al. 2018, arXiv:1810.12894, published code (``cnn_policy_param_matched.py``).
        Differs: the encoder is that of the space; if it ends in a linear layer with ReLU, the
        predictor has the published layers, and the target has this one layer more than published.
    """

    def __init__(self, encoder: Encoder, output_dim: int, *, hidden: int | None) -> None:
        """Builds the head.

        Args:
            encoder: Part of this network.
            output_dim: D of the output.
            hidden: Features of the hidden layer of the predictor's head; None: the target.
        """
        super().__init__()
        self.encoder = encoder
        width = encoder.output_dim
        layers: list[nn.Module] = []
        if hidden is not None:
            layers = [linear_head(width, hidden, HIDDEN_GAIN), nn.ReLU()]
        self.head = Layers(*layers, linear_head(hidden or width, output_dim, HIDDEN_GAIN))

    def forward(self, observations: Any) -> Tensor:
        """[N, ...] to [N, output_dim]."""
        return self.head(self.encoder(observations))


def _num_logits(space: gym.Space) -> list[int]:
    """Number of logits of each discrete part; empty for Box."""
    match space:
        case spaces.Discrete():
            return [int(space.n)]
        case spaces.MultiDiscrete():
            return [int(size) for size in space.nvec.reshape(-1)]
        case spaces.MultiBinary():
            return [2] * flat_dim(space)
    return []
