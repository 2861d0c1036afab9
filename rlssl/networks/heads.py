"""Output layers: from latents to values, logits, parameters of a Gaussian, classes of distances."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlssl.networks.encoders import Encoder, check_size, check_sizes, make_activation
from rlssl.networks.layers.initialization import HIDDEN_GAIN, OUTPUT_GAIN, orthogonal_init
from rlssl.networks.layers.linear import Layers, Linear, linear
from rlssl.networks.layers.noisy import NoisyLinear


def linear_head(in_dim: int, out_dim: int, gain: float) -> nn.Linear:
    """One linear layer, [N, in_dim] to [N, out_dim], orthogonal with the given gain, zero bias.

    Usual gains: 0.01 for logits (the policy starts near uniform), 1.0 for values.

    Example:
        >>> head = linear_head(8, 3, gain=0.01)
        >>> logits = head(torch.ones(2, 8))
        >>> logits.shape, bool((logits.abs() < 0.1).all())
        (torch.Size([2, 3]), True)
    """
    return orthogonal_init(Linear(in_dim, out_dim), gain)


class ProjectionHead(nn.Module):
    """Maps latents to the embeddings that a self-supervised loss compares.

    Linear, LayerNorm, ReLU, Linear without bias; orthogonal weights. LayerNorm stands where papers
    have BatchNorm: its output does not depend on the other rows, so several Learners agree with
    one. Losses that center or compare embeddings give an output bias no gradient.

    Example:
        >>> ProjectionHead(8, hidden=16, out_dim=4)(torch.ones(2, 8)).shape
        torch.Size([2, 4])

    Source:
        Chen et al. 2020, arXiv:2002.05709, section 4.2 (a hidden layer before the loss).
    """

    def __init__(self, in_dim: int, *, hidden: int, out_dim: int) -> None:
        super().__init__()
        for name, size in (("in_dim", in_dim), ("hidden", hidden), ("out_dim", out_dim)):
            check_size(name, size)
        layers = Layers(
            Linear(in_dim, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            Linear(hidden, out_dim, bias=False),
        )
        self.layers = orthogonal_init(layers)

    def forward(self, latents: Tensor) -> Tensor:
        """[N, in_dim] to [N, out_dim]."""
        embeddings: Tensor = self.layers(latents.float())
        return embeddings


class GaussianHead(nn.Module):
    """A Gaussian whose mean depends on the latent and whose standard deviation does not.

    ``log_std`` is one learned number per dimension of the action. It starts at 0, that is, at a
    standard deviation of 1. With ``min_log_std``, the logarithm of the standard deviation is
    ``min_log_std + softplus(log_std - min_log_std)``: a bound with a gradient on both sides.

    Example:
        >>> output = GaussianHead(8, action_dim=2)(torch.ones(4, 8))
        >>> output.shape, output[0, 2:].tolist()
        (torch.Size([4, 4]), [0.0, 0.0])
        >>> head = GaussianHead(8, action_dim=2, min_log_std=-5.0)
        >>> _ = head.log_std.data.fill_(-50.0)
        >>> head(torch.ones(4, 8))[0, 2:].tolist()
        [-5.0, -5.0]

    Source:
        Schulman et al. 2017, arXiv:1707.06347, section 6.1.
    """

    def __init__(self, in_dim: int, action_dim: int, min_log_std: float | None = None) -> None:
        """Builds the layer.

        Args:
            in_dim: Features of a latent.
            action_dim: Dimensions of the action.
            min_log_std: Smallest logarithm of the standard deviation, nats; None: no bound.
        """
        super().__init__()
        self.mean = linear_head(in_dim, action_dim, OUTPUT_GAIN)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.min_log_std = min_log_std

    def forward(self, latent: Tensor) -> Tensor:
        """[N, in_dim] to [N, 2 * action_dim]: means, then logarithms of the stds (nats)."""
        mean = self.mean(latent)
        log_std: Tensor = self.log_std
        if self.min_log_std is not None:
            log_std = self.min_log_std + F.softplus(log_std - self.min_log_std)
        return torch.cat([mean, log_std.expand_as(mean)], dim=-1)


#: (features of the input, features of the output) to a layer, such as ``NoisyLinear``.
LinearFactory = Callable[[int, int], nn.Module]


class QHead(nn.Module):
    """Values of discrete actions, or distributions of their returns; plain or dueling.

    A dueling head has two streams with separate hidden layers, V (state) and B (actions)::

        Q(a) = V + B(a) - mean_a' B(a')

    With distributions, this formula applies to the logit of every atom.

    Example:
        >>> latent = torch.zeros(5, 8)
        >>> QHead(8, 3, num_atoms=None, dueling=True, hidden=(16,))(latent).shape
        torch.Size([5, 3])
        >>> QHead(8, 3, num_atoms=51, dueling=True, hidden=(16,))(latent).shape
        torch.Size([5, 3, 51])

    Source:
        Wang et al. 2016, arXiv:1511.06581, eq. 9; Hessel et al. 2018, arXiv:1710.02298.
        Differs: orthogonal initialization.
    """

    def __init__(
        self,
        latent_dim: int,
        num_actions: int,
        *,
        num_atoms: int | None,
        dueling: bool,
        hidden: Sequence[int],
        activation: str = "relu",
        make_linear: LinearFactory | None = None,
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Features of a latent.
            num_actions: A.
            num_atoms: Atoms of each action's distribution; None: plain values.
            dueling: Whether state and actions have separate streams.
            hidden: Features of each hidden layer of a stream; may be empty.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.
            make_linear: Builds and initializes each layer, for example a
                ``functools.partial(NoisyLinear, ...)``. None: orthogonal linear layers; the output
                layer has gain 0.01 for logits of atoms, 1 for values.

        Raises:
            ValueError: If a size or the activation is invalid.
        """
        super().__init__()
        for name, size in (("latent_dim", latent_dim), ("num_actions", num_actions)):
            check_size(name, size)
        if num_atoms is not None:
            check_size("num_atoms", num_atoms)
        check_sizes("hidden", hidden)
        self._shape = (num_actions,) if num_atoms is None else (num_actions, num_atoms)
        gain = 1.0 if num_atoms is None else OUTPUT_GAIN

        def stream(outputs: int) -> Layers:
            sizes = [latent_dim, *hidden, outputs * (num_atoms or 1)]
            return _stream(sizes, activation, make_linear, gain)

        self.actions = stream(num_actions)
        self.state = stream(1) if dueling else None

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to values [N, A], or to logits [N, A, atoms]."""
        values = self.actions(latent).unflatten(1, self._shape)
        if self.state is None:
            return values
        state = self.state(latent).unflatten(1, (1, *self._shape[1:]))
        return values + (state - values.mean(dim=1, keepdim=True))


class FirstLayers(Encoder):
    """The first layer of each stream of a dueling head, without noise and without activation.

    The layers belong to the head. A copy of this module has its own layers.

    Args:
        head: A dueling head with hidden layers.

    Example:
        >>> head = QHead(8, 3, num_atoms=None, dueling=True, hidden=(16,))
        >>> FirstLayers(head)(torch.zeros(5, 8)).shape
        torch.Size([5, 32])

    Source:
        Schwarzer et al. 2021, arXiv:2007.05929: the projection of SPR.
    """

    def __init__(self, head: QHead) -> None:
        super().__init__()
        assert head.state is not None  # the head is dueling
        self.layers = nn.ModuleList([head.state[0], head.actions[0]])
        self.output_dim = sum(_weight_and_bias(layer)[0].shape[0] for layer in self.layers)

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to [N, output_dim]."""
        outputs = [linear(latent, *_weight_and_bias(layer)) for layer in self.layers]
        return torch.cat(outputs, dim=1)


