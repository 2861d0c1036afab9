"""The script for the first day with a GPU: checks updates, then measures them; 8 minutes at most.

    python -m benchmarks.gpu [--seconds 2] [--skip-checks] [--out FILE.json]

Without a CUDA device it says so and ends with exit code 3.

1. The tests marked `gpu`: updates on the GPU and on the CPU agree, and none waits for the GPU. If
   one fails, nothing is measured.
2. Updates a second of SAC on vectors, CURL-SAC and Rainbow on pixels, and PPO on pixels, with
   batches of 128 to 1,024 rows. "resident": the batch is on the GPU already. "drawn ahead": batches
   come from a replay buffer through the prefetcher, as in a run. If both are equal, drawing and
   copying are hidden. "in turn": drawn and copied between updates, without the prefetcher. Busy:
   the mean that nvidia-smi reports, %.
3. With two devices, SAC's updates a second of two Learners (NCCL), each with half of the batch.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpu.measurements import rows

#: Exit code without a CUDA device; `rlssl` uses it for missing resources.
NO_GPU = 3
#: Seconds that the tests may take.
CHECKS_TIMEOUT_S = 200
TESTS = ("tests/gpu", "tests/test_augmentations.py", "tests/networks/layers/test_noisy.py")


def check() -> bool:
    """Runs the tests marked `gpu`; whether all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    try:
        return subprocess.run(command, check=False, timeout=CHECKS_TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"the tests took longer than {CHECKS_TIMEOUT_S} s")
        return False


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, checks, measures, prints and saves; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number")
    parser.add_argument("--skip-checks", action="store_true", help="measure at once")
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            f"No GPU: torch {torch.__version__} finds no CUDA device. Run this on a machine with "
            "one; `rlssl doctor` says what is missing.",
            file=sys.stderr,
        )
        return NO_GPU
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    if not options.skip_checks and not check():
        print("The updates are not right, so they are not measured.", file=sys.stderr)
        return 1
    found = []
    for row in rows(options.seconds):
        found.append(row)
        numbers = (f"{key} {value:.0f}" for key, value in row.items() if key != "name")
        print(f"{row['name']:<18} {', '.join(numbers)}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
