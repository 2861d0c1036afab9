"""`rlssl confirm`: runs the best points of a search again, with seeds that it did not see."""

from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from rlssl import trust
from rlssl.analysis.confirmation import Chosen, best_points, read_choice, write_choice
from rlssl.analysis.points import point_key
from rlssl.analysis.results import Trial, read_run
from rlssl.errors import DEFAULT_STORAGE, ExitCode, SpecError
from rlssl.experiment.commands.summary import finish_sweep
from rlssl.experiment.remote.fetch import fetch_beside
from rlssl.experiment.run_folders import locate, read_description, sweep_folder
from rlssl.experiment.runs import describe
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.schema import ObjectiveSpec, SearcherSpec, Spec
from rlssl.experiment.spec.search_checks import check_new_seeds, objective_of
from rlssl.experiment.tuning.launch import launch
from rlssl.run_files import CONFIRM_FILE, RUN_FILE, SWEEP_SPEC_FILE
from rlssl.system.stores.places import place_of_folder
from rlssl.system.yaml_files import read_yaml

#: The first seed of a confirmation, if the search has no such seed.
FIRST_SEED = 100


def confirm(
    run: str,
    *,
    top: int,
    num_seeds: int,
    storage: str = DEFAULT_STORAGE,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
) -> int:
    """Runs the best points of a search with new seeds; returns the exit code.

    Args:
        run: Name of a search, or any path that it has printed.
        top: Number of points, the best ones by the objective of the search.
        num_seeds: Number of new seeds.
        storage: The folder in which names are looked up.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to load the plug-ins of a run of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If the run has no search, or no point has finished.
        ResourceError: If the cluster cannot be used.
    """
    folder = sweep_folder(locate(run, storage))
    if trusted:
        trust.accept(folder)
    describe(folder)
    trust.require(folder, "its spec names plug-ins")
    spec = load_spec(folder / SWEEP_SPEC_FILE)
    first = max([FIRST_SEED, *(seed + 1 for seed in spec.seeds)])
    seeds = range(first, first + num_seeds)
    return confirm_run(folder, spec, top, seeds, address=address, wait_for_nodes=wait_for_nodes)


def confirm_run(
    folder: Path,
    spec: Spec,
    top: int,
    seeds: Sequence[int],
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
) -> int:
    """Runs the best points of the search in ``folder``; returns the exit code.

    Args:
        folder: The folder of the search.
        spec: The spec of the search.
        top: Number of points.
        seeds: New seeds.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
    """
    if not spec.search:
        raise SpecError(f"{folder} has no search, so there are no best points to confirm.")
    check_new_seeds(seeds, spec.seeds, "seeds")
    objective, place = objective_of(spec), place_of_folder(folder)
    chosen = best_points(_trials(folder), objective, top)
    if not chosen:
        raise SpecError(
            f"{folder} has no point whose seeds have all finished with a {objective.metric}; "
            f"continue it with: rlssl resume {folder}"
        )
    if len(chosen) < top:
        click.echo(f"Only {len(chosen)} of {top} points have finished with all seeds.", err=True)
    again = spec.model_copy(
        update={
            "name": f"{folder.name[:110]}-confirm",
            "seeds": list(seeds),
            "searcher": SearcherSpec(points=[dict(one.values) for one in chosen]),
            "scheduler": None,
            "objective": spec.objective
            or ObjectiveSpec.model_validate({"metric": objective.metric, "mode": objective.mode}),
            "confirm": None,
            "storage": str(folder.parent) if place is None else place.parent.uri,
        }
    )
    size = f"{len(chosen)} best points of {folder.name}, {len(seeds)} new seeds each"
    code, made = launch(
        again,
        address=address,
        is_sweep=True,
        wait_for_nodes=wait_for_nodes,
        announcement=f"{again.name}: {size}",
        prepare=lambda made: write_choice(made, folder, chosen),
    )
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = finish_sweep(made)
    return code or unreadable


def confirm_if_asked(
    folder: Path, spec: Spec, *, address: str | None, wait_for_nodes: bool = False
) -> int:
    """Confirms a search that has come to its end, if its file says so and it was not done yet.

    It is done again if other points are the best ones since, or if the trials train further.
    """
    if spec.confirm is None:
        return ExitCode.OK
    place = place_of_folder(folder)
    if place is not None:
        fetch_beside(place, CONFIRM_FILE, SWEEP_SPEC_FILE, RUN_FILE)
    top, seeds = spec.confirm.top, spec.confirm.seeds
    best = best_points(_trials(folder), objective_of(spec), top)
    for path in sorted(folder.parent.glob(f"*/{CONFIRM_FILE}")):
        if not confirms(path.parent, folder, best, spec):
            continue
        name, state = path.parent.name, read_description(path.parent).get("state")
        if state in ("finished", "failed"):
            click.echo(f"The best points were confirmed by the run {name}.")
        else:
            click.echo(
                f"The run {name} confirms the best points and has not finished. Unless another "
                f"process runs it, continue it with: rlssl resume {path.parent}"
            )
        return ExitCode.OK
    return confirm_run(folder, spec, top, seeds, address=address, wait_for_nodes=wait_for_nodes)


def confirms(confirmation: Path, run: Path, best: Sequence[Chosen], spec: Spec) -> bool:
    """Whether a confirmation has the best points of a run, with the seeds and the end of its spec.

    Args:
        confirmation: A folder with a ``confirm.json``.
        run: The folder of the search.
        best: The best points of the search.
        spec: The spec of the search.
    """
    assert spec.confirm is not None
    try:
        known = read_choice(confirmation)
        made = read_yaml((confirmation / SWEEP_SPEC_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False  # it ended before its trials began
    except (ValueError, yaml.YAMLError) as error:
        click.echo(f"{confirmation} is left out: {error}", err=True)
        return False
    if known is None or not isinstance(made, dict):
        return False
    # The local copy of a run on a store may be elsewhere on another machine.
    is_on_store = place_of_folder(run) is not None
    is_of_run = known[0] == run or (is_on_store and known[0].name == run.name)
    points = {point_key(one.values) for one in known[1]}
    return (
        is_of_run
        and {point_key(one.values) for one in best} <= points
        and set(spec.confirm.seeds) <= set(made.get("seeds") or ())
        and made.get("stop") == dict(spec.stop)
    )


def _trials(folder: Path) -> list[Trial]:
    try:
        return read_run(folder).trials
    except ValueError as error:
        raise SpecError(str(error)) from error
