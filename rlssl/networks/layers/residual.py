"""A residual block of convolutions."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))``, with 3x3 convolutions.

    Source:
        Espeholt et al. 2018, arXiv:1802.01561, figure 3.
    """

    def __init__(self, channels: int) -> None:
        """Builds the layers.

        Args:
            channels: Of the input, and of the output.
        """
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        # Modules, so that diagnostics find them.
        self.before_first, self.before_second = nn.ReLU(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        activated = self.before_first(images)
        return images + self.second(self.before_second(self.first(activated)))
