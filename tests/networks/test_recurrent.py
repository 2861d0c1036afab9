"""The LSTM: equal to a loop over single cells, for every layout of the sequences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError
from rlssl.networks.recurrent import LSTM, ActionRollout, Context, LSTMConfig

B, T, D, H = 3, 7, 4, 5


def lstm(seed: int = 0) -> LSTM:
    torch.manual_seed(seed)
    core = LSTM(D, H)
    for parameter in core.parameters():
        nn.init.normal_(parameter, std=0.5)
    return core


def cell_of(core: LSTM) -> nn.LSTMCell:
    """Torch's single cell with the same weights."""
    cell = nn.LSTMCell(D, H)
    weights = {key.removesuffix("_l0"): value for key, value in core.cells.state_dict().items()}
    cell.load_state_dict(weights)
    return cell


def random_state(rows: int) -> dict[str, Tensor]:
    return {"hidden": torch.randn(rows, H), "cell": torch.randn(rows, H)}


def loop(core: LSTM, latents: Tensor, hidden: Tensor, cell: Tensor, resets: Any) -> list[Tensor]:
    """One sequence [T, D], one step after the other."""
    step = cell_of(core)
    outputs = []
    for t, latent in enumerate(latents):
        if resets[t]:
            hidden, cell = torch.zeros(H), torch.zeros(H)
        hidden, cell = (x[0] for x in step(latent[None], (hidden[None], cell[None])))
        outputs.append(hidden)
    return [*outputs, cell]


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_sequences_with_resets_equal_a_loop_over_cells(chance: float) -> None:
    core, latents, state = lstm(), torch.randn(B, T, D), random_state(B)
    resets = torch.rand(B, T) < chance
    outputs, after = core(latents, state, resets if chance else None)
    for b in range(B):
        expected = loop(core, latents[b], state["hidden"][b], state["cell"][b], resets[b])
        torch.testing.assert_close(outputs[b], torch.stack(expected[:-1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(after["hidden"][b], expected[-2], atol=1e-5, rtol=0)
        torch.testing.assert_close(after["cell"][b], expected[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[4, 1, 7, 2], [3], [1, 1, 1]], ids=str)
def test_rows_of_uneven_sequences_equal_a_loop_over_cells(lengths: list[int]) -> None:
    core, num_rows = lstm(), sum(lengths)
    latents, states = torch.randn(num_rows, D), random_state(num_rows)
    begins = torch.zeros(num_rows, dtype=torch.bool)
    # States are read only at the first rows of sequences; the others are nan.
    expected, row = [], 0
    for length in lengths:
        begins[row] = True
        for key in states:
            states[key][row + 1 : row + length] = torch.nan
        hidden, cell = states["hidden"][row], states["cell"][row]
        expected += loop(core, latents[row : row + length], hidden, cell, [False] * length)[:-1]
        row += length
    outputs = core.over_rows(latents, states, begins)
    torch.testing.assert_close(outputs, torch.stack(expected), atol=1e-5, rtol=0)


def test_without_first_rows_each_row_is_a_sequence() -> None:
    core, latents, states = lstm(), torch.randn(6, D), random_state(6)
    everywhere = torch.ones(6, dtype=torch.bool)
    outputs = core.over_rows(latents, states)
    torch.testing.assert_close(outputs, core.over_rows(latents, states, everywhere))
    expected, _ = cell_of(core)(latents, (states["hidden"], states["cell"]))
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=0)


def test_steps_after_a_sequence_do_not_change_its_outputs() -> None:
    core, latents, state = lstm(), torch.randn(B, T, D), random_state(B)
    short, _ = core(latents[:, :4], state)
    latents[:, 4:] = 1e30
    padded, _ = core(latents, state)
    torch.testing.assert_close(padded[:, :4], short, atol=1e-6, rtol=0)


def test_state_before_a_reset_may_be_nan_or_infinite() -> None:
    core, latents = lstm(), torch.randn(B, T, D)
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[:, 0] = True
    garbage = {"hidden": torch.full((B, H), torch.nan), "cell": torch.full((B, H), torch.inf)}
    zeros = {key: torch.zeros(B, H) for key in garbage}
    outputs, _ = core(latents, garbage, resets)
    expected, _ = core(latents, zeros)
    torch.testing.assert_close(outputs, expected)


def test_no_gradient_flows_across_the_end_of_an_episode() -> None:
    core, state = lstm(), random_state(1)
    latents = torch.randn(1, T, D, requires_grad=True)
    resets = torch.zeros(1, T, dtype=torch.bool)
    resets[0, 3] = True
    outputs, _ = core(latents, state, resets)
    (gradient,) = torch.autograd.grad(outputs[0, 5].sum(), latents)
    # Step 5 depends on steps 3 to 5 of its episode.
    assert gradient[0].abs().sum(-1).gt(0).tolist() == [False] * 3 + [True] * 3 + [False]


def test_no_gradient_flows_from_one_sequence_of_rows_to_another() -> None:
    core = lstm()
    latents = torch.randn(6, D, requires_grad=True)
    begins = torch.tensor([True, False, True, False, False, True])
    outputs = core.over_rows(latents, random_state(6), begins)
    (gradient,) = torch.autograd.grad(outputs[4].sum(), latents)
    assert gradient.abs().sum(-1).gt(0).tolist() == [False, False, True, True, True, False]


def test_rows_that_start_in_the_middle_of_a_sequence_are_refused() -> None:
    begins = torch.tensor([False, True, False])
    with pytest.raises(ValueError, match="row 0 must be the first row of a sequence"):
        lstm().over_rows(torch.randn(3, D), random_state(3), begins)


def test_initial_state_is_zero_and_the_forget_gate_has_bias_1() -> None:
    core = LSTM(D, H)
    assert {key: value.tolist() for key, value in core.initial_state().items()} == {
        "hidden": [0.0] * H,
        "cell": [0.0] * H,
    }
    weights = core.cells.state_dict()
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    # Gates: input, forget, cell, output.
    assert bias.reshape(4, H)[:, 0].tolist() == [0.0, 1.0, 0.0, 0.0]
    recurrent = weights["weight_hh_l0"]
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(H), atol=1e-5, rtol=0)


def test_options_are_read_and_written() -> None:
    assert LSTMConfig.parse(None) is None
    config = LSTMConfig.parse({})
    assert config is not None and config.options() == {"hidden": 256, "sequence_length": 20}
    assert LSTMConfig.parse({"hidden": 8}) == LSTMConfig(hidden=8)


@pytest.mark.parametrize(
    "options, message",
    [
        (True, r"model.lstm must be a mapping such as \{hidden: 256\}; got True."),
        ({"hiden": 8}, "unknown option 'model.lstm.hiden'; did you mean 'hidden'"),
        ({"hidden": 0}, "model.lstm.hidden must be a whole number >= 1; got 0."),
        ({"sequence_length": 2.0}, "model.lstm.sequence_length must be a whole number >= 1; got 2"),
        ({"hidden": True}, "model.lstm.hidden must be a whole number >= 1; got True."),
    ],
)
def test_wrong_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LSTMConfig.parse(options)


def test_frames_before_the_episode_leave_the_context_at_zero() -> None:
    torch.manual_seed(0)
    context, latents = Context(3, hidden=5), torch.randn(2, 4, 3)
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[1, :2] = False
    found = context(latents, valid)
    whole = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(found[:1], context(latents[:1], whole))
    torch.testing.assert_close(found[1:], context(latents[1:, 2:], whole[:, :2]))
    assert not context(latents, torch.zeros_like(valid)).any()


def test_states_of_a_rollout_read_the_actions_up_to_them_and_start_from_the_context() -> None:
    torch.manual_seed(0)
    rollout, context, actions = ActionRollout(2, hidden=5), torch.randn(3, 5), torch.randn(3, 4, 2)
    states = rollout(context, actions)
    for k in range(1, 5):
        torch.testing.assert_close(rollout(context, actions[:, :k])[:, -1], states[:, k - 1])
    assert not torch.allclose(rollout(context + 1, actions), states)


@pytest.mark.parametrize("network", [Context, ActionRollout])
def test_sizes_of_contexts_and_rollouts_must_be_positive(network: type) -> None:
    with pytest.raises(SpecError, match="hidden must be a whole number >= 1; got 0"):
        network(3, hidden=0)
