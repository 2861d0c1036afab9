"""`rlssl data label`: the actions of a data set, predicted by an inverse model."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import click
import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from rlssl.auxiliary.imitation.demonstrations import check_spaces
from rlssl.auxiliary.imitation.labeling import Agreement, labeled
from rlssl.auxiliary.predictive.inverse_dynamics import InverseDynamics
from rlssl.data import DatasetWriter, EpisodeDataset
from rlssl.errors import DEFAULT_STORAGE, ExitCode, SpecError
from rlssl.experiment.collection.recording import PLAYED, SETTINGS
from rlssl.experiment.commands.data.writing import copying
from rlssl.experiment.run_folders import sweep_folder
from rlssl.experiment.runs import describe
from rlssl.experiment.start_weights.reading import WEIGHTS
from rlssl.experiment.start_weights.sources import find_checkpoint
from rlssl.old_names import renamed_state
from rlssl.run_files import RUN_FILE
from rlssl.system.json_output import write_json

#: The loss whose inverse model labels.
INVERSE = "inverse_dynamics"


def label(
    path: str,
    *,
    by: str,
    to: str,
    as_json: bool = False,
    trusted: bool = False,
    storage: str = DEFAULT_STORAGE,
) -> int:
    """Copies a data set, with the actions that a run's inverse model predicts.

    If the data set has actions, it also prints how well the labels agree with them.

    Args:
        path: The data set.
        by: A run with the loss ``inverse_dynamics``.
        to: Folder or URI of the new data set.
        as_json: Whether to print JSON.
        trusted: Allows to unpickle a run of foreign origin; see `rlssl.trust`.
        storage: The folder in which names of runs are looked up.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no such data set or run, the run has no such loss, or their spaces
            differ.
    """
    dataset = EpisodeDataset(path)
    checkpoint = find_checkpoint(by, storage, trusted=trusted)
    if (sweep_folder(checkpoint) / RUN_FILE).is_file():
        describe(sweep_folder(checkpoint))  # makes its plug-ins importable
    loss = trained_inverse_model(checkpoint, by)
    given = dataset.description
    check_spaces(given, path, loss.observation_space, loss.action_space, loss.frame_stack)
    # Without the notes with which `rlssl collect` would continue the recording.
    notes = {key: note for key, note in given.notes.items() if key not in (SETTINGS, PLAYED)}
    description = dataclasses.replace(
        given, action_space=loss.action_space, notes={**notes, "actions": f"labels of {by}"}
    )
    agreement, num_steps = Agreement(loss.action_space), 0
    with copying(to), DatasetWriter(to, description, keep_partial=False) as writer:
        for episode in dataset:
            copy = labeled(episode, loss, torch.device("cpu"))
            if episode.actions is not None:
                agreement.add(copy.actions, episode.actions)
            writer.add(copy)
            num_steps += len(copy)
    found = {"episodes": len(dataset), "steps": num_steps, **agreement.measure}
    if as_json:
        write_json(found)
    else:
        click.echo(f"{found['episodes']:,} episodes with {num_steps:,} labeled steps in {to}.")
        for name, value in agreement.measure.items():
            click.echo(f"{name.replace('_', ' ')} of the labels: {value:.3f}")
    return ExitCode.OK


def trained_inverse_model(checkpoint: Path, run: str) -> InverseDynamics:
    """The loss ``inverse_dynamics`` of a trusted checkpoint, with its encoder.

    Args:
        checkpoint: A valid checkpoint.
        run: The run, for messages.

    Raises:
        SpecError: If the run was trained without the loss.
    """
    weights = checkpoint / WEIGHTS
    with weights.open("rb") as file:
        state = renamed_state(pickle.load(file))
    with weights.with_name(RLModule.CLASS_AND_CTOR_ARGS_FILE_NAME).open("rb") as file:
        saved = pickle.load(file)
    _, given = saved["ctor_args_and_kwargs"]
    settings = given["model_config"]
    losses = settings.get("auxiliary") or {}
    if INVERSE not in losses:
        raise SpecError(
            f"{run} has no loss {INVERSE}, whose inverse model predicts actions; it has "
            f"{sorted(losses) or 'none'}. Train one with `--aux {INVERSE}`."
        )
    settings = {**settings, "auxiliary": {INVERSE: losses[INVERSE]}}
    with torch.random.fork_rng(devices=[]):
        module: Any = saved["class"](**{**given, "model_config": settings, "inference_only": False})
    wanted = module.get_state()
    module.set_state({name: value for name, value in state.items() if name in wanted})
    module.eval()
    loss: InverseDynamics = module.auxiliary[INVERSE]
    return loss
