"""Autoencoders: by hand, variants against each other, the mean image, collapse, images."""

import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.predictive.autoencoder import Autoencoder
from rlssl.auxiliary.reconstruction import Reconstruction
from rlssl.errors import SpecError
from rlssl.networks import build_encoder
from rlssl.peers import ALONE
from tests.auxiliary.latents import SPACES, Half, Meeting, N, Scaled, make, take, transitions

DIM = 3
IMAGES = ["grid", "frames", "hwc"]


def autoencoder(*args: Any, **options: Any) -> Any:
    return make(Autoencoder, *args, **options)


class Gives(nn.Module):
    """A decoder that gives the same tensor for any latents."""

    def __init__(self, decoded: Tensor) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoded


def vectors(n: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {Columns.OBS: torch.randn(n, DIM, generator=generator)}


def trained(loss: Any, batch: dict[str, Tensor], steps: int = 300) -> dict[str, float]:
    """Losses and metrics after training the loss's networks on one batch."""
    adam = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        total = sum(value.mean() for value in loss.losses(batch).values())
        torch.as_tensor(total).backward()
        adam.step()
        loss.after_update()
    with torch.no_grad():
        losses = {key: value.mean() for key, value in loss.losses(batch).items()}
        loss.after_update()
        return {key: float(value) for key, value in {**losses, **loss.metrics(batch)}.items()}


def test_losses_by_hand() -> None:
    # Standardized, the elements are (-1, 1), (-1, 1) and, constant, (0, 0). The decoder gives 0:
    # (1 + 1 + 0) / 3. Penalties: 0.1 * 0.5 * (0 + 1 + 0) and 0.1 * 0.5 * (16 + 25 + 0).
    loss = autoencoder(encoder=Scaled(), latent_penalty=0.1)
    loss.reconstruction.decoder = Gives(torch.zeros(3))
    batch = {Columns.OBS: torch.tensor([[0.0, 1.0, 0.0], [4.0, 5.0, 0.0]])}
    found = loss.losses(batch)
    assert list(found) == ["reconstruction", "penalty"]
    torch.testing.assert_close(found["reconstruction"], torch.full((2,), 2 / 3))
    torch.testing.assert_close(found["penalty"], torch.tensor([0.05, 2.05]))


def test_default_penalty_is_the_published_one_and_0_leaves_it_out() -> None:
    # 1e-6 * 0.5 * (9 + 16).
    batch = {Columns.OBS: torch.tensor([[3.0, 4.0, 0.0]])}
    found = autoencoder(encoder=Scaled()).losses(batch)
    torch.testing.assert_close(found["penalty"], torch.tensor([1.25e-5]))
    assert "penalty" not in autoencoder(encoder=Scaled(), latent_penalty=0.0).losses(batch)
    assert set(autoencoder(encoder=Scaled(), variant="vae").losses(batch)) == {
        "reconstruction",
        "kl",
    }


@pytest.mark.parametrize("observations", ["vector", *IMAGES])
def test_vae_without_noise_and_beta_equals_the_deterministic_variant(observations: str) -> None:
    space = SPACES[observations]
    plain = autoencoder(space, latent_penalty=0.0)
    vae = autoencoder(space, variant="vae", beta=0.0, encoder=plain.encoder)
    vae.reconstruction.load_state_dict(plain.reconstruction.state_dict())
    nn.init.eye_(vae.posterior.mean.weight)
    nn.init.zeros_(vae.posterior.mean.bias)
    nn.init.zeros_(vae.posterior.log_variance.weight)
    nn.init.constant_(vae.posterior.log_variance.bias, -80.0)  # a std of exp(-40)
    vae.update_rng.load_state_dict(plain.update_rng.state_dict())
    batch = transitions(space)
    expected, found = plain.losses(batch), vae.losses(batch)
    assert found["kl"].eq(0.0).all()
    if observations == "frames" or observations == "hwc":
        # The noise is drawn before the dither, which therefore differs: by 1/32 at most.
        difference = (found["reconstruction"] - expected["reconstruction"]).abs()
        assert difference.max() < 2 * expected["reconstruction"].max().sqrt() / 32
    else:
        torch.testing.assert_close(found["reconstruction"], expected["reconstruction"])


def test_kl_by_hand() -> None:
    # Mean 1, variance 1 in each of 3 features: 3 * 1/2 nats, times beta.
    vae = autoencoder(encoder=Scaled(), variant="vae", beta=2.0)
    for layer, bias in ((vae.posterior.mean, 1.0), (vae.posterior.log_variance, 0.0)):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    batch = transitions()
    torch.testing.assert_close(vae.losses(batch)["kl"], torch.full((N,), 3.0))
    found = vae.metrics(batch)
    assert found["kl_per_feature"] == 0.5 and found["used_features"] == 1.0


@pytest.mark.parametrize("observations", ["vector", *IMAGES])
def test_predicting_the_mean_costs_the_variance_of_the_observations(observations: str) -> None:
    space = SPACES[observations]
    reconstruction = Reconstruction(space, build_encoder(space))
    seen = transitions(space)[Columns.OBS]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    # The decoder of zeros gives mean(target^2), so the mean target is found one element at a time.
    latents = torch.zeros(N, 8)
    reconstruction.decoder = Gives(torch.zeros(()))
    reconstruction(latents, seen, generator(), ALONE)
    target = reconstruction._target(seen, generator(), ALONE)
    reconstruction.decoder = Gives(target.mean(dim=0))
    error = reconstruction(latents, seen, generator(), ALONE).mean()
    torch.testing.assert_close(reconstruction.error_of_mean(seen, generator()), error)
    slow = np.mean([np.var(column) for column in target.flatten(1).T.numpy()])
    assert float(error) == pytest.approx(float(slow), rel=1e-4)


def test_latents_beat_the_mean_and_constant_latents_do_not() -> None:
    batch = vectors()
    found = trained(autoencoder(encoder=Scaled(), hidden=32), batch)
    assert found["reconstruction"] < 0.05 * found["error_of_mean"]
    constant = Scaled()
    nn.init.zeros_(constant.scale)
    found = trained(autoencoder(encoder=constant, hidden=32), batch)
    assert found["reconstruction"] == pytest.approx(found["error_of_mean"], rel=0.01)


def test_posterior_collapses_under_a_large_beta_only() -> None:
    batch = vectors()
    small = trained(autoencoder(encoder=Scaled(), variant="vae", beta=1e-4, hidden=32), batch)
    assert small["used_features"] == 1.0 and small["kl_per_feature"] > 1.0
    assert small["reconstruction"] < 0.5 * small["error_of_mean"]
    large = trained(autoencoder(encoder=Scaled(), variant="vae", beta=10.0, hidden=32), batch)
    assert large["used_features"] == 0.0
    assert large["reconstruction"] == pytest.approx(large["error_of_mean"], rel=0.05)


def test_policy_reads_a_latent_without_noise() -> None:
    # The encoder's latents do not depend on the update's draws; the decoded ones do.
    loss, batch = autoencoder(variant="vae"), transitions()
    latents, errors = [], []
    for _ in range(2):
        latents.append(loss.latents(batch))
        errors.append(loss.losses(batch)["reconstruction"])
        loss.update_rng.after_update()
    assert latents[0].equal(latents[1]) and not errors[0].equal(errors[1])


def test_shuffled_observations_are_those_of_other_rows() -> None:
    batch = vectors()
    loss = autoencoder(encoder=Scaled(), hidden=32, shuffled_positives=True)
    rows = loss.of_other_rows(batch[Columns.OBS], loss.update_rng.generator())
    assert not rows.equal(batch[Columns.OBS])
    assert rows.sort(dim=0).values.equal(batch[Columns.OBS].sort(dim=0).values)
    found = trained(loss, batch)
    assert found["reconstruction"] > 0.8 * found["error_of_mean"]


@pytest.mark.parametrize("variant", ["deterministic", "vae"])
@pytest.mark.parametrize("observations", SPACES)
def test_encoder_learns_from_vectors_and_from_images_of_both_layouts(
    observations: str, variant: str
) -> None:
    loss = autoencoder(SPACES[observations], variant=variant)
    found = loss.losses(transitions(SPACES[observations]))
    encoder = [p for p in loss.encoder.parameters() if p.requires_grad]
    for value in found.values():
        assert value.shape == (N,) and value.isfinite().all()
        gradients = torch.autograd.grad(value.sum(), encoder, allow_unused=True, retain_graph=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients)


@pytest.mark.parametrize("observations", ["vector", "frames"])
@pytest.mark.parametrize("options", [{}, {"variant": "vae"}, {"shuffled_positives": True}])
def test_two_learners_have_the_losses_of_one(observations: str, options: dict[str, Any]) -> None:
    space = SPACES[observations]
    loss, batch = autoencoder(space, **options), transitions(space)
    expected = loss.losses(batch)
    meeting = Meeting()
    # Built here, because threads would share torch's global generator.
    learners = [autoencoder(space, **options) for _ in range(2)]
    found: dict[int, dict[str, Tensor]] = {}

    def learn(rank: int) -> None:
        half = learners[rank]
        half.peers = Half(rank, N, meeting)
        rows = slice(rank * N // 2, (rank + 1) * N // 2)
        found[rank] = half.losses(take(batch, rows))

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, value in expected.items():
        torch.testing.assert_close(torch.cat([found[0][key], found[1][key]]), value)


@pytest.mark.parametrize("variant", ["deterministic", "vae"])
def test_no_rows_give_no_losses_no_metrics_and_no_error(variant: str) -> None:
    loss = autoencoder(variant=variant)
    empty = take(transitions(), slice(0))
    assert all(value.shape == (0,) for value in loss.losses(empty).values())
    loss.after_update()
    assert loss.metrics(empty) == {}


def test_other_spaces_are_refused() -> None:
    space = gym.spaces.Dict({"a": SPACES["vector"]})
    with pytest.raises(SpecError, match="a decoder gives vectors and images; got Dict"):
        autoencoder(space)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"variant": "beta"}, "variant must be one of ['deterministic', 'vae']; got 'beta'"),
        ({"latent_penalty": -1.0}, "latent_penalty must be >= 0; got -1.0"),
        ({"beta": -1.0}, "beta must be >= 0; got -1.0"),
        ({"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
        ({"isolated": "yes"}, "isolated must be true or false; got 'yes'"),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Autoencoder.Config(**options)
    assert message in str(error.value)
