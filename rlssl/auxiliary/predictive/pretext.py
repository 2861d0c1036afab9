"""Base of the pretext tasks: the latents must tell what was done to frames."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.windows import FRAME, latents_over_time, mean_over_valid
from rlssl.image_spaces import image_layout, is_image, last_frame
from rlssl.networks.heads import linear_head
from rlssl.networks.layers.linear import Layers, Linear

#: Gain of the last layer: logits start near 0, so that the loss starts at log(classes).
_OUTPUT_GAIN = 0.01


@dataclasses.dataclass(frozen=True)
class PretextConfig(EncoderLossConfig):
    """Options of all pretext tasks."""

    # Features of the classifier's hidden layer; >= 1.
    hidden: int = 256

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        self._check_whole("hidden")


class PretextLoss(EncoderLoss):
    """Base of the pretext tasks: draws labels, classifies latents, reports the accuracy.

    Labels are drawn uniformly, by the draws of all Learners together. The classifier is used by
    this loss only.

    Args:
        config: Options of the task.
        num_latents: Latents that the classifier reads for each row.
        **given: See `AuxiliaryLoss`.
    """

    config: PretextConfig

    reads = frozenset({Columns.OBS})

    #: Number of labels.
    num_classes: ClassVar[int] = 2

    def __init__(self, config: PretextConfig, *, num_latents: int, **given: Any) -> None:
        super().__init__(config, **given)
        self.classifier = Layers(
            Linear(num_latents * int(self.encoder.output_dim), config.hidden),
            nn.ReLU(),
            linear_head(config.hidden, self.num_classes, _OUTPUT_GAIN),
        )
        # Of the last update, for `metrics`: logits [N, classes], labels [N], and which rows count.
        self._compared: tuple[Tensor, Tensor, Tensor] | None = None

    def draw(self, rows: Any, choices: int, generator: torch.Generator) -> Tensor:
        """[N], whole numbers in [0, ``choices``), uniform, one for each of this Learner's rows.

        Args:
            rows: [N, ...], the rows.
            choices: Number of values.
            generator: The update's draws.
        """
        num, device = len(rows), rows.device
        first, total = self.peers.rows(num)
        drawn = torch.randint(choices, (total,), generator=generator, device=generator.device)
        return drawn[first : first + num].to(device)

    def classify(
        self, latents: Tensor, label: Tensor, counts: Tensor, generator: torch.Generator
    ) -> Tensor:
        """[N], nats: the cross-entropy of the labels, weighed by `mean_over_valid`.

        Args:
            latents: [N, num_latents * D].
            label: [N], the drawn labels.
            counts: [N], bool: the rows that count.
            generator: The update's draws.
        """
        if self.config.shuffled_positives:
            label = self.of_other_rows(label, generator)
        logits = self.classifier(latents)
        self._compared = logits.detach(), label, counts
        values = F.cross_entropy(logits, label, reduction="none")
        return mean_over_valid(values, counts, self.peers)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``accuracy`` of the rows that count, ``chance``, and ``counted_share`` of all rows."""
        del batch
        if self._compared is None or not len(self._compared[1]):
            return {}
        logits, label, counts = self._compared
        found = {"counted_share": counts.float().mean()}
        if not counts.any():
            return found
        is_right = logits.argmax(dim=-1) == label
        chance = logits.new_tensor(1.0 / self.num_classes)
        return {**found, "accuracy": is_right[counts].float().mean(), "chance": chance}

    def latents_of_frames(self, batch: Mapping[str, Any], places: Tensor) -> Tensor:
        """[N, P, D], latents of single frames at places [N, P]; the first one is the row's own.

        A stack of frames would tell their order. So each frame fills its whole stack.
        """
        rows = torch.arange(len(places), device=places.device)[:, None]
        few = {
            key: tree.map_structure(lambda leaf: leaf[rows, places], batch[key])
            for key in (Columns.OBS, FRAME)
            if key in batch
        }
        shared = None
        if self.frame_stack > 1:
            few[Columns.OBS] = self._still(few[Columns.OBS])
        else:
            shared = self.shared_latents(batch, Columns.OBS)
        return latents_over_time(self.encoder, few, 0, shared)

    def differ(self, batch: Mapping[str, Any], one: int, other: int) -> Tensor:
        """[N], bool: whether the frames at two places of the windows differ."""
        differences = [
            # Discrete observations are [N]: they have no further axis to flatten.
            (self._last(leaf[:, one]) != self._last(leaf[:, other]))[:, None].flatten(1).any(dim=1)
            for leaf in tree.flatten(batch[Columns.OBS])
        ]
        return torch.stack(differences).any(dim=0)

    def _last(self, stacks: Any) -> Any:
        return last_frame(stacks, self.observation_space, self.frame_stack)

    def _still(self, stacks: Tensor) -> Tensor:
        """[N, P, ...], stacks in which each frame is the last one."""
        frame = self._last(stacks.flatten(0, 1))
        channels_last = is_image(self.observation_space) and (
            image_layout(self.observation_space) == "HWC"
        )
        still = torch.cat([frame] * self.frame_stack, dim=-1 if channels_last else 1)
        return still.unflatten(0, stacks.shape[:2])
