"""The update that SAC and DDPG share: order of steps, gradients, priorities, auxiliary losses."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.networks.shared_encoder import SharedEncoder
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    BOTH,
    CROPPED,
    ActorCriticBench,
    Small,
    pixel_bench,
    prefixes,
    small_sac,
    watch_steps,
)


@BOTH
def test_actor_step_changes_its_own_layers_but_no_convolution(small: Small) -> None:
    bench = pixel_bench(small, actor_update_every_updates=1)
    assert isinstance(bench.module.encoder, SharedEncoder)
    steps = watch_steps(bench)
    bench.update_once()
    (_, of_critics), (names, of_actor) = steps
    assert names[0] == "actor"
    assert {"encoder.body", "encoder.projection", "critic.layers"} <= prefixes(of_critics, 2)
    assert prefixes(of_critics) == {"encoder", "critic"}
    # The linear layer and the LayerNorm after the convolutions, and the policy.
    own = {"actor_encoder.0.weight", "actor_encoder.1.weight", "actor.layers.0.weight"}
    assert own <= of_actor
    assert prefixes(of_actor) - {"log_alpha"} == {"actor_encoder", "actor"}


@BOTH
def test_target_networks_move_every_few_updates_by_two_taus(small: Small) -> None:
    bench = pixel_bench(
        small,
        tau=0.1,
        encoder_tau=0.4,
        actor_update_every_updates=3,
        target_update_every_updates=2,
    )
    steps = watch_steps(bench)
    for count in range(1, 7):
        before = {k: v.clone() for k, v in bench.module.target.target.state_dict().items()}
        del steps[:]
        bench.update_once()
        assert [names[0] for names, _ in steps] == ["critic", "actor"][: 2 if count % 3 == 0 else 1]
        online, after = bench.module.state_dict(), bench.module.target.target.state_dict()
        for key, value in before.items():
            tau = 0.4 if key.startswith("encoder.") else 0.1
            expected = value if count % 2 else (1 - tau) * value + tau * online[key]
            torch.testing.assert_close(after[key], expected, rtol=0, atol=1e-6, msg=key)
    assert bench.module.update_rng.num_updates == 6


@BOTH
def test_reused_features_are_from_before_the_critics_step(small: Small) -> None:
    seen: dict[bool, Any] = {}
    for reuse in (True, False):
        bench = pixel_bench(small, reuse_features=reuse)
        module, batch = bench.module, bench.draw()
        crop = module.augmentation(torch.from_numpy(batch[Columns.OBS]))
        before = module.features(crop).detach().clone()
        losses = bench.learner.actor_losses
        bench.learner.actor_losses = lambda rows, features, *rest: (  # type: ignore[method-assign]
            seen.update({reuse: features.clone()}) or losses(rows, features, *rest)  # noqa: B023
        )
        bench.learner.update_on(batch, agent_steps=64)
        after = module.features(crop).detach()
        assert not torch.allclose(before, after, atol=1e-4)
        torch.testing.assert_close(seen[reuse], before if reuse else after)


def test_order_of_steps_is_that_of_curls_code() -> None:
    bench = pixel_bench(small_sac, auxiliary={"curl": {}}, auxiliary_step="separate")
    module = bench.module
    curl = module.auxiliary["curl"]
    assert curl.key_encoder is module.target.target["encoder"]
    assert curl.own_key_encoder is None
    events: list[str] = []
    optimizer_step, losses = bench.learner.optimizer_step, curl.losses
    views: list[Any] = []

    def record(name: str, function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            events.append(args[1][0] if name == "step" else name)
            return function(*args, **kwargs)

        return called

    def looked(batch: Any) -> Any:
        views.append((batch, [p.clone() for p in module.encoder.parameters()]))
        return losses(batch)

    bench.learner.optimizer_step = record("step", optimizer_step)  # type: ignore[method-assign]
    module.target.polyak_update = record("targets", module.target.polyak_update)
    curl.losses = record("look", looked)
    drawn = bench.draw()
    start = [p.clone() for p in module.encoder.parameters()]
    bench.learner.update_on(drawn, agent_steps=64)
    assert events == ["critic", "actor", "targets", "look", "encoder"]
    batch, weights = views[0]
    # The anchor is the critics' view; the loss encodes it after the critics' step.
    assert batch["augmented_obs"].shape == (32, 3, 12, 12)
    assert not any(map(torch.equal, weights, start))
    assert not any(map(torch.equal, weights, module.encoder.parameters()))


@pytest.mark.parametrize("doubled", [False, True])
def test_encoder_step_for_curl_equals_one_adam_or_two(doubled: bool) -> None:
    options = {"double_encoder_step": doubled}
    bench = pixel_bench(small_sac, auxiliary={"curl": options}, auxiliary_step="separate")
    module, optimizer_step = bench.module, bench.learner.optimizer_step
    adams = [
        torch.optim.Adam([torch.nn.Parameter(p.detach().clone())], lr=1e-3)
        for p in module.encoder.parameters()
    ]
    checked = []

    def watched(loss: Any, optimizers: Any) -> bool:
        before = [p.detach().clone() for p in module.encoder.parameters()]
        done = optimizer_step(loss, optimizers)
        if optimizers[0] == "encoder":
            for adam, old, new in zip(adams, before, module.encoder.parameters(), strict=True):
                (copy,) = adam.param_groups[0]["params"]
                copy.data, copy.grad = old.clone(), new.grad.clone()
                # Two optimizers with the same gradients have the same moments.
                state = {k: v.clone() for k, v in adam.state[copy].items()}
                adam.step()
                if doubled:
                    if state:
                        adam.state[copy].update(state)
                    else:
                        adam.state.pop(copy)
                    adam.step()
                torch.testing.assert_close(new, copy, rtol=0, atol=1e-6)
                checked.append(True)
        return done

    bench.learner.optimizer_step = watched  # type: ignore[method-assign]
    for _ in range(3):
        bench.update_once()
    assert len(checked) == 3 * len(adams)


@BOTH
@pytest.mark.parametrize("step", ["joint", "separate"])
@pytest.mark.parametrize("augmentation", [CROPPED, None], ids=["crops", "raw"])
def test_zero_coefficient_equals_no_loss_on_pixels(
    small: Small, step: str, augmentation: Any
) -> None:
    states = []
    zero: dict[str, Any] = {"curl": {"coeff": 0.0}, "icm": {"coeff": 0.0, "intrinsic_coeff": 0.0}}
    cases: list[dict[str, Any]] = [{}, zero]
    for losses in cases:
        bench = pixel_bench(small, augmentation, auxiliary=losses, auxiliary_step=step)
        for _ in range(3):
            bench.update_once()
        states.append({k: v for k, v in bench.states().items() if not k.startswith("auxiliary")})
    assert states[0].keys() == states[1].keys()
    assert [key for key, value in states[0].items() if not value.equal(states[1][key])] == []


@BOTH
@pytest.mark.parametrize("step", ["joint", "separate"])
def test_auxiliary_loss_changes_the_critics_encoder(small: Small, step: str) -> None:
    cases: list[dict[str, Any]] = [{"curl": {}}, {}]
    with_loss, without = (
        pixel_bench(small, auxiliary=losses, auxiliary_step=step) for losses in cases
    )
    for bench in (with_loss, without):
        bench.update_once()
    first = "encoder.body.encoder.layers.0.weight"
    assert not with_loss.states()[first].equal(without.states()[first])
    assert {"info_nce", "accuracy"} <= with_loss.learner.report()["default_policy"]["aux"][
        "curl"
    ].keys()


@BOTH
def test_priorities_are_the_mean_sizes_of_the_critics_errors(small: Small) -> None:
    bench = ActorCriticBench(small(num_critics=2, replay={"prioritized": True}))
    bench.add(bench.sample())
    assert bench.replay.kind == "prioritized"
    outputs: list[Any] = []
    compute = bench.learner.compute_rl_loss

    def watched(batch: Any, fwd_out: Any) -> Any:
        outputs.append(fwd_out)
        return compute(batch, fwd_out)

    bench.learner.compute_rl_loss = watched  # type: ignore[method-assign]
    errors = bench.update_once()
    (out,) = outputs
    by_hand = ((out["values"] - out["targets"]).abs().sum(dim=0) / 2).detach()
    np.testing.assert_allclose(errors, by_hand, rtol=1e-5)
    assert ActorCriticBench(small()).replay.kind == "uniform"


@BOTH
def test_importance_weights_scale_the_critics_loss(small: Small) -> None:
    bench = ActorCriticBench(small())
    values, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.0, 2.0])
    batch = {"weights": torch.tensor([1.0, 0.5])}
    loss = bench.learner.compute_rl_loss(batch, {"values": values, "targets": targets})
    # Row 1: 1 + 9; row 2: 0 + 4, by a half: mean 6.
    assert loss.item() == pytest.approx(6.0)
    # Row 1: (1 + 3) / 2; row 2: (0 + 2) / 2.
    assert bench.learner.td_errors.tolist() == [2.0, 1.0]


@BOTH
def test_nonfinite_update_changes_nothing(small: Small) -> None:
    bench = ActorCriticBench(small())
    bench.add(bench.sample())
    batch, before = bench.draw(), bench.states()
    batch[Columns.REWARDS][0] = np.nan
    bench.learner.update_on(batch, agent_steps=64)
    assert [key for key, value in bench.states().items() if not value.equal(before[key])] == []
    assert bench.learner.num_nonfinite_updates == 1
    bench.update_once()
    assert bench.learner.num_nonfinite_updates == 0
