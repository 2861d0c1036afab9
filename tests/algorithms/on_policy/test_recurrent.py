"""PPO and A3C with an LSTM: states, values and sequences against a loop over single steps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator
from torch import Tensor, nn
from torch.func import functional_call

from rlssl.algorithms.common.minibatches import minibatches
from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from rlssl.connectors.advantages import AddAdvantages
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.errors import SpecError
from rlssl.networks.recurrent import LSTM
from rlssl.policy import Policy
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.rollouts.counting import COUNTING

#: Lengths of each slot's episodes, in turn; every second episode is truncated.
LENGTHS = [[3, 9], [20, 6], [5]]
#: Agent steps of the fragments: most end in the middle of every slot's episode.
FRAGMENTS = (12, 18, 40)
GAMMA, LAMBDA = 0.99, 0.95


def recurrent_ppo(env: Any, *, shared: bool = False, **training: Any) -> PPOConfig:
    config = small_ppo(env, **training).env_runners(num_envs_per_env_runner=3)
    return config.model(shared_encoder=shared, lstm={"hidden": 6, "sequence_length": 4})


def counting(soft: tuple[int, ...] = (), **options: Any) -> dict[str, Any]:
    return {"id": COUNTING, "lengths": LENGTHS, "soft": soft, **options}


def decided(bench: Bench) -> Bench:
    """Sets weights of Learner and runner so that every step depends on earlier steps."""
    torch.manual_seed(5)
    for name, parameter in bench.module.named_parameters():
        # The counting environment has large observations.
        nn.init.normal_(parameter, std=0.05 if name.startswith("encoder") else 0.7)
    bench.runner.module.load_state_dict(bench.module.state_dict(), strict=False)
    return bench


class Reference:
    """The outputs of actor and critic with these weights, computed step by step.

    It remembers the state of every unfinished episode, as the slowest of runners would.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.states: dict[str, list[Any]] = {}

    @torch.no_grad()
    def chunk(self, episode: Any) -> tuple[np.ndarray, np.ndarray]:
        """The log-probabilities [T] of a chunk's actions, and [T + 1] values."""
        states = self.before(episode)
        actions, logps, values = episode.get_actions(), [], []
        for t, observation in enumerate(episode.get_observations()):
            obs = torch.as_tensor(observation)[None]
            if t == len(actions):
                self.states[episode.id_] = states
            hidden, states = self.step(obs, states)
            values.append(self.module.vf(hidden[1]).item())
            if t < len(actions):
                probabilities = self.module.pi(hidden[0]).log_softmax(-1)
                logps.append(probabilities[0, actions[t]].item())
        return np.array(logps), np.array(values)

    def terms(self, episode: Any, config: Any) -> list[Tensor]:
        """A3C's loss of each step of a chunk; gradients do not pass between sequences."""
        states = self.before(episode)
        actions, rewards = episode.get_actions(), episode.get_rewards()
        policies, values = [], []
        for t, observation in enumerate(episode.get_observations()):
            if t == len(actions):
                self.states[episode.id_] = [(h.detach(), c.detach()) for h, c in states]
            elif t % 4 == 0:
                states = [(h.detach(), c.detach()) for h, c in states]
            hidden, states = self.step(torch.as_tensor(observation)[None], states)
            policies.append(self.module.pi(hidden[0]).log_softmax(-1)[0])
            values.append(self.module.vf(hidden[1]).squeeze())
        running, terms = 0.0 if episode.is_terminated else values[-1].item(), []
        for t in reversed(range(len(actions))):
            running = rewards[t] + GAMMA * running
            logp, value = policies[t], values[t]
            entropy = -(logp.exp() * logp).sum()
            actor = -logp[actions[t]] * (running - value.item())
            critic = config.vf_loss_coeff * 0.5 * (value - running).square()
            terms.append(actor + critic - config.entropy_coeff * entropy)
        return terms

    def before(self, episode: Any) -> list[Any]:
        """The states before a chunk."""
        if episode.t_started > 0:
            states: list[Any] = self.states.pop(episode.id_)
            return states
        assert episode.id_ not in self.states
        zeros = torch.zeros(1, 6)
        return [(zeros, zeros), (zeros, zeros)]

    def step(self, obs: Tensor, states: list[Any]) -> tuple[list[Tensor], list[Any]]:
        """The outputs of the actor's and the critic's LSTM, and the states after them."""
        after = [one_step(self.module.lstm, self.module.encoder(obs), states[0])]
        if self.module.critic_lstm is None:
            after *= 2
        else:
            latent = self.module.critic_encoder(obs)
            after.append(one_step(self.module.critic_lstm, latent, states[1]))
        return [hidden for hidden, _ in after], after


