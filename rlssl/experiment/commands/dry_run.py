"""`rlssl sweep --dry-run`: checks a sweep as its start would, and prints what it would need."""

import click

from rlssl.experiment.plan import as_json, lines, plan
from rlssl.experiment.spec.listing import points_in_words
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.trial_check import check_sweep
from rlssl.experiment.tuning.search import check_study
from rlssl.system.json_output import write_json


def dry_run(
    spec: Spec, *, address: str | None = None, measure: bool = False, to_json: bool = False
) -> int:
    """Prints the trials, resources, memory, disk and time of a sweep; starts no trial of it.

    Args:
        spec: From ``load_spec``.
        address: Address of an existing cluster; None: this machine.
        measure: Whether to train the first trial for some seconds, to estimate the time.
        to_json: Whether to print JSON.

    Returns:
        The exit code.

    Raises:
        SpecError: If the sweep could not start.
        ResourceError: If a trial needs more than there is.
    """
    checked = check_sweep(spec, address=address)
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
    for line in (*points_in_words(spec), *lines(planned)):
        click.echo(line)
    return 0
