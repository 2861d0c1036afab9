"""`rlssl sweep --dry-run`: checks a sweep as its start would, and prints what it would need."""

import click

from rlssl.experiment.plan import as_json, lines, plan
from rlssl.experiment.spec.listing import points_in_words
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.start_weights.files import lines as start_lines
from rlssl.experiment.start_weights.sources import find_sources, with_encoder_of
from rlssl.experiment.trial_check import check_sweep, taken_by
from rlssl.experiment.tuning.search import check_study
from rlssl.system.json_output import write_json


def dry_run(
    spec: Spec,
    *,
    address: str | None = None,
    measure: bool = False,
    to_json: bool = False,
    trusted: bool = False,
) -> int:
    """Prints the trials, resources, memory, disk and time of a sweep; starts no trial of it.

    Args:
        spec: From ``load_spec``.
        address: Address of an existing cluster; None: this machine.
        measure: Whether to train the first trial for some seconds, to estimate the time.
        to_json: Whether to print JSON.
        trusted: Allows to unpickle weights of a run of foreign origin; see `rlssl.trust`.

    Returns:
        The exit code.

    Raises:
        SpecError: If the sweep could not start.
        ResourceError: If a trial needs more than there is.
    """
    sources = find_sources(spec, trusted=trusted)
    spec, taken_over = with_encoder_of(spec, sources)
    checked = check_sweep(spec, sources, address=address)
    check_study(spec)
    measured = None
    if measure:
        from rlssl.experiment.measurement import measure as train_shortly

        measured = train_shortly(spec, address=address)
    planned = plan(spec, checked, address=address, measured=measured)
    if to_json:
        write_json(as_json(planned))
        return 0
    click.echo(f"{spec.name}: {spec.end_words} a trial")
    begins = start_lines(sources, taken_by(checked))
    for line in (*begins, *filter(None, [taken_over]), *points_in_words(spec), *lines(planned)):
        click.echo(line)
    return 0
