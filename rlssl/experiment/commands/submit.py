"""`rlssl submit`: the line of `ray job submit` that runs a command of rlssl on a cluster."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.experiment.spec.overrides import apply_overrides
from rlssl.experiment.spec.schema import CheckpointSpec
from rlssl.experiment.spec.yaml_reader import read_document
from rlssl.system.stores.places import is_uri

#: What no job needs of the current folder. Ray leaves out what .gitignore names, too.
LEFT_OUT = (".git", ".venv", "venv", "__pycache__", "wandb", "mlruns", "/results")

#: A job uses the cluster that it runs on.
_ON_ITS_CLUSTER = ("--address", "auto")

#: Seconds that a driver needs for its own end, after the trials have saved.
_ENDING_S = 40


def submit(
    words: Sequence[str], commands: Mapping[str, click.Command], *, address: str, run: bool
) -> int:
    """Prints the line, and runs it if asked; returns the exit code.

    Args:
        words: A command of rlssl and its arguments.
        commands: The commands of rlssl by their names.
        address: The address of the cluster's dashboard.
        run: Whether to run the line, too.

    Raises:
        SpecError: If the command cannot run as a job, or its options are wrong.
    """
    # Imported only now, because Ray takes seconds to import.
    from rlssl.ray_internals.cluster import use_token_if_there_is_one

    line = job_line(words, commands, address=address)
    use_token_if_there_is_one()
    mode = os.environ.get("RAY_AUTH_MODE")
    click.echo(f"RAY_AUTH_MODE={mode} {shlex.join(line)}" if mode else shlex.join(line))
    if not run:
        return 0
    ray = Path(sys.executable).with_name("ray")
    return subprocess.run([str(ray) if ray.exists() else "ray", *line[1:]]).returncode


def job_line(
    words: Sequence[str], commands: Mapping[str, click.Command], *, address: str
) -> list[str]:
    """The words of the line; see `submit`."""
    name, *arguments = words
    fitting = [one for one, known in commands.items() if _takes_cluster(known)]
    if name not in fitting:
        raise SpecError(f"rlssl submit is for {', '.join(fitting)}; got '{name}'.")
    if any(word.partition("=")[0] == "--address" for word in arguments):
        raise SpecError("leave out the --address of the job: it runs on the cluster of `submit`.")
    with commands[name].make_context(name, [*arguments, *_ON_ITS_CLUSTER]) as parsed:
        given = parsed.params
    document = _document(name, given)
    folder = Path.cwd()
    _require_shared_storage(given, document)
    _require_inside(folder, given, document)
    environment = {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_stop_wait_s(document))},
        "excludes": list(LEFT_OUT),
    }
    job = ["rlssl", name, *(_from_folder(word, folder) for word in arguments)]
    return [
        *("ray", "job", "submit", "--address", address, "--working-dir", str(folder)),
        *("--runtime-env-json", json.dumps(environment), "--", *job, *_ON_ITS_CLUSTER),
    ]


def _takes_cluster(command: click.Command) -> bool:
    is_itself = command.name == "submit"
    return not is_itself and any(option.name == "address" for option in command.params)


def _document(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the job's spec says, as far as the command line and the file say it."""
    document: dict[str, Any] = {"storage": given.get("storage") or DEFAULT_STORAGE}
    if name == "sweep":
        document |= read_document(given["source"])
    return apply_overrides(document, given.get("overrides", ()))


def _require_shared_storage(given: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    storage = str(given.get("run") or "")
    if not _is_shared(storage):
        storage = str(document["storage"])
    if not _is_shared(storage):
        raise SpecError(
            f"storage '{storage}' is in the temporary folder of the job, which the cluster "
            "deletes; give a folder that every node sees, as /shared/results, or a URI, as "
            "s3://bucket/results."
        )


def _is_shared(storage: str) -> bool:
    return is_uri(storage) or Path(storage).is_absolute()


def _require_inside(folder: Path, given: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Checks that the current folder, which is sent to the cluster, has all that the job reads."""
    source = Path(str(given.get("source", "")))
    files = {str(source): source} if source.is_file() else {}
    for entry in map(str, document.get("plugins_path") or []):
        files[entry] = source.parent / entry if files else Path(entry)
    for words, path in files.items():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SpecError(
                f"'{words}' is not in the current folder, which is sent to the cluster; run this "
                "command from a folder that contains it."
            )


def _from_folder(word: str, folder: Path) -> str:
    """An absolute path of a file in the folder, as the job sees it; other words as they are."""
    path = Path(word)
    if path.is_absolute() and path.is_file() and path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return word


def _stop_wait_s(document: Mapping[str, Any]) -> int:
    """Seconds that `ray job stop` waits after SIGTERM; by default, it would wait 3."""
    section = document.get("checkpoint")
    given = section.get("interrupt_s") if isinstance(section, Mapping) else None
    default = CheckpointSpec().interrupt_s
    return int(given if isinstance(given, int | float) else default) + _ENDING_S
