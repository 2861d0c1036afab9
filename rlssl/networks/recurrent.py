"""Recurrent cores: a memory between an encoder and the heads."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError, suggest
from rlssl.networks.encoders import check_size

#: A state: tensors [N, H] under these keys. Zeros before the first step of an episode.
STATE_KEYS = ("hidden", "cell")


@dataclass(frozen=True)
class LSTMConfig:
    """``model.lstm``."""

    # Features of the output and of the cell; >= 1; 256 as in A3C (Mnih et al. 2016) and IMPALA.
    hidden: int = 256
    # Steps that a gradient goes back at most, and rows a sequence has in a minibatch; >= 1; 20 as
    # in A3C's published codes.
    sequence_length: int = 20

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None) -> Self | None:
        """From ``model.lstm``: None is no memory, {} the defaults.

        Raises:
            SpecError: Naming the option and the value.
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
        """What `parse` reads."""
        return asdict(self)


class LSTM(nn.Module):
    """One layer of LSTM cells over latents.

    Weights are orthogonal with gain 1, biases zero except the forget gate's, 1, so that at the
    start a cell keeps most of what it holds.

    Source:
        Hochreiter and Schmidhuber 1997; the forget gate's bias: Jozefowicz et al. 2015.
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
            # Torch's order of the gates: input, forget, cell, output.
            self.cells.state_dict()["bias_ih_l0"][hidden : 2 * hidden] = 1.0

    def initial_state(self) -> dict[str, np.ndarray]:
        """The state before an episode's first step: zeros, [H] each."""
        return {key: np.zeros(self.output_dim, np.float32) for key in STATE_KEYS}

    def forward(
        self, latents: Tensor, state: Mapping[str, Tensor], resets: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs over sequences.

        Args:
            latents: [B, T, D].
            state: hidden and cell, [B, H], before the first step.
            resets: [B, T], bool: steps that begin an episode; the state before them is zero, and
                no gradient flows across. None: none does.

        Returns:
            [B, T, H], and the state after the last step.
        """
        hidden, cell = (state[key].to(latents.dtype).unsqueeze(0) for key in STATE_KEYS)
        # Parts of time within which no sequence is reset.
        bounds = [0, latents.shape[1]]
        if resets is not None:
            later = resets[:, 1:].any(dim=0).nonzero().squeeze(-1) + 1
            bounds = [0, *later.tolist(), latents.shape[1]]
        outputs = []
        for start, stop in itertools.pairwise(bounds):
            if resets is not None:
                # Not multiplied by zero: what was before may hold anything.
                begins = resets[:, start].unsqueeze(-1)
                hidden, cell = (x.masked_fill(begins, 0.0) for x in (hidden, cell))
            output, (hidden, cell) = self.cells(latents[:, start:stop], (hidden, cell))
            outputs.append(output)
        outputs = outputs if len(outputs) == 1 else [torch.cat(outputs, dim=1)]
        return outputs[0], {"hidden": hidden.squeeze(0), "cell": cell.squeeze(0)}

    def over_rows(
        self, latents: Tensor, states: Mapping[str, Tensor], begins: Tensor | None = None
    ) -> Tensor:
        """Runs over sequences that lie behind each other as rows, of any lengths.

        Sequences are padded with zeros in here alone, behind their last row, where they change no
        other row.

        Args:
            latents: [N, D].
            states: hidden and cell, [N, H], before each row; read where a sequence begins.
            begins: [N], bool, True in row 0: where sequences begin. None: each row is one.

        Returns:
            [N, H].

        Raises:
            ValueError: If row 0 begins no sequence.
        """
        if begins is None or not len(latents):
            output, _ = self(latents.unsqueeze(1), states)
            return output.squeeze(1)
        starts = begins.nonzero().squeeze(-1)
        if not len(starts) or starts[0] != 0:
            raise ValueError("the first row must begin a sequence; keep sequences whole.")
        sequence = begins.cumsum(0) - 1
        step = torch.arange(len(latents), device=latents.device) - starts[sequence]
        padded = latents.new_zeros(len(starts), int(step.max()) + 1, latents.shape[1])
        padded = padded.index_put((sequence, step), latents)
        output, _ = self(padded, {key: states[key][starts] for key in STATE_KEYS})
        return output[sequence, step]
