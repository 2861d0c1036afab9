"""Models of what follows in latent space: the next latent, and the reward."""

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import check_size
from rlssl.networks.layers.ensemble import EnsembleLayerNorm, EnsembleLinear
from rlssl.networks.layers.linear import Layers, Linear
from rlssl.peers import RowRange

#: What a model predicts, and how bisimulation compares its predictions.
TRANSITION_KINDS = ("smooth_l1", "deterministic", "probabilistic", "ensemble")

#: Bounds of a predicted deviation.
MIN_STD, MAX_STD = 1e-4, 10.0


class TransitionModel(nn.Module):
    """Predicts the next latent from a latent and an action.

    Linear, LayerNorm, ReLU, then the mean, and the deviation of a Gaussian where the kind has one:
    ``1e-4 + (10 - 1e-4) * sigmoid(x)``. Kinds:

    ================= ==================== ========================================================
    ``smooth_l1``     mean                 the published code's ``''``; bisimulation compares means
                                           by their smooth L1
    ``deterministic`` mean                 the same network; compared as Gaussians of deviation 0
    ``probabilistic`` mean and deviation   a Gaussian
    ``ensemble``      5 times both         five Gaussians, each with weights of its own
    ================= ==================== ========================================================

    Source:
        Zhang et al. 2020, arXiv:2006.10742, published code (``transition_model.py``).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        kind: str = "smooth_l1",
        hidden: int = 512,
        num_models: int = 5,
    ) -> None:
        """Builds the layers, initialized as torch's.

        Args:
            latent_dim: D of a latent.
            action_dim: A, features of a coded action.
            kind: One of ``TRANSITION_KINDS``.
            hidden: Features of the hidden layer.
            num_models: K, members of an ``ensemble``; not read by the other kinds.

        Raises:
            ValueError: If a size does not suit, or the kind is unknown.
        """
        super().__init__()
        if kind not in TRANSITION_KINDS:
            raise ValueError(f"kind must be one of {list(TRANSITION_KINDS)}; got {kind!r}.")
        for name, size in (("latent_dim", latent_dim), ("hidden", hidden)):
            check_size(name, size)
        check_size("action_dim", action_dim)
        check_size("num_models", num_models)
        self.kind = kind
        self.num_models = num_models if kind == "ensemble" else 1
        self._has_std = kind in ("probabilistic", "ensemble")
        out_dim = latent_dim * (2 if self._has_std else 1)
        self.layers = _layers(self.num_models, latent_dim + action_dim, hidden, out_dim)

    def forward(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and deviation of the next latent.

        Args:
            latent: [N, D].
            action: [N, A], coded; see ``rlssl.networks.action_encoding.encode_action``.

        Returns:
            Mean [N, D], of an ensemble [K, N, D], and the deviation of the same shape, or None
            where the kind has none.
        """
        output = self.layers(torch.cat([latent, action], dim=-1))  # [K, N, D or 2 D]
        if self.kind != "ensemble":
            output = output.squeeze(0)
        if not self._has_std:
            return output, None
        mean, raw_std = output.chunk(2, dim=-1)
        return mean, MIN_STD + (MAX_STD - MIN_STD) * raw_std.sigmoid()

    def comparable_std(self, mean: Tensor, std: Tensor | None) -> Tensor | None:
        """The deviation as ``rlssl.losses.bisimulation_loss`` tells the kinds apart by it.

        Zeros for ``deterministic``, None for ``smooth_l1``, else ``std``.
        """
        return torch.zeros_like(mean) if self.kind == "deterministic" else std

    def sample(
        self,
        mean: Tensor,
        std: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        rows: RowRange | None = None,
    ) -> Tensor:
        """Draws next latents from a prediction; of an ensemble, one member is drawn for all rows.

        Args:
            mean: As ``forward`` gives it.
            std: As ``forward`` gives it.
            generator: UpdateRNG, on its own device; None: torch's global one.
            rows: Of which larger batch these are a part, so that it is drawn for as a whole; None:
                of none.

        Returns:
            [N, D]; the mean itself where there is no deviation. Gradients flow into both.
        """
        device = None if generator is None else generator.device
        if self.kind == "ensemble":
            drawn = torch.randint(self.num_models, (), generator=generator, device=device)
            mean, std = mean[int(drawn)], None if std is None else std[int(drawn)]
        if std is None:
            return mean
        first, total = rows or (0, len(mean))
        shape = (total, mean.shape[-1])
        noise = torch.randn(shape, generator=generator, device=device or mean.device)
        noise = noise[first : first + len(mean)]
        return torch.addcmul(mean, std, noise.to(mean))


class RewardModel(nn.Module):
    """Predicts the reward: Linear, LayerNorm, ReLU, Linear.

    DBC asks it for the reward of a predicted next latent alone, DeepMDP for that of a latent and
    the action taken there.

    Source:
        Zhang et al. 2020, arXiv:2006.10742, published code (``sac_ae.py``, ``bisim_agent.py``).
    """

    def __init__(self, latent_dim: int, action_dim: int = 0, *, hidden: int = 512) -> None:
        """Builds the layers, initialized as torch's.

        Args:
            latent_dim: D of a latent.
            action_dim: A, features of a coded action; 0: no action is read.
            hidden: Features of the hidden layer.

        Raises:
            ValueError: If a size does not suit.
        """
        super().__init__()
        for name, size in (("latent_dim", latent_dim), ("hidden", hidden)):
            check_size(name, size)
        if action_dim < 0:
            raise ValueError(f"action_dim must be >= 0; got {action_dim}.")
        self._reads_actions = action_dim > 0
        self.layers = Layers(
            Linear(latent_dim + action_dim, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            Linear(hidden, 1),
        )

    def forward(self, latent: Tensor, action: Tensor | None = None) -> Tensor:
        """Rewards.

        Args:
            latent: [N, D].
            action: [N, A], where the model reads one; else None.

        Returns:
            [N].

        Raises:
            ValueError: If an action is given that is not read, or missing.
        """
        if (action is not None) != self._reads_actions:
            needed = "needs an action" if self._reads_actions else "reads no action"
            raise ValueError(f"this RewardModel {needed}; see action_dim.")
        inputs = latent if action is None else torch.cat([latent, action], dim=-1)
        return self.layers(inputs).squeeze(-1)


def _layers(num: int, in_dim: int, hidden: int, out_dim: int) -> Layers:
    return Layers(
        EnsembleLinear(num, in_dim, hidden),
        EnsembleLayerNorm(num, hidden),
        nn.ReLU(),
        EnsembleLinear(num, hidden, out_dim),
    )
