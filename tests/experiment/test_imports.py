"""Which rooms of ``rlssl.experiment`` an import loads."""

import json
import subprocess
import sys

TUNING, CLUSTER = "rlssl.experiment.tuning", "rlssl.experiment.cluster"
COMMANDS = "rlssl.experiment.commands"

#: Imports from the lowest room to the highest -> modules that must not be loaded by then. One
#: process makes all of them, because importing RLlib takes seconds.
STEPS = {
    "import rlssl.experiment.spec.loading": (COMMANDS, TUNING, CLUSTER, "ray"),
    "import rlssl.experiment.checkpoints.checkpoint": (COMMANDS, TUNING, CLUSTER),
    # Neither the launcher nor the doctor nor the node survey.
    "import rlssl; rlssl.load_policy": (COMMANDS, TUNING, CLUSTER),
    f"import {CLUSTER}.connect": (COMMANDS, TUNING),
    f"import {TUNING}.launch": (COMMANDS,),
}


def test_lower_rooms_do_not_import_higher_rooms() -> None:
    lines = ["import json, sys"]
    for code, unwanted in STEPS.items():
        lines += [
            code,
            f"print(json.dumps([n for n in sys.modules if n.startswith({unwanted!r})]))",
        ]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True
    )
    loaded = dict(zip(STEPS, map(json.loads, result.stdout.splitlines()), strict=True))
    assert loaded == {code: [] for code in STEPS}
