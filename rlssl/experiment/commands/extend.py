"""`rlssl sweep FILE --extend RUN`: runs the points and seeds that a run does not have yet."""

from pathlib import Path
from typing import Any

import click

from rlssl import trust
from rlssl.analysis.points import point_key, read_points
from rlssl.errors import ExitCode, SpecError
from rlssl.experiment.cluster.connect import start_ray
from rlssl.experiment.commands.confirm import confirm_if_asked
from rlssl.experiment.commands.summary import finish_sweep
from rlssl.experiment.lock import held, refuse_if_running
from rlssl.experiment.provenance import provenance
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.run_record import record_resumed, record_state
from rlssl.experiment.runs import describe
from rlssl.experiment.spec.loading import load_spec, save_spec
from rlssl.experiment.spec.schema import Spec, dump
from rlssl.experiment.spec.search_checks import check_new_seeds, has_population, objective_of
from rlssl.experiment.spec.search_space import adapts, draw_points, num_points, search_seed
from rlssl.experiment.start_weights.files import write_weights
from rlssl.experiment.start_weights.sources import find_sources
from rlssl.experiment.trial_check import check_sweep, largest_replay, taken_by
from rlssl.experiment.tuning.launch import fit, rebuilt_tuner
from rlssl.experiment.tuning.recovery import known_trials
from rlssl.experiment.tuning.searchers import Point, trial_key, write_points
from rlssl.experiment.tuning.trial_config import REPLAY_BYTES_KEY
from rlssl.run_files import SWEEP_SPEC_FILE

#: Sections of the file that the run takes over: what runs, and how safely.
TAKEN_OVER = (
    *("search", "searcher", "confirm", "tracking", "resources", "checkpoint", "max_failures"),
    *("plugins", "plugins_path", "report_every_s", "reuse_processes"),
    *("watchdog_s", "env_step_timeout_s", "max_env_crashes_per_1000_env_steps"),
)
#: Sections in which the file may differ from the run.
MAY_DIFFER = (*TAKEN_OVER, "name", "storage", "seeds", "seed", "objective")
#: Options of a study that may change while it goes on.
STUDY_MAY_CHANGE = ("num_samples", "max_concurrent", "storage")


def extend(
    spec: Spec,
    run: str,
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
) -> int:
    """Runs the points and seeds of ``spec`` that a run does not have, into the run.

    Afterwards, the run has the points and the seeds of both, and every point has every seed.

    Args:
        spec: From ``load_spec``.
        run: Name of a run, or any path that it has printed.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle a run of foreign origin; see `rlssl.trust`.

    Returns:
        The exit code: 1 if a trial failed.

    Raises:
        SpecError: If the trials could not be compared with those of the run.
        ResourceError: If the cluster cannot be used, or another process runs the run.
    """
    folder = sweep_folder(locate(run, spec.storage))
    if trusted:
        trust.accept(folder)
    describe(folder)
    refuse_if_running(folder)
    trust.require(folder, "its checkpoints are pickles")
    known = load_spec(folder / SWEEP_SPEC_FILE)
    if has_population(spec) or has_population(known):
        raise SpecError(
            f"--extend {run}: the members of a population start together; start a new sweep, or "
            "train further: rlssl resume RUN --stop env_steps=N."
        )
    check_same(known, spec, folder.name)
    merged = merged_spec(known, spec)
    points = merged_points(spec, folder)
    num_new = num_missing(merged, points, folder)
    if not num_new:
        click.echo(f"{folder.name} has every point and seed of {spec.name} already.")
        return confirm_if_asked(folder, merged, address=address, wait_for_nodes=wait_for_nodes)
    sources = find_sources(merged, trusted=trusted)
    checked = check_sweep(merged, sources, address=address)
    replay_bytes = largest_replay(checked)
    with held(folder):
        start_ray(merged, address, folder, replay_bytes=replay_bytes, wait_for_nodes=wait_for_nodes)
        click.echo(f"{folder.name}: {num_new} more trials of {merged.end_words}")
        if not adapts(merged):
            write_points(folder, points, search_seed=search_seed(merged))
        write_weights(folder, sources, taken_by(checked))
        save_spec(merged, folder / SWEEP_SPEC_FILE, provenance())
        record_resumed(folder, is_sweep=True, **{REPLAY_BYTES_KEY: replay_bytes})
        code = fit(rebuilt_tuner(merged, folder, True), folder)
        record_state(folder, code)
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = finish_sweep(folder)
    unconfirmed = confirm_if_asked(folder, merged, address=address, wait_for_nodes=wait_for_nodes)
    return code or unreadable or unconfirmed


