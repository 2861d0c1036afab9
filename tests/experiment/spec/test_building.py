"""From a spec to its saved file and to RLlib's config."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

import rlssl.registry
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config, run_seed
from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict, save_spec
from tests.experiment.spec.specs import BASE, FULL


def test_every_key_is_accepted_and_kept() -> None:
    spec = load_spec(FULL)
    assert spec.model_dump(exclude={"seed"})["scheduler"]["asha"]["reduction_factor"] == 4
    for key, value in FULL.items():
        if isinstance(value, dict) and key not in ("scheduler", "model", "training"):
            assert resolved_dict(spec)[key] == value, key


def test_saved_spec_holds_its_provenance_and_is_read_as_the_same_spec(tmp_path: Path) -> None:
    spec = load_spec(FULL)
    path = save_spec(spec, tmp_path / "spec.yaml", {"git_commit": "abc"})
    assert yaml.safe_load(path.read_text())["provenance"] == {"resolved": True, "git_commit": "abc"}
    assert load_spec(path) == spec


def test_neighboring_seeds_share_no_random_stream_of_an_environment() -> None:
    # EnvRunner and environment add at most a few thousand to a run's seed, evaluation a million.
    seeds = sorted(run_seed(seed) for seed in range(50))
    assert min(b - a for a, b in itertools.pairwise(seeds)) > 10_000
    assert seeds[0] >= 0 and seeds[-1] < 2**31


def test_every_value_of_a_spec_reaches_the_config() -> None:
    spec = at_point(load_spec(FULL), {"training.gamma": 0.9, "training.kl_target": 0.5}, 7)
    config = build_config(spec)
    assert (config.env, config.env_config) == ("CartPole-v1", {})
    assert (config.variant, config.gamma, config.kl_target, config.grad_clip) == (
        "both",
        0.9,
        0.5,
        None,
    )
    assert config.lr == [[0, 1e-3], [400_000, 0]]
    assert config.auxiliary_losses == FULL["auxiliary"]
    assert config.network["encoder_config"] == {"hidden": [64]}
    assert config.network["frame_stack"] == 2
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (2, 4)
    assert (config.rollout_fragment_length, config.vectorize) == ("auto", "sync")
    request = config.algo_class.default_resource_request(config)
    assert request.bundles[0]["CPU"] == config.num_cpus_for_main_process == 2
    assert config.seeded_evaluation == FULL["evaluation"]
    assert (config.watchdog_s, config.seed) == (300, run_seed(7))


def test_missing_keys_keep_the_algorithms_defaults() -> None:
    config, default = build_config(load_spec(BASE)), rlssl.registry.ALGORITHMS["ppo"]()
    default.environment("CartPole-v1")
    changed = {k for k, v in vars(config).items() if vars(default).get(k) != v}
    assert changed - {"_model"} == set()


def test_sweep_gives_no_config_before_a_point_is_chosen() -> None:
    with pytest.raises(SpecError, match=r"at_point must first choose values of \['training.gamma'"):
        build_config(load_spec(FULL))


#: An environment with actions that the algorithm supports.
ENV_OF = {
    "a3c": "CartPole-v1",
    "ddpg": "Pendulum-v1",
    "ppo": "CartPole-v1",
    "rainbow": "CartPole-v1",
    "sac": "Pendulum-v1",
    "iql": "Pendulum-v1",
}


@pytest.mark.parametrize(
    "algorithm, preset, variant",
    [
        (algorithm, preset, variant)
        for algorithm in sorted({*rlssl.registry.ALGORITHMS} - {*rlssl.registry.COUNTING_UPDATES})
        for preset in (None, *rlssl.registry.ALGORITHMS[algorithm].presets)
        for variant in (None, *rlssl.registry.ALGORITHMS[algorithm].variants)
        # SAC's variant `code` needs the separate optimizer steps of the preset `curl`.
        if (algorithm, variant) != ("sac", "code") or preset == "curl"
    ],
)
def test_every_preset_and_variant_reaches_the_config(
    algorithm: str, preset: str | None, variant: str | None
) -> None:
    document = {
        **{"algorithm": algorithm, "env": ENV_OF[algorithm], "stop": {"env_steps": 1000}},
        **{"preset": preset, "variant": variant},
    }
    spec = load_spec(document)
    assert load_spec(resolved_dict(spec)) == spec
    config_class = rlssl.registry.ALGORITHMS[algorithm]
    layers = [config_class.presets.get(preset, {}), config_class.variants.get(variant, {})]
    expected: dict[str, Any] = {}
    for layer in layers:
        expected |= layer.get("training", {})
    config = build_config(spec)
    assert config.algorithm_name == algorithm
    for key, value in expected.items():
        found = getattr(config, key)
        assert (value.items() <= found.items()) if key == "replay" else found == value, key
