"""CPC: contrastive predictive coding; the past must tell the latents of later frames."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.pairs import frame_numbers, same_frame
from rlssl.auxiliary.windows import VALID, Window, mean_over_valid
from rlssl.batches import EPISODE, STEP
from rlssl.losses import masked_info_nce
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.layers.linear import Linear
from rlssl.networks.recurrent import ActionRollout, Context
from rlssl.peers import all_rows, own_rows


class CPC(EncoderLoss):
    """Contrastive predictive coding, with or without the coming actions (CPC, CPC|Action).

    With latents z = phi(o), a GRU over the last frames and one learned W_k for each k::

        c_t       = GRU(z_(t - context), ..., z_t)
        c_t,k     = c_t                                            actions=False
                    GRU(a_t, ..., a_(t + k - 1); starts from c_t)  actions=True
        logits_ij = z_(j + k) W_k c_i,k
        loss_i,k  = cross-entropy of softmax(logits_i) against i

    The candidates of row i at k are the frames k steps after all M rows of the batch; frames after
    an end are none. A frame that is the positive itself is no negative. The gradient reaches the
    latents of the past and of the candidates. The loss is the mean over all rows and k that have a
    positive. At initialization it is near log M nats; ``log M - loss`` is a lower bound of the
    mutual information of the past and the later frame.

    The loss trains the encoder. A recurrent policy (``model.lstm``) reads the latents with its own
    LSTM, which this loss does not train: the GRU of this loss belongs to the loss.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748; with actions: Guo et al. 2018, arXiv:1811.06407.
        Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of CPC."""

        # Frames before the row that the GRU reads; >= 0; 0: its recurrent weight never learns.
        context: int = 7
        # K, the number of later frames that are predicted; >= 1.
        steps: int = 4
        # Features of the GRU; >= 1; 256 in the paper's agents.
        hidden: int = 256
        # Whether predictions know the actions in between (CPC|Action).
        actions: bool = False

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("steps", "hidden")
            self._check_whole("context", least=0)

    config: Config

    reads = frozenset({Columns.OBS, EPISODE, STEP})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(before=config.context, after=config.steps)
        latent_dim = int(self.encoder.output_dim)
        self.context = Context(latent_dim, config.hidden)
        self.rollout: ActionRollout | None = None
        if config.actions:
            self.reads = self.reads | {Columns.ACTIONS}
            self.rollout = ActionRollout(action_dim(self.action_space), config.hidden)
        self.predict = nn.ModuleList(
            Linear(config.hidden, latent_dim, bias=False) for _ in range(config.steps)
        )
        # Of this Learner's rows in the last update, [N, K] each: losses, whether the positive
        # scores highest, numbers of candidates, and whether there is a positive.
        self._seen: tuple[Tensor, ...] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``info_nce``, [N], nats."""
        first, num = self.config.context + 1, len(batch[VALID])
        latents = self.latents(batch)  # [N, W, D]
        context = self.context(latents[:, :first], batch[VALID][:, :first])
        predicted = all_rows(self._predictions(context, batch), self.peers)  # [M, K, D]
        targets = all_rows(latents[:, first:], self.peers)
        numbers = self.peers.gather(frame_numbers(batch, slice(first, None)))
        # As numbers: some backends of torch's collectives refuse bool.
        is_frame = self.peers.gather(batch[VALID][:, first:].long()).bool()
        positives = self._positives(len(targets), targets.device)
        steps = range(self.config.steps)
        scored = [self._scores(predicted, targets, numbers, is_frame, positives, k) for k in steps]
        values, best, candidates = (torch.stack(each, dim=1) for each in zip(*scored, strict=True))
        valid = is_frame & is_frame[positives]
        own, _ = self.peers.rows(num)
        kept = slice(own, own + num)
        self._seen = tuple(each[kept].detach() for each in (values, best, candidates, valid))
        return {"info_nce": own_rows(mean_over_valid(values, valid), num, self.peers)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Of the last batch's rows; empty if no row had a positive.

        ``accuracy``: share of rows whose positive scores highest. ``information``: nats, the mean
        of log(candidates) - loss, a lower bound of the mutual information.
        """
        del batch
        if self._seen is None:
            return {}
        values, best, candidates, valid = self._seen
        if not valid.any():
            return {}
        return {
            "accuracy": best[valid].float().mean(),
            "information": (candidates.float().log() - values)[valid].mean(),
        }

    def _predictions(self, context: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """[N, K, D], predictions of the latents after 1 to K steps."""
        if self.rollout is None:
            return torch.stack([predict(context) for predict in self.predict], dim=1)
        # The action at a place leads to the next place: a_t stands at the row's own place.
        places = slice(self.config.context, self.config.context + self.config.steps)
        actions = batch[Columns.ACTIONS][:, places]
        encoded = encode_action(actions.flatten(0, 1), self.action_space)
        states = self.rollout(context, encoded.unflatten(0, actions.shape[:2]))
        parts = zip(self.predict, states.unbind(dim=1), strict=True)
        return torch.stack([predict(state) for predict, state in parts], dim=1)

    def _scores(
        self,
        predicted: Tensor,
        targets: Tensor,
        numbers: Tensor,
        is_frame: Tensor,
        positives: Tensor,
        k: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[M] each, at step k: losses, whether the positive is the best, numbers of candidates."""
        logits = predicted[:, k] @ targets[:, k].T
        equal = same_frame(numbers[positives, k], numbers[:, k])
        allowed = is_frame[None, :, k] & ~equal
        values = masked_info_nce(logits, positives, allowed)
        positive = logits.detach().gather(1, positives[:, None])
        others = logits.detach().masked_fill(~allowed, -math.inf).amax(dim=1)
        return values, positive.squeeze(1) > others, allowed.sum(dim=1) + 1

    def _positives(self, num: int, device: torch.device) -> Tensor:
        """[M], the row of all Learners whose later frames are each row's positives."""
        if not self.config.shuffled_positives:
            return torch.arange(num, device=device)
        generator = self.update_rng.generator(device)
        return torch.randperm(num, generator=generator, device=generator.device).to(device)
