"""ATC: augmented temporal contrast; the latent must tell the latent of a later frame."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.contrastive.curl import diagnostics
from rlssl.auxiliary.pairs import frame_numbers, same_frame
from rlssl.auxiliary.views import make_views
from rlssl.auxiliary.windows import VALID, Window, mean_over_valid
from rlssl.batches import EPISODE, STEP
from rlssl.losses import masked_info_nce
from rlssl.losses.contrastive import bilinear_similarity
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.layers.linear import Layers, Linear
from rlssl.networks.target_networks import EMACopy


class ATC(EncoderLoss):
    """Augmented temporal contrast.

    With independent random views q of o_t and k of o_(t + delta), the encoder phi, a linear
    compressor C, a residual network m, a learned W, and an exponential moving average (EMA) of phi
    and C, written phi' and C'::

        c         = C(phi(q))
        logits_ij = (c_i + m(c_i)) W C'(phi'(k_j))
        loss_i    = cross-entropy of softmax(logits_i) against i
        phi'      = (1 - ema_tau) * phi' + ema_tau * phi, and C' likewise, after every update

    Small weights give log(number of keys) nats at initialization. Rows whose o_(t + delta) is after
    the end of the episode (on PPO and A3C also: of the fragment) have no loss. Their keys, views of
    the last frame, stay negatives of the other rows. A key of the same frame as a row's positive is
    no negative of this row.

    If the Learner augments the observations of the RL loss (column ``AUGMENTED_OBS``), these are
    the queries; else this loss draws the queries, too. Delta counts agent steps; with an action
    repeat, an agent step has several frames.

    Source:
        Stooke et al. 2021, arXiv:2009.08319, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of ATC; the defaults are those of the published code for DMControl."""

        # Agent steps from the query to its positive key; >= 0. Published: 1 (DMControl), 3 (Atari).
        delta: int = 1
        # Features of the compressed latents; >= 1. Published: 128 (DMControl), 256 (Atari).
        latent_dim: int = 128
        # Features of the hidden layer of the residual network m; >= 0; 0: no residual network.
        hidden: int = 512
        # Fraction of the online weights that the key network copies after each update; in (0, 1].
        ema_tau: float = 0.01
        # Probability that an observation is augmented, else it is used as it is; in [0, 1].
        # Published: 1 (DMControl), 0.1 (Atari).
        view_probability: float = 1.0
        # Largest shift of an image, pixels; >= 0; None: side * 4 / 84, rounded, from 1 to 4.
        pad: int | None = None
        # Standard deviation (std) of the noise on vectors, in units of each element's running std;
        # > 0.
        noise: float = 0.1

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("latent_dim")
            self._check_whole("delta", "hidden", least=0)
            if self.pad is not None:
                self._check_whole("pad", least=0)
            if not self.noise > 0:
                raise ValueError(f"noise must be > 0; got {self.noise}.")
            if not 0.0 < self.ema_tau <= 1.0:
                raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")
            if not 0.0 <= self.view_probability <= 1.0:
                raise ValueError(
                    f"view_probability must be in [0, 1]; got {self.view_probability}."
                )

    config: Config

    reads = frozenset({Columns.OBS, EPISODE, STEP})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(after=config.delta)
        self.views = make_views(
            self.observation_space,
            self.encoder,
            pad=config.pad,
            crop=None,
            crop_first=False,
            noise=config.noise,
        )
        dim = config.latent_dim
        self.compressor = Linear(int(self.encoder.output_dim), dim)
        self.residual = _residual(dim, config.hidden) if config.hidden else None
        # Row i of the weight gives feature i of W c; torch's initialization, as published.
        self.predict = Linear(dim, dim, bias=False)
        self.key_encoder_copy = EMACopy(self.encoder)
        self.key_compressor = EMACopy(self.compressor)
        # Arguments of `diagnostics` in the last update, for `metrics`.
        self._compared: tuple[Tensor, ...] | None = None

    @classmethod
    def defaults_for(cls, env_id: str) -> dict[str, Any]:
        """The published options for environments named ``atari/...``."""
        atari = {"delta": 3, "latent_dim": 256, "view_probability": 0.1}
        return atari if env_id.startswith("atari/") else {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``info_nce``, [N], nats; zero, connected to the graph, for fewer than 2 keys."""
        generator = self.update_rng.generator(batch[Columns.OBS].device)
        latents = self._encode_queries(batch, generator)  # [N, D]
        query = self.compressor(latents)
        if self.residual is not None:
            query = query + self.residual(query)
        key = self.peers.gather(self._encode_keys(batch, generator))  # [M, latent_dim]
        numbers = frame_numbers(batch, self.config.delta)
        everyone = self.peers.gather(numbers)
        positives = self.positives(len(query), generator, query.device)
        self._compared = None
        if len(key) < 2:
            return {"info_nce": 0.0 * self.predict(query).sum(dim=-1)}
        weight = self.predict.weight.T
        if len(query):
            # Copied: an optimizer step changes the weight before `metrics`.
            kept = weight.detach().clone()
            self._compared = (latents.detach(), query.detach(), key, kept, positives)
        logits = bilinear_similarity(query, key, weight)
        allowed = ~same_frame(everyone[positives], everyone)
        values = masked_info_nce(logits, positives, allowed)
        return {"info_nce": mean_over_valid(values, batch[VALID][:, self.config.delta], self.peers)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """As CURL's: ``accuracy``, ``effective_rank`` and ``feature_std``, of the valid rows."""
        if self._compared is None:
            return {}
        latents, query, key, weight, positives = self._compared
        rows = batch[VALID][:, self.config.delta]
        if not rows.any():
            return {}
        return diagnostics(latents[rows], query[rows], key, weight, positives[rows])

    def after_update(self) -> None:
        """Updates the key network, and renews the random draws."""
        self.key_encoder_copy.update(self.encoder, self.config.ema_tau)
        self.key_compressor.update(self.compressor, self.config.ema_tau)
        self.views.after_update(self.update_rng.num_updates, self.peers)
        super().after_update()

    def _encode_queries(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        if AUGMENTED_OBS in batch:
            return self.latents(batch, AUGMENTED_OBS)
        latents: Tensor = self.encoder(self._view(batch[Columns.OBS][:, 0], generator))
        return latents

    @torch.no_grad()
    def _encode_keys(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        later = batch[Columns.OBS][:, self.config.delta]
        view = self._view(later, generator, like=batch.get(AUGMENTED_OBS))
        key: Tensor = self.key_compressor(self.key_encoder_copy(view))
        return key

    def _view(self, obs: Tensor, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
        """[N, ...], a view of each observation; some are not augmented (``view_probability``)."""
        view = self.views(obs, generator, like=like, peers=self.peers)
        # A crop has another size than the observation, so that all observations are cropped.
        if self.config.view_probability == 1.0 or view.shape != obs.shape:
            return view
        first, total = self.peers.rows(len(obs))
        draws = torch.rand(total, generator=generator, device=generator.device)
        is_augmented = (draws < self.config.view_probability)[first : first + len(obs)]
        shape = (-1, *[1] * (obs.ndim - 1))
        return torch.where(is_augmented.to(obs.device).view(shape), view, obs.to(view.dtype))


def _residual(dim: int, hidden: int) -> Layers:
    return Layers(Linear(dim, hidden), nn.ReLU(), Linear(hidden, dim))