def one_step(lstm: LSTM, latent: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    cell = nn.LSTMCell(latent.shape[1], lstm.output_dim)
    weights: dict[str, Tensor] = {
        key.removesuffix("_l0"): value for key, value in lstm.cells.named_parameters()
    }
    hidden, memory = functional_call(cell, weights, (latent, state))
    return hidden, memory


def advantages_of(rewards: np.ndarray, values: np.ndarray, terminated: bool) -> np.ndarray:
    running, advantages = 0.0, np.zeros(len(rewards))
    for t in reversed(range(len(rewards))):
        is_last = t == len(rewards) - 1
        bootstrap = 0.0 if is_last and terminated else values[t + 1]
        running = rewards[t] + GAMMA * bootstrap - values[t] + GAMMA * LAMBDA * running
        advantages[t] = running
    return advantages


def logps_of(module: Any, rows: dict[str, Any]) -> Tensor:
    outputs = module.forward_train(rows)[Columns.ACTION_DIST_INPUTS]
    return module.action_dist_cls.from_logits(outputs).logp(rows[Columns.ACTIONS])


def fragments(bench: Bench) -> Iterator[list[Any]]:
    for steps in FRAGMENTS:
        yield bench.sample(steps)


@pytest.mark.parametrize("shared", [False, True], ids=["two memories", "one memory"])
@pytest.mark.parametrize(
    "soft, runner", [((), VectorEnvRunner), ((2, 7), VectorEnvRunner), ((), StockEnvRunner)]
)
def test_batch_equals_a_loop_over_single_steps(
    soft: tuple[int, ...], runner: type, shared: bool
) -> None:
    config = recurrent_ppo(counting(soft), shared=shared, normalize_advantages=False)
    if runner is StockEnvRunner:
        config.env_runners(module_to_env_connector=no_pieces)
    bench = decided(Bench(config))
    assert type(bench.runner) is runner
    reference = Reference(bench.module)
    kinds, missed = set(), 0.0
    for episodes in fragments(bench):
        logps, advantages, begins = [], [], []
        for episode in episodes:
            ended = "middle"
            if episode.is_done:
                ended = "terminated" if episode.is_terminated else "truncated"
            kinds.add((episode.t_started > 0, ended))
            expected, values = reference.chunk(episode)
            logps.append(expected)
            rewards, terminated = np.array(episode.get_rewards()), episode.is_terminated
            advantages.append(advantages_of(rewards, values, terminated))
            begins.append(np.arange(len(episode)) % 4 == 0)
        batch = bench.batch(episodes)
        assert Columns.LOSS_MASK not in batch
        logps_now = logps_of(bench.module, batch).detach()
        for given in (batch[Columns.ACTION_LOGP], logps_now):
            np.testing.assert_allclose(given, np.concatenate(logps), atol=1e-5)
        np.testing.assert_allclose(
            batch[Postprocessing.ADVANTAGES], np.concatenate(advantages), atol=1e-3, rtol=1e-5
        )
        np.testing.assert_array_equal(batch[SEQUENCE_BEGINS], np.concatenate(begins))
        # Check of the test: without the states, the probabilities differ.
        nothing = {key: torch.zeros_like(x) for key, x in batch[Columns.STATE_IN].items()}
        forgetful = logps_of(bench.module, {**batch, Columns.STATE_IN: nothing})
        missed = max(missed, (forgetful - logps_now).abs().max().item())
    assert missed > 0.05
    # There are chunks that continue an earlier fragment, and chunks of all kinds.
    assert (True, "terminated") in kinds
    assert {kind for _, kind in kinds} == {"middle", "terminated", "truncated"}


def no_pieces(*args: Any, **kwargs: Any) -> list[Any]:
    return []


@pytest.mark.parametrize("minibatch_size", [8, 16])
def test_minibatches_of_sequences_give_the_probabilities_of_acting(
    minibatch_size: int,
) -> None:
    bench = decided(Bench(recurrent_ppo(counting((2,)), minibatch_size=minibatch_size)))
    batch = bench.batch(bench.sample(60))
    seen = list(minibatches(batch, num_epochs=2, minibatch_size=minibatch_size))
    assert len(seen) > 4
    for rows in seen:
        logps = logps_of(bench.module, rows)
        torch.testing.assert_close(logps, rows[Columns.ACTION_LOGP], atol=1e-5, rtol=0)
    forward = bench.module.forward_train(seen[0])
    # There was no update, so the policy is the same as in acting.
    kl = bench.learner.mean_kl(seen[0], forward[Columns.ACTION_DIST_INPUTS])
    assert kl.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("shared", [False, True], ids=["two memories", "one memory"])
def test_gradients_of_a3c_are_those_of_a_loop_over_single_steps(shared: bool) -> None:
    config = small_a3c(counting(), entropy_coeff=0.02, lr=1e-2).model(
        shared_encoder=shared, lstm={"hidden": 6, "sequence_length": 4}
    )
    # Fragments of 6 vector steps are longer than a sequence, and most end in mid-episode.
    config.env_runners(num_envs_per_env_runner=3, rollout_fragment_length=6)
    bench = decided(A3CBench(config))
    assert type(bench.runner).__name__ == "VectorWorker"
    reference, terms = Reference(bench.module), []
    sample = bench.runner.sample

    def sample_and_compare(**kwargs: Any) -> Any:
        episodes = sample(**kwargs)
        for episode in episodes:
            terms.extend(reference.terms(episode, config))
        return episodes

    bench.runner.sample = sample_and_compare
    parameters = [p for p in bench.module.parameters() if p.requires_grad]
    agent_steps = 0
    for _ in range(4):
        steps = bench.runner.compute(agent_steps)
        agent_steps += steps
        assert steps == len(terms) > 0
        expected = torch.autograd.grad(torch.stack(terms).mean(), parameters)
        terms.clear()
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert gradient.abs().max() > 0
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)
        before = bench.learner.flat.values.clone()
        assert bench.learner.apply(worker=0, agent_steps=agent_steps, num_steps=steps)
        assert not torch.equal(before, bench.learner.flat.values)
    assert reference.states  # episodes continued across fragments


