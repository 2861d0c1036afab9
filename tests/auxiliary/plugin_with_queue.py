# mypy: ignore-errors
"""A plug-in: the latent of three steps ahead is told from those of earlier batches."""

from dataclasses import dataclass

import torch
from ray.rllib.core.columns import Columns
from torch import nn

import rlssl
from rlssl.auxiliary import (
    EPISODE,
    VALID,
    AuxiliaryLoss,
    AuxiliaryLossConfig,
    EMACopy,
    Queue,
    Window,
    content_ids,
    mean_over_valid,
    over_time,
)


@rlssl.register_auxiliary_loss("queued_prediction")
class QueuedPrediction(AuxiliaryLoss):
    """InfoNCE: positive is the frame three steps ahead, negatives come from a queue."""

    @dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        size: int = 1024

    reads = frozenset({Columns.OBS, EPISODE})
    window = Window(after=3)

    def __init__(self, config, **given):
        super().__init__(config, **given)
        width = int(self.encoder.output_dim)
        self.predict = nn.Linear(width, width)
        self.key_encoder_copy = EMACopy(self.encoder)
        self.queue = Queue(config.size, width)
        self.new_keys = None

    def losses(self, batch):
        query = nn.functional.normalize(self.predict(self.latents(batch)[:, 0]), dim=-1)
        keys = over_time(self.key_encoder_copy, batch[Columns.OBS])[:, -1]
        keys = nn.functional.normalize(keys, dim=-1)
        episode = content_ids(batch[EPISODE][:, 0])
        allowed = self.queue.allowed(episode)
        negatives = (query @ self.queue.keys.T).masked_fill(~allowed, -torch.inf)
        logits = torch.cat([(query * keys).sum(-1, keepdim=True), negatives], dim=1) / 0.1
        loss = torch.logsumexp(logits, dim=1) - logits[:, 0]
        valid = batch[VALID][:, -1]
        self.new_keys = keys[valid], episode[valid]
        return {"info_nce": mean_over_valid(loss, valid, self.peers)}

    def after_update(self):
        self.key_encoder_copy.update(self.encoder, 0.05)
        self.queue.enqueue(*self.new_keys, self.peers)
