"""Models of latent dynamics: predict the next latent and the reward."""

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import check_size
from rlssl.networks.layers.ensemble import EnsembleLayerNorm, EnsembleLinear
from rlssl.networks.layers.linear import Layers, Linear
from rlssl.peers import RowRange

#: What a model predicts, and how bisimulation compares the predictions.
TRANSITION_KINDS = ("smooth_l1", "deterministic", "probabilistic", "ensemble")

#: Bounds of a predicted standard deviation.
MIN_STD, MAX_STD = 1e-4, 10.0


class TransitionModel(nn.Module):
    """Predicts the next latent from a latent and an action.

    Linear, LayerNorm, ReLU, then the mean. Some kinds also predict a standard deviation (std),
    ``1e-4 + (10 - 1e-4) * sigmoid(x)``. Kinds:

    ================= ============== ==============================================================
    ``smooth_l1``     mean           ``''`` in the published code; bisimulation compares means by
                                     their smooth L1
    ``deterministic`` mean           the same network; compared as Gaussians with std 0
    ``probabilistic`` mean and std   a Gaussian
    ``ensemble``      K means, stds  K Gaussians with separate weights; published code: 5
    ================= ============== ==============================================================

    Example:
        >>> model = TransitionModel(4, 2, kind="ensemble", hidden=8, num_models=3)
        >>> mean, std = model(torch.zeros(6, 4), torch.zeros(6, 2))
        >>> mean.shape, model.sample(mean, std).shape
        (torch.Size([3, 6, 4]), torch.Size([6, 4]))

    Source:
        Zhang et al. 2020, arXiv:2006.10742, published code (``transition_model.py``).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        kind: str,
        hidden: int,
        num_models: int,
    ) -> None:
        """Builds the layers with torch's default initialization.

        Args:
            latent_dim: D of a latent.
            action_dim: A, features of an encoded action.
            kind: One of ``TRANSITION_KINDS``.
            hidden: Features of the hidden layer.
            num_models: K, members of an ``ensemble``; other kinds ignore it.

        Raises:
            ValueError: If a size is invalid, or the kind is unknown.
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
        """Predicts the mean and the standard deviation of the next latent.

        Args:
            latent: [N, D].
            action: [N, A], encoded; see ``rlssl.networks.action_encoding.encode_action``.

        Returns:
            Mean [N, D], or [K, N, D] for an ensemble; and the standard deviation of the same shape,
            or None if the kind has none.
        """
        output = self.layers(torch.cat([latent, action], dim=-1))  # [K, N, D or 2 D]
        if self.kind != "ensemble":
            output = output.squeeze(0)
        if not self._has_std:
            return output, None
        mean, raw_std = output.chunk(2, dim=-1)
        return mean, MIN_STD + (MAX_STD - MIN_STD) * raw_std.sigmoid()

    def comparable_std(self, mean: Tensor, std: Tensor | None) -> Tensor | None:
        """The standard deviation to pass to ``rlssl.losses.bisimulation_loss``.

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
        """Samples next latents from a prediction.

        For an ensemble, one member is drawn for all rows.

        Args:
            mean: From ``forward``.
            std: From ``forward``.
            generator: Draws the noise, on the generator's device; None: torch's global generator.
            rows: (first, total) if these N rows are a part of a larger batch. Noise is then drawn
                for the whole batch, so that the Learners together draw the noise of one Learner.
                None: the rows are the whole batch.

        Returns:
            [N, D]; the mean itself if there is no standard deviation. Gradients flow into mean and
            standard deviation.
        """
        device = None if generator is None else generator.device
        if self.kind == "ensemble":
            member = draw_member(self.num_models, generator)
            mean, std = pick(mean, member), None if std is None else pick(std, member)
        if std is None:
            return mean
        first, total = rows or (0, len(mean))
        shape = (total, mean.shape[-1])
        noise = torch.randn(shape, generator=generator, device=device or mean.device)
        noise = noise[first : first + len(mean)]
        return torch.addcmul(mean, std, noise.to(mean))


def draw_member(num: int, generator: torch.Generator | None) -> Tensor:
    """The index of a random member of an ensemble, a scalar on the generator's device."""
    device = None if generator is None else generator.device
    return torch.randint(num, (), generator=generator, device=device)


def pick(members: Tensor, index: Tensor) -> Tensor:
    """One of K members [K, ...], without waiting for an index that is on a GPU.

    Example:
        >>> pick(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor(1))
        tensor([3., 4.])
    """
    if index.device.type == "cpu":
        return members[int(index)]
    return members.index_select(0, index.reshape(1)).squeeze(0)


class RewardModel(nn.Module):
    """Predicts the reward: Linear, LayerNorm, ReLU, Linear.

    In DBC, it reads a predicted next latent (variant ``code``) or a latent (``paper``). In DeepMDP,
    it reads a latent and the action taken.

    Source:
        Zhang et al. 2020, arXiv:2006.10742, published code (``sac_ae.py``, ``bisim_agent.py``).
    """

    def __init__(self, latent_dim: int, action_dim: int = 0, *, hidden: int) -> None:
        """Builds the layers with torch's default initialization.

        Args:
            latent_dim: D of a latent.
            action_dim: A, features of an encoded action; 0: the model reads no action.
            hidden: Features of the hidden layer.

        Raises:
            ValueError: If a size is invalid.
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
        """Predicts rewards.

        Args:
            latent: [N, D].
            action: [N, A] if the model reads actions, else None.

        Returns:
            [N].

        Raises:
            ValueError: If the model reads actions and gets none, or the other way round.
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
