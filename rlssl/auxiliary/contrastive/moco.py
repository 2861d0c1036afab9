"""MoCo: two views are a positive pair; the negatives are a queue of keys of earlier batches."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.contrastive.base import KeyViewLoss, spread, top_one_accuracy
from rlssl.auxiliary.contrastive.two_views import ProjectionConfig
from rlssl.auxiliary.queue import Queue, content_ids, different
from rlssl.batches import EPISODE
from rlssl.errors import SpecError
from rlssl.losses import queue_info_nce
from rlssl.losses.contrastive import unit_vectors
from rlssl.networks.heads import ProjectionHead


class MoCo(KeyViewLoss):
    """Momentum contrast.

    With two random views q, k of each observation, the encoder and projection f, their moving
    average f' and the cosine similarity s::

        loss_i = cross-entropy of softmax(s(f(q_i), [f'(k_i), queue]) / temperature) against 0
        f'     = (1 - ema_tau) * f' + ema_tau * f, after every update; then the keys are enqueued

    The queue has the keys of all Learners. It starts empty: in the first update, the other keys of
    the batch are the negatives. With K negatives, equal embeddings give ``log(K + 1)`` nats.

    PPO's epochs and a replay buffer show the same observations again. Their old keys are in the
    queue, and are no negatives of the same observations, unless ``mask_equal`` is false. With
    ``mask_episode``, other observations of the same episode are no negatives either.

    Source:
        He et al. 2019, arXiv:1911.05722. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(ProjectionConfig):
        """Options of MoCo."""

        # Divides the cosine similarities; > 0; 0.07 as published.
        temperature: float = 0.07
        # Number of keys; at least the rows of a minibatch of all Learners. Paper: 65,536, of 1.28
        # million images.
        queue_size: int = 4096
        # Fraction of the online weights that the key network copies after each update; in (0, 1];
        # 0.001 as published (a momentum of 0.999).
        ema_tau: float = 0.001
        # Whether keys of an equal observation are no negatives.
        mask_equal: bool = True
        # Whether keys of the same episode are no negatives.
        mask_episode: bool = False

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_positive("temperature")
            self._check_whole("queue_size")
            if not 0.0 < self.ema_tau <= 1.0:
                raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")

    config: Config

    reads = frozenset({Columns.OBS, EPISODE})

    def __init__(self, config: Config, *, key_encoder: Any = None, **given: Any) -> None:
        # The algorithm's target network moves with another tau than `ema_tau`.
        del key_encoder
        super().__init__(config, tau=config.ema_tau, **given)
        num_ids = max(1, config.mask_equal + config.mask_episode)
        self.queue = Queue(config.queue_size, config.projection_dim, num_ids=num_ids)
        # Keys and ids of the last `losses`, which `after_update` enqueues.
        self._new: tuple[Tensor, Tensor | None] | None = None
        self._compared: _Compared | None = None

    def check_batch(self, num_rows: int) -> None:
        """Refuses a queue that cannot hold the keys of one gradient step."""
        if num_rows > self.config.queue_size:
            raise SpecError(
                f"auxiliary.moco.queue_size must be at least {num_rows}, the rows of a gradient "
                f"step; got {self.config.queue_size}. Raise it, or use smaller batches."
            )

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``info_nce``, [N], nats; zero, connected to the graph, for rows without a negative."""
        generator = self.update_rng.generator(batch[Columns.OBS].device)
        first, second = self.draw_views(batch, generator)
        query = self.head(self.encode(batch, first))
        own_keys = unit_vectors(self.encode_keys(second))
        ids = self._ids(batch)
        self._new = own_keys, ids
        positives = self.positives(len(query), generator, query.device)
        keys = self.peers.gather(own_keys)
        key = keys[positives]
        if self.queue.is_empty:
            negatives, allowed = keys, self._others_of_batch(positives, ids)
        else:
            # A copy, for `metrics`: by then the queue has other keys.
            negatives, allowed = self.queue.keys.clone(), self.queue.allowed(ids)
        self._compared = None
        if len(query):
            self._compared = _Compared(query.detach(), key, negatives, allowed)
        temperature = self.config.temperature
        loss = queue_info_nce(query, key, negatives, temperature=temperature, allowed=allowed)
        return {"info_nce": loss}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``accuracy``, ``rows_without_negatives``, ``effective_rank`` and ``feature_std``.

        ``rows_without_negatives`` is the share of queries whose loss is 0 for lack of a negative.
        """
        del batch
        if self._compared is None:
            return {}
        query, key, negatives, allowed = self._compared
        directions = unit_vectors(query)
        others = (directions @ negatives.T).masked_fill(~allowed, -torch.inf)
        scores = torch.cat([(directions * key).sum(dim=1, keepdim=True), others], dim=1)
        positives = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        return {
            "accuracy": top_one_accuracy(scores, positives),
            "rows_without_negatives": (~allowed).all(dim=1).float().mean(),
            **spread(query),
        }

    def after_update(self) -> None:
        """Updates the key network, enqueues this update's keys, and renews the random draws.

        Raises:
            ValueError: If a batch of all Learners has more rows than the queue.
        """
        if self._new is not None:
            self.queue.enqueue(*self._new, peers=self.peers)
        self._new = None
        super().after_update()

    def make_head(self) -> nn.Module:
        """A projection to the embeddings that are compared."""
        sizes = {"hidden": self.config.hidden, "out_dim": self.config.projection_dim}
        return ProjectionHead(int(self.encoder.output_dim), **sizes)

    def _ids(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Ids of the rows, [N] or [N, 2]: rows that share an id are no negatives of each other."""
        found = [content_ids(batch[Columns.OBS])] if self.config.mask_equal else []
        if self.config.mask_episode:
            found.append(content_ids(batch[EPISODE]))
        if len(found) == 2:
            return torch.stack(found, dim=1)
        return found[0] if found else None

    def _others_of_batch(self, positives: Tensor, ids: Tensor | None) -> Tensor:
        """[N, total]: the keys of all rows but the query's row, its positive and its equals."""
        first, total = self.peers.rows(len(positives))
        rows = torch.arange(total, device=positives.device)
        own = torch.arange(first, first + len(positives), device=positives.device)
        allowed = (rows != own[:, None]) & (rows != positives[:, None])
        if ids is not None:
            allowed = allowed & different(ids, self.peers.gather(ids))
        return allowed


class _Compared(NamedTuple):
    """What `metrics` measures."""

    query: Tensor
    # [N, E], unit vectors.
    key: Tensor
    # [K, E], unit vectors.
    negatives: Tensor
    # [N, K] or [1, K].
    allowed: Tensor
