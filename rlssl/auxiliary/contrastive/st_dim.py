"""ST-DIM: each place of a frame's feature map must tell its frame from a later frame."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.contrastive.base import top_one_accuracy
from rlssl.auxiliary.feature_maps import FeatureMaps
from rlssl.auxiliary.pairs import frame_numbers, same_frame
from rlssl.auxiliary.windows import VALID, Window, latents_at, mean_over_valid
from rlssl.batches import EPISODE, STEP
from rlssl.losses import info_nce_at_places
from rlssl.networks.layers.linear import Linear
from rlssl.peers import all_rows, own_rows


class STDIM(EncoderLoss):
    """Spatiotemporal deep infomax.

    With the encoder's latent z, the feature map f of one of its convolutions, two learned linear
    layers G and L, the row's frame o_t and the later frame o_(t + delta)::

        global_local = mean over places p of CE_j( G z_(t + delta)    . f_t,j[p] )
        local_local  = mean over places p of CE_j( L f_(t + delta)[p] . f_t,j[p] )

    CE_j is the cross-entropy of softmax over the rows j of the batch, against the row itself.
    Candidates are vectors of the same place, never of another place of the map. The gradient
    reaches both frames. Each term is near log M nats at initialization, with M rows.

    A frame that is the positive or the later frame itself is no negative. Rows whose later frame is
    over the end of the episode (on PPO and A3C also: of the fragment), and rows without a negative,
    have weight 0.

    Source:
        Anand et al. 2019, arXiv:1906.08226, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of ST-DIM."""

        # Agent steps from the row to the later frame; >= 1; 1 as published.
        delta: int = 1
        # The convolution whose maps are compared, counted from 1; None: the last but one, or the
        # only one. Published: the third of four.
        layer: int | None = None
        # Places of the map that an update compares, drawn from all of them; >= 1. Published: all,
        # which are 88. The cost is proportional to places * rows^2.
        places: int = 128
        # Whether other frames of the row's own episode are negatives. Published: no, since each
        # batch has one frame of each of 64 episodes. A batch of one episode then has no negatives.
        same_episode: bool = True

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("delta", "places")
            if self.layer is not None:
                self._check_whole("layer")

    config: Config

    reads = frozenset({Columns.OBS, EPISODE, STEP})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(after=config.delta)
        self.maps = FeatureMaps(self.encoder, config.layer, key="auxiliary.st_dim.layer")
        channels = self.maps.shape[0]
        self.from_global = Linear(int(self.encoder.output_dim), channels)
        self.from_local = Linear(channels, channels)
        self._compared: _Compared | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``global_local`` and ``local_local``, [N] each, nats."""
        num, device = len(batch[VALID]), batch[VALID].device
        generator = self.update_rng.generator(device)
        places = self._places(generator, device)
        queries, own_keys = self._encode(batch, places)
        keys = all_rows(own_keys, self.peers)
        everyone = [all_rows(query, self.peers) for query in queries]
        positives = self._positives(len(keys), generator, device)
        allowed = self._allowed(batch, positives)
        # As numbers: some backends of torch's collectives refuse bool.
        is_frame = self.peers.gather(batch[VALID][:, self.config.delta].long()).bool()
        valid = is_frame & allowed.any(dim=1)
        first, _ = self.peers.rows(num)
        kept = slice(first, first + num)
        self._compared = _Compared(
            [query.detach() for query in queries],
            keys.detach(),
            positives[kept],
            allowed[kept],
            valid[kept],
        )
        values = [info_nce_at_places(query, keys, positives, allowed) for query in everyone]
        terms = [mean_over_valid(value.mean(dim=1), valid) for value in values]
        names = ("global_local", "local_local")
        return {
            name: own_rows(term, num, self.peers) for name, term in zip(names, terms, strict=True)
        }

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Of the last batch's rows with a loss; ``rows_without_negatives`` is of all rows.

        ``global_accuracy`` and ``local_accuracy``: the share of rows and places whose positive
        scores highest. ``chance``: the share by guessing.
        """
        del batch
        if self._compared is None or not len(self._compared.valid):
            return {}
        queries, keys, positives, allowed, valid = self._compared
        found = {"rows_without_negatives": (~allowed).all(dim=1).float().mean()}
        if not valid.any():
            return found
        positives, allowed = positives[valid], allowed[valid]
        for name, query in zip(("global_accuracy", "local_accuracy"), queries, strict=True):
            found[name] = _accuracy(query[valid], keys, positives, allowed)
        return {**found, "chance": (1.0 / (allowed.sum(dim=1) + 1)).mean()}

    def _places(self, generator: torch.Generator, device: torch.device) -> Tensor:
        """[P], places of the flattened map."""
        num = self.maps.shape[1] * self.maps.shape[2]
        if num <= self.config.places:
            return torch.arange(num, device=device)
        order = torch.randperm(num, generator=generator, device=generator.device)
        return order[: self.config.places].to(device)

    def _encode(self, batch: Mapping[str, Any], places: Tensor) -> tuple[list[Tensor], Tensor]:
        """The queries [N, C] and [N, P, C] of the later frames, and the maps of the rows."""

        def encoded(obs: Any) -> Tensor:
            latents, maps = self.maps(obs)
            return torch.cat([latents, maps.flatten(2)[:, :, places].flatten(1)], dim=1)

        ends = self.config.delta * torch.arange(2, device=places.device)
        ends = ends.expand(len(batch[VALID]), 2)
        before, after = latents_at(encoded, batch, ends, None).unbind(dim=1)
        features = int(self.encoder.output_dim)
        keys, vectors = (self._vectors(rows[:, features:]) for rows in (before, after))
        return [self.from_global(after[:, :features]), self.from_local(vectors)], keys

    def _vectors(self, maps: Tensor) -> Tensor:
        """[N, P, C], the vectors at places, from [N, C * P]."""
        channels = self.maps.shape[0]
        return maps.reshape(len(maps), channels, maps.shape[1] // channels).transpose(1, 2)

    def _allowed(self, batch: Mapping[str, Any], positives: Tensor) -> Tensor:
        """[M, M], which rows are negatives of which row, over the rows of all Learners."""
        numbers, later = (
            self.peers.gather(frame_numbers(batch, place)) for place in (0, self.config.delta)
        )
        allowed = ~(same_frame(numbers[positives], numbers) | same_frame(later, numbers))
        if self.config.same_episode:
            return allowed
        return allowed & (numbers[:, None, 0] != numbers[None, :, 0])

    def _positives(self, num: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """[M], the row of all Learners whose map is each row's positive."""
        if not self.config.shuffled_positives:
            return torch.arange(num, device=device)
        return torch.randperm(num, generator=generator, device=generator.device).to(device)


class _Compared(NamedTuple):
    """What `STDIM.metrics` measures: this Learner's rows, and the maps of all Learners' rows."""

    # [N, C] and [N, P, C].
    queries: list[Tensor]
    # [M, P, C].
    keys: Tensor
    # [N].
    positives: Tensor
    # [N, M].
    allowed: Tensor
    # [N].
    valid: Tensor


def _accuracy(query: Tensor, keys: Tensor, positives: Tensor, allowed: Tensor) -> Tensor:
    """Share of rows and places whose positive scores highest among the allowed candidates."""
    allowed = allowed.scatter(1, positives[:, None], True)
    shares = []
    for place in range(keys.shape[1]):
        one = query if query.ndim == 2 else query[:, place]
        scores = (one @ keys[:, place].T).masked_fill(~allowed, -math.inf)
        shares.append(top_one_accuracy(scores, positives))
    return torch.stack(shares).mean()
