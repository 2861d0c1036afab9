"""Recurrent networks: a memory between encoder and heads; the context of predictive losses."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError, suggest
from rlssl.networks.encoders import check_size

#: Keys of a recurrent state, whose tensors are [N, H]. Zeros before the first step of an episode.
STATE_KEYS = ("hidden", "cell")


@dataclass(frozen=True)
class LSTMConfig:
    """Settings of ``model.lstm``."""

    # Features of the output and of the cell; >= 1; 256 as in A3C (Mnih et al. 2016) and IMPALA.
    hidden: int = 256
    # Largest number of steps that a gradient flows back, and rows of a sequence in a minibatch;
    # >= 1; 20 as in the published codes of A3C.
    sequence_length: int = 20

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None) -> Self | None:
        """Reads ``model.lstm``: None means no memory, {} means the defaults.

        Raises:
            SpecError: If an option is unknown or invalid; the message names option and value.

        Example:
            >>> LSTMConfig.parse({"hidden": 8})
            LSTMConfig(hidden=8, sequence_length=20)
        """
        if options is None:
            return None
        if not isinstance(options, Mapping):
            raise SpecError(f"model.lstm must be a mapping such as {{hidden: 256}}; got {options}.")
        names = cls.__dataclass_fields__
        for key, value in options.items():
            if key not in names:
                raise SpecError(f"unknown option 'model.lstm.{key}'{suggest(key, names)}")
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpecError(f"model.lstm.{key} must be a whole number >= 1; got {value!r}.")
        return cls(**options)

    def options(self) -> dict[str, int]:
        """The mapping that ``parse`` reads."""
        return asdict(self)


class LSTM(nn.Module):
    """One LSTM layer over latents.

    Weights are orthogonal with gain 1. Biases are zero, except for the forget gate, whose bias is
    1: an untrained cell then keeps most of its state.

    Example:
        >>> lstm = LSTM(4, hidden=8)
        >>> state = {key: torch.zeros(2, 8) for key in STATE_KEYS}
        >>> outputs, state = lstm(torch.zeros(2, 5, 4), state)
        >>> outputs.shape, state["hidden"].shape
        (torch.Size([2, 5, 8]), torch.Size([2, 8]))

    Source:
        Hochreiter and Schmidhuber 1997; bias of the forget gate: Jozefowicz et al. 2015.
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        """Builds the layer.

        Args:
            input_dim: D, features of a latent.
            hidden: H, features of the output and of the cell.

        Raises:
            ValueError: If a size is not positive.
        """
        super().__init__()
        check_size("input_dim", input_dim)
        check_size("hidden", hidden)
        self.output_dim = hidden
        self.cells = nn.LSTM(input_dim, hidden, batch_first=True)
        for name, parameter in self.cells.named_parameters():
            if name.startswith("weight"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)
        with torch.no_grad():
            # Order of the gates in torch: input, forget, cell, output.
            self.cells.state_dict()["bias_ih_l0"][hidden : 2 * hidden] = 1.0

    def initial_state(self) -> dict[str, np.ndarray]:
        """State before the first step of an episode: zeros [H]."""
        return {key: np.zeros(self.output_dim, np.float32) for key in STATE_KEYS}

    def forward(
        self, latents: Tensor, state: Mapping[str, Tensor], resets: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Processes sequences of equal length.

        Args:
            latents: [B, T, D].
            state: ``hidden`` and ``cell``, [B, H], before the first step.
            resets: [B, T], bool: first steps of episodes. The state before them is zero, and no
                gradient flows across them. None: no step is a first step.

        Returns:
            Outputs [B, T, H], and the state after the last step.
        """
        hidden, cell = (state[key].to(latents.dtype).unsqueeze(0) for key in STATE_KEYS)
        # Bounds of time ranges in which no sequence is reset.
        bounds = [0, latents.shape[1]]
        if resets is not None:
            later = resets[:, 1:].any(dim=0).nonzero().squeeze(-1) + 1
            bounds = [0, *later.tolist(), latents.shape[1]]
        outputs = []
        for start, stop in itertools.pairwise(bounds):
            if resets is not None:
                # Filled, not multiplied by zero: the old state may contain inf or nan.
                begins = resets[:, start].unsqueeze(-1)
                hidden, cell = (x.masked_fill(begins, 0.0) for x in (hidden, cell))
            output, (hidden, cell) = self.cells(latents[:, start:stop], (hidden, cell))
            outputs.append(output)
        outputs = outputs if len(outputs) == 1 else [torch.cat(outputs, dim=1)]
        return outputs[0], {"hidden": hidden.squeeze(0), "cell": cell.squeeze(0)}

    def over_rows(
        self, latents: Tensor, states: Mapping[str, Tensor], begins: Tensor | None = None
    ) -> Tensor:
        """Processes concatenated sequences of any lengths.

        Internally, sequences are padded with zeros after their last row. The padding changes no
        output.

        Args:
            latents: [N, D].
            states: ``hidden`` and ``cell``, [N, H], before each row. Read only at the first row of
                each sequence.
            begins: [N], bool: first rows of sequences; True in row 0. None: each row is a sequence.

        Returns:
            [N, H].

        Raises:
            ValueError: If row 0 is not the first row of a sequence.
        """
        if begins is None or not len(latents):
            output, _ = self(latents.unsqueeze(1), states)
            return output.squeeze(1)
        starts = begins.nonzero().squeeze(-1)
        if not len(starts) or starts[0] != 0:
            raise ValueError("row 0 must be the first row of a sequence; do not cut sequences.")
        sequence = begins.cumsum(0) - 1
        step = torch.arange(len(latents), device=latents.device) - starts[sequence]
        padded = latents.new_zeros(len(starts), int(step.max()) + 1, latents.shape[1])
        padded = padded.index_put((sequence, step), latents)
        output, _ = self(padded, {key: states[key][starts] for key in STATE_KEYS})
        return output[sequence, step]


class Context(nn.Module):
    """A GRU over the latents of past frames.

    The state is zero before the first valid frame, and frames that are not valid leave it as it is:
    the state never mixes two episodes.

    Example:
        >>> context = Context(4, hidden=8)
        >>> context(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 8])
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        """Builds the cell, with torch's initialization.

        Args:
            input_dim: D, features of a latent.
            hidden: H, features of the state.

        Raises:
            SpecError: If a size is not positive.
        """
        super().__init__()
        check_size("input_dim", input_dim)
        check_size("hidden", hidden)
        self.output_dim = hidden
        self.cell = nn.GRUCell(input_dim, hidden)

    def forward(self, latents: Tensor, valid: Tensor) -> Tensor:
        """[N, H], the state after latents [N, T, D], of which those in ``valid`` [N, T] count."""
        state = latents.new_zeros(len(latents), self.output_dim)
        for place in range(latents.shape[1]):
            following = self.cell(latents[:, place], state)
            state = torch.where(valid[:, place, None], following, state)
        return state


class ActionRollout(nn.Module):
    """A GRU that starts from the context and reads the coming actions.

    Its state after k actions must tell the frame after k actions.

    Example:
        >>> rollout = ActionRollout(3, hidden=8)
        >>> rollout(torch.zeros(2, 8), torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, action_dim: int, hidden: int) -> None:
        """Builds the network, with torch's initialization.

        Args:
            action_dim: A, features of an encoded action.
            hidden: H, features of the context and of the state.

        Raises:
            SpecError: If a size is not positive.
        """
        super().__init__()
        check_size("action_dim", action_dim)
        check_size("hidden", hidden)
        self.cells = nn.GRU(action_dim, hidden, batch_first=True)

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        """[N, K, H], states after 1 to K of the actions [N, K, A] that follow context [N, H]."""
        states: Tensor = self.cells(actions, context[None].contiguous())[0]
        return states
