"""The state of a recurrent module is kept, stored and reset as in RLlib's runner."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.connectors.common import AddStatesFromEpisodesToBatch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.rollouts.counting import COUNTING, ForcedModule, make_config, make_runner


class RememberingModule(ForcedModule):
    """Its action depends on all observations of the episode."""

    def get_initial_state(self) -> dict[str, np.ndarray]:
        return {"h": np.full(4, 0.25, np.float32)}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        hidden = batch[Columns.STATE_IN]["h"].float()
        steps = []
        for t in range(batch[Columns.OBS].shape[1]):
            hidden = torch.sin(0.5 * hidden + batch[Columns.OBS][:, t].float())
            steps.append(super()._forward({Columns.OBS: hidden})[Columns.ACTION_DIST_INPUTS])
        logits = torch.stack(steps, 1)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: {"h": hidden}}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch)


def runner_of(cls: type, num_envs: int, lengths: list[list[int]]) -> Any:
    config = make_config({"id": COUNTING, "lengths": lengths}, num_envs)
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=RememberingModule),
        model_config={"max_seq_len": 4},
    )
    return make_runner(cls, config)


def first_state(runner: Any, chunk: Any) -> np.ndarray:
    """The state that the Learner's connector gives to the first sequence of a chunk."""
    batch: dict[str, Any] = {}
    connector = AddStatesFromEpisodesToBatch(as_learner_connector=True)
    connector(rl_module=runner.module, batch=batch, episodes=[chunk], shared_data={})
    (states,) = batch[Columns.STATE_IN].values()
    return np.asarray(states[0]["h"][0])


@pytest.mark.parametrize("fragments", [[5, 7, 30], [1, 1, 1, 40]], ids=str)
def test_states_equal_rllibs_across_fragments(fragments: list[int]) -> None:
    ours, rllibs = (runner_of(cls, 3, [[3, 9], [12]]) for cls in (VectorEnvRunner, StockEnvRunner))
    ended_with: dict[str, np.ndarray] = {}
    for count in fragments:
        # Without exploration, because the two runners draw different random numbers.
        mine, theirs = (r.sample(num_timesteps=count, explore=False) for r in (ours, rllibs))
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a.get_actions(), b.get_actions())
            np.testing.assert_array_equal(a.get_observations(), b.get_observations())
            for key in (Columns.STATE_OUT, Columns.ACTION_DIST_INPUTS):
                given, expected = (x.get_extra_model_outputs(key) for x in (a, b))
                given, expected = (x["h"] if isinstance(x, dict) else x for x in (given, expected))
                np.testing.assert_allclose(given, np.reshape(expected, given.shape), rtol=1e-6)
        # A Learner continues from the last state of the chunk before.
        for chunk in mine:
            begins_with = ours.module.get_initial_state()["h"]
            if chunk.t_started:
                begins_with = ended_with[chunk.id_]
            np.testing.assert_array_equal(first_state(ours, chunk), begins_with)
            states = chunk.get_extra_model_outputs(Columns.STATE_OUT)
            ended_with[chunk.id_] = states["h"][-1]


def test_explored_actions_depend_on_the_state() -> None:
    runner = runner_of(VectorEnvRunner, 2, [[20]])
    (first, _) = runner.sample(num_timesteps=10)
    states = first.get_extra_model_outputs(Columns.STATE_OUT)["h"]
    assert states.shape == (5, 4)
    # By hand: sin(0.5 * 0.25 + observation) at the first step.
    expected = np.sin(0.5 * 0.25 + first.get_observations(0))
    np.testing.assert_allclose(states[0], expected, rtol=1e-6)
