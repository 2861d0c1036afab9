"""A replay buffer on disk: compressed pieces with checksums, written aside and renamed.

No file holds a pickle: ``replay.json`` says what there is, ``head.npz`` and ``rows_*.npz`` hold
arrays.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rlssl.system.files import checksum, flush

#: Lists every other file with its checksum; written last.
MANIFEST = "replay.json"
_HEAD = "head.npz"
_FORMAT = 1
#: Bytes of rows in a file, before compression.
_PIECE_BYTES = 16 * 2**20
# zlib lets other threads run while it works.
_THREADS = min(4, os.cpu_count() or 1)


def write(
    folder: Path,
    description: Mapping[str, Any],
    head: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    serials: tuple[int, int],
) -> None:
    """Writes a buffer; what ``folder`` held before is replaced at last.

    Args:
        folder: Appears whole or not at all; beside it, ``.<name>.writing`` while writing.
        description: Plain JSON, given back by `Saved`.
        head: Small arrays.
        rows: Arrays [capacity, ...], read in place.
        serials: First live row and the end; row s lies at ``s % capacity``.
    """
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    _write_arrays(aside / _HEAD, head)
    capacity = len(next(iter(rows.values())))
    pieces = list(_pieces(*serials, capacity, _rows_in_a_piece(rows)))

    def write_piece(piece: tuple[int, int]) -> None:
        start, stop = piece
        slots = slice(start % capacity, start % capacity + stop - start)
        _write_arrays(
            aside / _piece_name(start), {name: array[slots] for name, array in rows.items()}
        )

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(write_piece, pieces))
        files = sorted(path.name for path in aside.iterdir())
        checksums = list(threads.map(checksum, [aside / name for name in files]))
    manifest = {
        "format": _FORMAT,
        "description": description,
        "row_names": list(rows),
        "pieces": pieces,
        "files": dict(zip(files, checksums, strict=True)),
    }
    (aside / MANIFEST).write_text(json.dumps(manifest))
    flush(aside / MANIFEST)
    flush(aside)
    _replace(folder, aside)


class Saved:
    """What `write` left in a folder."""

    def __init__(self, folder: Path) -> None:
        """Reads the manifest.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is of another format, or no JSON.
        """
        replaced = _replaced(folder)
        # Killed between the two renames of `_replace`: the one before is still complete.
        self._folder = replaced if not folder.exists() and replaced.exists() else folder
        try:
            manifest = json.loads((self._folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{folder} holds no saved replay: {MANIFEST} is missing."
            ) from None
        except ValueError as error:
            raise ValueError(f"{folder / MANIFEST} is truncated or changed.") from error
        if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
            raise ValueError(f"{folder / MANIFEST} is not of format {_FORMAT}.")
        self.description: dict[str, Any] = manifest["description"]
        self.row_names: list[str] = manifest["row_names"]
        self._pieces: list[tuple[int, int]] = manifest["pieces"]
        self._files: dict[str, str] = manifest["files"]

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            ValueError: Naming the file that is missing or changed.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(self._verify, self._files.items()))

    def head(self) -> dict[str, np.ndarray]:
        """The small arrays."""
        with np.load(self._folder / _HEAD, allow_pickle=False) as arrays:
            return dict(arrays)

    def read_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Fills arrays [capacity, ...], each row where it was."""
        capacity = len(next(iter(rows.values())))

        def read_piece(piece: tuple[int, int]) -> None:
            start, stop = piece
            slots = slice(start % capacity, start % capacity + stop - start)
            with np.load(self._folder / _piece_name(start), allow_pickle=False) as arrays:
                for name, array in rows.items():
                    array[slots] = arrays[name]

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(read_piece, self._pieces))

    def _verify(self, item: tuple[str, str]) -> None:
        path = self._folder / item[0]
        if not path.is_file():
            raise ValueError(f"the saved replay lacks {path}.")
        if checksum(path) != item[1]:
            raise ValueError(f"{path} is truncated or changed.")


def _pieces(first: int, stop: int, capacity: int, size: int) -> Iterator[tuple[int, int]]:
    """Cuts serials into runs of at most ``size`` rows that do not wrap around."""
    while first < stop:
        end = min(first + size, stop, first - first % capacity + capacity)
        yield first, end
        first = end


def _rows_in_a_piece(rows: Mapping[str, np.ndarray]) -> int:
    row_bytes = sum(array.nbytes // len(array) for array in rows.values())
    return max(1, _PIECE_BYTES // row_bytes)


def _piece_name(start: int) -> str:
    return f"rows_{start:012d}.npz"


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # As np.savez_compressed, but at zlib's level 1: several times faster, hardly larger.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    flush(path)


def _replace(folder: Path, aside: Path) -> None:
    replaced = _replaced(folder)
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    aside.rename(folder)
    flush(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


_WORD = 2**64


def generator_state(generator: np.random.Generator) -> np.ndarray:
    """The state of a generator made by ``np.random.default_rng``: [6], uint64."""
    state = generator.bit_generator.state
    numbers = state["state"]
    words = [part for name in ("state", "inc") for part in divmod(numbers[name], _WORD)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_state(generator: np.random.Generator, words: np.ndarray) -> None:
    """Lets a generator go on where the one of `generator_state` stood."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high * _WORD + low, "inc": inc_high * _WORD + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
