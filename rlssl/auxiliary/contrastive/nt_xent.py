"""NT-Xent (SimCLR): each view must find the other view of its observation in the batch."""

import dataclasses

import torch
from torch import Tensor

from rlssl.auxiliary.contrastive.base import top_one_accuracy
from rlssl.auxiliary.contrastive.two_views import ProjectionConfig, TwoViewLoss
from rlssl.losses import nt_xent
from rlssl.losses.contrastive import unit_vectors


class NTXent(TwoViewLoss):
    """SimCLR's loss on two views of each observation.

    Both views are embedded by the encoder and a projection, with gradients; the negatives are all
    other views of the batch. With N rows, the loss starts near ``log(2 N - 1)`` nats.

    Source:
        Chen et al. 2020, arXiv:2002.05709. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(ProjectionConfig):
        """Options of NT-Xent."""

        # Divides the cosine similarities; > 0; 0.1 to 0.5 in the paper.
        temperature: float = 0.5

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_positive("temperature")

    config: Config

    terms = ("nt_xent",)

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """``nt_xent``, [N], nats."""
        return {"nt_xent": nt_xent(first, second, temperature=self.config.temperature)}

    def measure(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """``accuracy`` of finding the second view among all second views, and the `spread`."""
        scores = unit_vectors(first) @ unit_vectors(second).T
        positives = torch.arange(len(first), device=first.device)
        return {"accuracy": top_one_accuracy(scores, positives), **super().measure(first, second)}