def test_episodes_split_between_two_learners_keep_their_states() -> None:
    bench = decided(Bench(recurrent_ppo(counting())))
    for episodes in fragments(bench):
        lookback = bench.config.episode_lookback_horizon
        for shard in ShardEpisodesIterator(episodes, 2, len_lookback_buffer=lookback):
            batch = bench.batch(shard)
            logps = logps_of(bench.module, batch)
            torch.testing.assert_close(logps, batch[Columns.ACTION_LOGP], atol=1e-5, rtol=0)


def test_phantom_rows_may_hold_anything_but_the_last_observation_and_state() -> None:
    bench = decided(Bench(recurrent_ppo(counting())))
    pieces = bench.learner._learner_connector
    (add,) = [piece for piece in pieces.connectors if isinstance(piece, AddAdvantages)]
    kept: dict[str, Any] = {}
    add_them = add.__class__.__call__

    def keep(self: Any, **given: Any) -> Any:
        kept.update(given)
        return add_them(self, **given)

    add.__class__ = type("Keeping", (AddAdvantages,), {"__call__": keep})
    clean = bench.batch(bench.sample(40))
    columns = kept["batch"][DEFAULT_MODULE_ID]
    phantom = ~columns[Columns.LOSS_MASK]
    assert phantom.sum() >= 3
    for key in (Columns.REWARDS, Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS):
        columns[key] = columns[key].clone()
        columns[key][phantom] = torch.nan
    garbled = add_them(add, **kept)[DEFAULT_MODULE_ID]
    assert garbled.keys() == clean.keys()
    for key in clean.keys() - {Columns.STATE_IN}:
        assert torch.equal(garbled[key], clean[key]), key


