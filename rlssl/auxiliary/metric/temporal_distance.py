"""Temporal distance: two latents must tell how many steps their frames are apart."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.pairs import Distances, draw_pairs
from rlssl.auxiliary.windows import VALID, Window, latents_at, mean_over_valid
from rlssl.networks.heads import DistanceClassifier


class TemporalDistance(EncoderLoss):
    """Classifies the distance in time of two frames of one episode.

    Each row o_t gets a partner o_(t + d) in its window: first a class of distances is drawn,
    uniformly among those that the episode still has, then a frame of this class. With the encoder
    phi and a classifier f, which reads the elementwise product of normalized embeddings::

        loss = cross-entropy of f(phi(o_t), phi(o_(t + d))) against the class of d

    It starts near log(number of classes) nats. The product is symmetric, so f does not tell which
    frame came first. Rows near the end of an episode (on PPO and A3C also: of a fragment) have the
    near classes only. Windows are as wide as the largest distance: from a replay buffer, that many
    frames are read for each row, but only two of them are encoded.

    Source:
        Aytar et al. 2018, arXiv:1805.11592 (temporal distance classification), and a published
        code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of temporal distance."""

        # Smallest and largest distance of each class, agent steps, in rising order. Published:
        # [[0, 0], [1, 1], [2, 2], [3, 4], [5, 20], [21, 200]]. The defaults fit into a fragment of
        # A3C, 20 steps.
        classes: tuple[Distances, ...] = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 12))
        # Features of an embedding and of the classifier's hidden layer; >= 1.
        hidden: int = 128

        def __post_init__(self) -> None:
            """Checks ranges; lists become tuples.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            object.__setattr__(self, "classes", _parsed(self.classes))
            self._check_whole("hidden")

    config: Config

    reads = frozenset({Columns.OBS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(after=config.classes[-1][1])
        self.classifier = DistanceClassifier(
            int(self.encoder.output_dim), len(config.classes), config.hidden
        )
        # Logits, labels, and which rows have a partner, of the last update, for `metrics`.
        self._compared: tuple[Tensor, Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``distance``, [N], nats."""
        valid = batch[VALID]
        first, total = self.peers.rows(len(valid))
        generator = self.update_rng.generator(valid.device)
        # The draws of all Learners, so that several draw what one would draw.
        draws = torch.rand((total, 2), generator=generator, device=generator.device)
        own = draws[first : first + len(valid)].to(valid.device)
        place, label, found = draw_pairs(valid, 0, self.config.classes, own)
        if self.config.shuffled_positives:
            label = self.of_other_rows(label, generator)
        earlier, later = self._latents(batch, place).unbind(dim=1)
        logits = self.classifier(earlier, later)
        self._compared = logits.detach(), label, found
        values = F.cross_entropy(logits, label, reduction="none")
        return {"distance": mean_over_valid(values, found, self.peers)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``accuracy``, and ``farthest_share``, the share of pairs in the last class.

        With C classes, a farthest_share below 1 / C shows how many rows are too near to an end.
        """
        del batch
        if self._compared is None or not self._compared[2].any():
            return {}
        logits, label = (each[self._compared[2]] for each in self._compared[:2])
        return {
            "accuracy": (logits.argmax(dim=-1) == label).float().mean(),
            "farthest_share": (label == len(self.config.classes) - 1).float().mean(),
        }

    def _latents(self, batch: Mapping[str, Any], place: Tensor) -> Tensor:
        """[N, 2, D], latents of the rows and of their partners."""
        places = torch.stack([torch.zeros_like(place), place], dim=1)
        shared = self.shared_latents(batch, Columns.OBS)
        return latents_at(self.encoder, batch, places, shared)


def _parsed(classes: Any) -> tuple[Distances, ...]:
    """Raises a ValueError unless there are two classes or more, in order, without overlap."""
    try:
        parsed = tuple((low, high) for low, high in classes)
    except (TypeError, ValueError):
        parsed = ()
    flat = [*itertools.chain(*parsed)]
    is_whole = all(type(number) is int and number >= 0 for number in flat)
    if len(parsed) < 2 or not is_whole or not _rises(parsed):
        raise ValueError(
            "classes must be two or more pairs [smallest, largest] of whole numbers >= 0 in rising "
            f"order, such as [[0, 0], [1, 4]]; got {classes!r}."
        )
    return parsed


def _rises(classes: tuple[Distances, ...]) -> bool:
    in_order = all(low <= high for low, high in classes)
    return in_order and all(a[1] < b[0] for a, b in itertools.pairwise(classes))
