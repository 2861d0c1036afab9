"""`rlssl init`: writes a commented spec, and a plug-in with an environment, a loss and tests."""

import itertools
import shlex
from pathlib import Path

from rlssl.errors import SpecError
from rlssl.system.json_output import readable_json

#: Where the templates are: package data.
_TEMPLATES = Path(__file__).parent / "templates"
#: Written file -> its template.
_FILES = {
    "README.md": "README.md",
    "sweep.yaml": "sweep.yaml",
    "pyproject.toml": "pyproject.toml",
    "my_plugin/__init__.py": "plugin.py",
    "my_plugin/environment.py": "environment.py",
    "my_plugin/loss.py": "loss.py",
    "tests/test_my_plugin.py": "test_my_plugin.py",
}
SCHEMA_FILE = "spec.schema.json"


def init(folder: Path) -> list[Path]:
    """Writes the files of a new experiment; overwrites nothing.

    Args:
        folder: The folder; it is made if it does not exist.

    Returns:
        The files that were written.

    Raises:
        SpecError: If one of the files exists; nothing was written.
    """
    targets = [folder / name for name in (*_FILES, SCHEMA_FILE)]
    if existing := [target for target in targets if target.exists()]:
        raise SpecError(
            f"rlssl init: {existing[0]} exists, and nothing is overwritten; give another folder: "
            f"rlssl init {shlex.quote(str(_free_beside(folder)))}."
        )
    for target, template in zip(targets, _FILES.values(), strict=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        target.write_text(text, encoding="utf-8")
    _write_schema(folder)
    return targets


def _free_beside(folder: Path) -> Path:
    """A folder that does not exist: my_experiment in an unnamed one, else its name and a number."""
    wanted = folder / "my_experiment" if folder == Path() else folder
    numbered = (wanted.with_name(f"{wanted.name}_{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([wanted], numbered) if not one.exists())


def _write_schema(folder: Path) -> None:
    """Writes the schema with the names of the plug-in."""
    from rlssl.experiment.json_schema import spec_schema
    from rlssl.plugins import add_to_import_path, load_plugins

    add_to_import_path([str(folder.resolve())])
    load_plugins(["my_plugin"])
    (folder / SCHEMA_FILE).write_text(schema_text(spec_schema()), encoding="utf-8")


def schema_text(schema: dict[str, object]) -> str:
    """A JSON schema as the text of a file."""
    return readable_json(schema, indent=1) + "\n"