@pytest.mark.parametrize("losses", [{"icm": {}}, {"curl": {}}, {"icm": {"features": "shared"}}])
def test_losses_change_only_the_encoder_and_nothing_at_coefficient_0(
    losses: dict[str, Any],
) -> None:
    def states(**chosen: Any) -> dict[str, Tensor]:
        bench = Bench(recurrent_ppo("CartPole-v1", shared=True).auxiliary(**chosen))
        for _ in range(2):
            bench.update(bench.sample(64))
        return {key: value.clone() for key, value in bench.module.state_dict().items()}

    off = {
        name: {**options, "coeff": 0.0, "intrinsic_coeff": 0.0} for name, options in losses.items()
    }
    without, idle, used = states(), states(**off), states(**losses)
    for key, value in without.items():
        assert torch.equal(value, idle[key]), key
    changed = {key for key, value in without.items() if not torch.equal(value, used[key])}
    # An ICM with its own features gives only a reward, which the clip at 1 removes here.
    moves = losses != {"icm": {}}
    assert any(key.startswith("encoder") for key in changed) == moves


def test_loaded_policy_acts_as_the_runner_and_forgets_at_a_reset(tmp_path: Any) -> None:
    bench = decided(Bench(recurrent_ppo(counting())))
    episodes = bench.runner.sample(num_episodes=3, explore=False)
    space, actions = bench.runner.get_spaces()["__env_single__"]
    settings = {
        "algorithm": "ppo",
        "model": {**bench.runner.module.model_config, "auxiliary": {}},
        "observation_space": space,
        "action_space": actions,
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": {"id": COUNTING},
    }
    policy = Policy.load(Policy(bench.runner.module, settings).save(tmp_path))
    played = []
    for episode in episodes:
        policy.reset()
        played.append([int(policy.act(obs)) for obs in episode.get_observations()[:-1]])
        assert played[-1] == episode.get_actions().tolist()
    assert len({tuple(chosen) for chosen in played}) > 1
    # Without the reset, the third episode would have been different.
    third = episodes[2].get_observations()[:-1]
    hidden = policy._state["hidden"]
    policy.act(third[0])
    assert not torch.equal(policy._state["hidden"], hidden)
    policy.reset()
    assert [int(policy.act(obs)) for obs in third] == played[2]


def test_images_and_mappings_work_with_an_lstm() -> None:
    for env, network in (("minatar/Breakout", {}), (counting(nested=True), {})):
        config = recurrent_ppo(env).model(encoder_config={}, shared_encoder=None, **network)
        bench = Bench(config)
        episodes = bench.sample(32)
        batch = bench.batch(episodes)
        logps = logps_of(bench.module, batch)
        torch.testing.assert_close(logps, batch[Columns.ACTION_LOGP], atol=1e-5, rtol=0)
        bench.update(bench.sample(32))


def test_vectorized_runner_samples_with_an_lstm() -> None:
    config = recurrent_ppo("CartPole-v1")
    config.validate()
    assert config.env_runner_cls is VectorEnvRunner


def test_off_policy_algorithms_refuse_an_lstm() -> None:
    with pytest.raises(
        SpecError, match=r"model\.lstm needs ppo, a3c, bc or dagger; rainbow learns"
    ):
        RainbowConfig().model(lstm={})


def test_without_an_lstm_nothing_is_added() -> None:
    bench = Bench(small_ppo())
    assert not bench.module.is_stateful()
    batch = bench.batch(bench.sample())
    assert not {Columns.STATE_IN, SEQUENCE_BEGINS} & batch.keys()
    assert not any("lstm" in key for key in bench.module.state_dict())