def check_same(known: Spec, spec: Spec, name: str) -> None:
    """Refuses a spec whose trials could not be compared with those of a run.

    Args:
        known: The spec of the run.
        spec: The spec with further points or seeds.
        name: Name of the run.
    """
    if spec.search.keys() != known.search.keys():
        raise SpecError(
            f"--extend {name}: it searched {_listed(known.search)}; the file searches "
            f"{_listed(spec.search)}. Both must search the same paths."
        )
    one, other = dump(known), dump(spec)
    for key in dict.fromkeys([*one, *other]):
        if key not in MAY_DIFFER and one.get(key) != other.get(key):
            fix = "To train further: rlssl resume RUN --stop env_steps=N." if key == "stop" else ""
            raise SpecError(
                f"--extend {name}: {key} is {one.get(key)!r} there and {other.get(key)!r} in the "
                f"file; the points could not be compared. {fix}".rstrip()
            )
    if objective_of(known) != objective_of(spec):
        raise SpecError(
            f"--extend {name}: the objective is {objective_of(known).words} there and "
            f"{objective_of(spec).words} in the file; the points could not be compared."
        )
    if adapts(known) != adapts(spec) or (adapts(spec) and _study(known) != _study(spec)):
        raise SpecError(
            f"--extend {name}: a study goes on only with its own searcher and search; the run has "
            f"{dump(known).get('searcher') or 'no searcher'}. Change num_samples or seeds only."
        )


def _study(spec: Spec) -> Any:
    """What determines the suggestions of a study."""
    ((name, settings),) = dump(spec)["searcher"].items()
    fixed = {key: value for key, value in settings.items() if key not in STUDY_MAY_CHANGE}
    return name, fixed, dump(spec)["search"]


def merged_spec(known: Spec, spec: Spec) -> Spec:
    """The spec of the run, with the seeds of both, and with what it takes over from the file.

    Raises:
        SpecError: If the confirmation in the file has seeds that the run has seen.
    """
    seeds = list(dict.fromkeys([*known.seeds, *spec.seeds]))
    if spec.confirm is not None:
        check_new_seeds(spec.confirm.seeds, seeds, "confirm.seeds")
    changes = {key: getattr(spec, key) for key in TAKEN_OVER}
    return known.model_copy(update={**changes, "seeds": seeds, "seed": None})


def merged_points(spec: Spec, folder: Path) -> list[Point]:
    """The points of the run, then those of the spec that it does not have."""
    try:
        points: list[Point] = [point.values for point in read_points(folder)]
    except ValueError as error:
        raise SpecError(f"{error} Continue the run first: rlssl resume {folder}") from error
    if adapts(spec):
        return points
    seen = {point_key(point) for point in points}
    return [*points, *(point for point in draw_points(spec) if point_key(point) not in seen)]


def num_missing(spec: Spec, points: list[Point], folder: Path) -> int:
    """Number of trials that the run does not have, or that have not ended."""
    ended = {
        trial_key(trial.point, trial.seed) for trial in known_trials(folder) if trial.has_ended
    }
    keys = {trial_key(point, seed) for point in points for seed in spec.seeds}
    further = max(num_points(spec) - len(points), 0) if adapts(spec) else 0
    return len(keys - ended) + further * len(spec.seeds)


def _listed(keys: Any) -> str:
    return ", ".join(keys) or "nothing"
