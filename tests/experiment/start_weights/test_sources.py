"""``model.from``: which weights are found, what is refused before anything starts, the own copy."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlssl import trust
from rlssl.algorithms.common.transfer.parts import encoder_tensors
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec, save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.start_weights.files import read_own_weights, write_weights
from rlssl.experiment.start_weights.reading import WEIGHTS
from rlssl.experiment.start_weights.sources import find_sources, with_encoder_of
from rlssl.experiment.trial_check import check_sweep, check_trial, taken_by
from rlssl.run_files import MANIFEST, START_WEIGHTS_FILE

DOCUMENT = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 100}}


def run_of(root: Path, seeds: tuple[int, ...] = (0,), **more: Any) -> Path:
    """A run with a checkpoint of untrained networks for each seed, as training leaves one."""
    spec = load_spec({**DOCUMENT, "name": "pretrained", **more})
    run = root / "pretrained"
    for seed in seeds:
        checkpoint = run / f"default-seed{seed}-1" / "checkpoint_000000"
        torch.manual_seed(seed + 50)
        check_trial(spec).module.save_to_path((checkpoint / WEIGHTS).parent)
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        sums = {
            str(path.relative_to(checkpoint)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }
        (checkpoint / MANIFEST).write_text(json.dumps({"env_steps": 100, "files": sums}))
        save_spec(spec, checkpoint.parent / "spec.yaml")
        (checkpoint.parent / "trial.json").write_text(json.dumps({"seed": seed, "point": {}}))
    description = {"is_sweep": False, "python_path": [], "registered_by_script": []}
    (run / "run.json").write_text(json.dumps(description))
    trust.record(run)
    return run


def spec_from(run: Path, **more: Any) -> Spec:
    model = {"from": str(run), **more.pop("model", {})}
    return load_spec({**DOCUMENT, "algorithm": "rainbow", "model": model, **more})


def test_run_keeps_its_own_copy_of_the_weights(tmp_path: Path) -> None:
    run, own = run_of(tmp_path, auxiliary={"icm": {}}), tmp_path / "own"
    own.mkdir()
    spec = spec_from(run, model={"freeze": True, "encoder_config": {"hidden": [64, 64]}})
    sources = find_sources(spec)
    checked = check_sweep(spec, sources)
    write_weights(own, sources, taken_by(checked))
    (row,) = json.loads((own / START_WEIGHTS_FILE).read_text())
    assert row["taken"] == ["encoder"] and row["new"] == ["head"]
    assert {"pi", "vf", "auxiliary.icm"} <= set(row["left"])
    assert (row["algorithm"], row["load"], row["seed"]) == ("ppo", "encoder", None)
    shutil.rmtree(run)
    weights = read_own_weights(own, None, str(run), "encoder", 7)
    module = checked[0].module
    weights.take(module, "encoder")
    (source,) = sources.values()
    for name, tensor in encoder_tensors(module.encoder).items():
        assert np.array_equal(tensor.detach().numpy(), source.weights.encoder[name])
    with pytest.raises(SpecError, match=r"no weights of model.from 'other' for seed 7"):
        read_own_weights(own, None, "other", "encoder", 7)


def test_each_seed_begins_with_the_trial_of_the_same_seed(tmp_path: Path) -> None:
    run = run_of(tmp_path, seeds=(0, 1, 2))
    sources = find_sources(spec_from(run, seeds=[2, 0]))
    assert sorted(key.seed for key in sources if key.seed is not None) == [0, 2]
    folders = {key.seed: it.checkpoint.parent.name for key, it in sources.items()}
    assert folders == {0: "default-seed0-1", 2: "default-seed2-1"}
    with pytest.raises(SpecError, match="has 3 trials, and 0 of them have the seed 5"):
        find_sources(spec_from(run, seeds=[5]))
    one = find_sources(spec_from(run / "default-seed1-1", seeds=[5, 6]))
    assert [key.seed for key in one] == [None]


def test_sweep_over_runs_checks_every_point(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    search = {"model.from": {"grid": [None, str(run)]}, "model.freeze": {"grid": [True, False]}}
    document = {**DOCUMENT, "algorithm": "rainbow", "search": search}
    spec = load_spec(document)
    sources = find_sources(spec)
    assert [key.run for key in sources] == [str(run)]
    spec, words = with_encoder_of(spec, sources)
    assert "model.encoder: mlp" in words and "'hidden': [64, 64]" in words
    assert len(taken_by(check_sweep(spec, sources))) == 1


def test_encoder_of_the_other_run_is_taken_over_where_the_spec_leaves_it_out(
    tmp_path: Path,
) -> None:
    model = {"encoder_config": {"hidden": [8]}, "normalize_observations": True}
    sources = find_sources(spec := spec_from(run_of(tmp_path, model=model)))
    with pytest.raises(SpecError, match=r"model.encoder_config is .*'hidden': \[8\].* there"):
        check_sweep(spec, sources)
    adapted, _ = with_encoder_of(spec, sources)
    assert adapted.model.encoder_config == {"hidden": [8], "activation": "tanh"}
    assert (
        adapted.model.normalize_observations == {"min_std": 0.0, "clip": 10.0}
        and adapted.model.frame_stack == 1
    )
    assert adapted.model.from_ == spec.model.from_
    check_sweep(adapted, sources)


def test_refusal_names_both_runs_and_the_settings_to_give(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    spec = spec_from(run, model={"encoder_config": {"hidden": [16]}})
    with pytest.raises(SpecError) as raised:
        check_sweep(spec, find_sources(spec))
    words = str(raised.value)
    assert "does not fit 'rainbow-CartPole-v1' (rainbow on CartPole-v1, no auxiliary loss)" in words
    assert "belongs to 'pretrained' (ppo on CartPole-v1, no auxiliary loss)" in words
    assert (
        "--set 'model={encoder: mlp, encoder_config: {activation: tanh, hidden: [64, 64]}" in words
    )


def test_load_without_a_run_is_refused() -> None:
    with pytest.raises(SpecError, match=r"model.load: policy says what is taken of model.from"):
        load_spec({**DOCUMENT, "model": {"load": "policy"}})
    with pytest.raises(SpecError, match=r"model.load must be"):
        load_spec({**DOCUMENT, "model": {"from": "run", "load": "half"}})