def _weight_and_bias(layer: nn.Module) -> tuple[Any, Any]:
    if isinstance(layer, NoisyLinear):
        return layer.weight_mean, layer.bias_mean
    return layer.weight, layer.bias


def _stream(
    sizes: Sequence[int], activation: str, make_linear: LinearFactory | None, gain: float
) -> Layers:
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        is_last = index == len(sizes) - 2
        if make_linear is None:
            linear: nn.Module = Linear(fan_in, fan_out)
            orthogonal_init(linear, gain if is_last else HIDDEN_GAIN)
        else:
            linear = make_linear(fan_in, fan_out)
        layers += [linear] if is_last else [linear, make_activation(activation)]
    return Layers(*layers)


class DistanceClassifier(nn.Module):
    """Logits of classes of distances, from the elementwise product of two embeddings.

    An embedding is a linear map of a latent, divided by the root of its mean square. The product is
    symmetric, so the logits do not tell which frame came first. Logits start near 0: the
    cross-entropy starts near log(number of classes).

    Example:
        >>> import torch
        >>> classifier = DistanceClassifier(4, 3, hidden=8)
        >>> first, second = torch.randn(2, 4), torch.randn(2, 4)
        >>> torch.equal(classifier(first, second), classifier(second, first))
        True

    Source:
        Aytar et al. 2018, arXiv:1805.11592. Differs: see PAPERS.md.
    """

    def __init__(self, latent_dim: int, num_classes: int, hidden: int) -> None:
        """Builds the layers.

        Args:
            latent_dim: D, features of a latent.
            num_classes: C, number of classes.
            hidden: Features of an embedding and of the hidden layer.

        Raises:
            SpecError: If a size is not positive.
        """
        super().__init__()
        for name, size in (("latent_dim", latent_dim), ("num_classes", num_classes)):
            check_size(name, size)
        check_size("hidden", hidden)
        self.embed = linear_head(latent_dim, hidden, HIDDEN_GAIN)
        self.layers = Layers(
            linear_head(hidden, hidden, HIDDEN_GAIN),
            nn.ReLU(),
            linear_head(hidden, num_classes, OUTPUT_GAIN),
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """[N, C], logits, from latents [N, D] of the two frames."""
        product = self._embedding(first) * self._embedding(second)
        return self.layers(product)

    def _embedding(self, latents: Tensor) -> Tensor:
        embedded: Tensor = self.embed(latents)
        return F.normalize(embedded, dim=-1) * embedded.shape[-1] ** 0.5
