"""Saves a replay buffer: compressed pieces with checksums in a temporary folder, then a rename.

No file has a pickle: ``replay.json`` lists the content, ``head.npz`` and ``rows_*.npz`` the arrays.
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

#: File that lists all other files with their checksums; written last.
MANIFEST = "replay.json"
_HEAD = "head.npz"
_FORMAT = 1
#: Default number of bytes of rows per file, before compression.
PIECE_BYTES = 16 * 2**20
# zlib releases Python's lock (the GIL), so threads compress in parallel.
_THREADS = min(4, os.cpu_count() or 1)


def write(
    folder: Path,
    description: Mapping[str, Any],
    head: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    serials: tuple[int, int],
    *,
    piece_bytes: int = PIECE_BYTES,
) -> None:
    """Writes a buffer; the old content of ``folder`` is replaced at the end.

    Args:
        folder: The folder; it appears only when it is complete. Until then, files are written to
            ``.<name>.writing`` next to it.
        description: Plain JSON; `Saved` returns it.
        head: Small arrays.
        rows: Arrays [capacity, ...]; they are not copied as a whole.
        serials: First live row and the end; row s is at ``s % capacity``.
        piece_bytes: Bytes of rows per file, before compression.
    """
    temporary = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _write_arrays(temporary / _HEAD, head)
    capacity = len(next(iter(rows.values())))
    row_bytes = sum(array.nbytes // len(array) for array in rows.values())
    pieces = list(_pieces(*serials, capacity, max(1, piece_bytes // row_bytes)))

    def write_piece(piece: tuple[int, int]) -> None:
        start, stop = piece
        slots = slice(start % capacity, start % capacity + stop - start)
        _write_arrays(
            temporary / _piece_name(start), {name: array[slots] for name, array in rows.items()}
        )

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(write_piece, pieces))
        files = sorted(path.name for path in temporary.iterdir())
        checksums = list(threads.map(checksum, [temporary / name for name in files]))
    manifest = {
        "format": _FORMAT,
        "description": description,
        "row_names": list(rows),
        "pieces": pieces,
        "files": dict(zip(files, checksums, strict=True)),
    }
    (temporary / MANIFEST).write_text(json.dumps(manifest))
    flush(temporary / MANIFEST)
    flush(temporary)
    _replace(folder, temporary)


def check_description(ours: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises a ValueError unless a saved buffer is like ours.

    Args:
        ours: Properties of the buffer that will be restored.
        other: Those of the saved buffer.
    """
    for key in {**ours, **other}:
        if other.get(key) != ours.get(key):
            raise ValueError(
                f"the saved replay has {key} {other.get(key)}, this one has {ours.get(key)}; "
                "build this buffer with the capacity, spaces, frame_stack, alpha and identity "
                "of the saved one."
            )


class Saved:
    """A buffer that `write` saved in a folder."""

    def __init__(self, folder: Path) -> None:
        """Reads the manifest.

        Raises:
            FileNotFoundError: If the manifest is missing.
            ValueError: If the manifest is no JSON, or has another format.
        """
        replaced = _replaced(folder)
        # If a process was killed between the two renames of `_replace`, the old folder is complete.
        self._folder = replaced if not folder.exists() and replaced.exists() else folder
        try:
            manifest = json.loads((self._folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{folder} has no saved replay: {MANIFEST} is missing."
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
            ValueError: If a file is missing or changed; the message names the file.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(self._verify, self._files.items()))

    def head(self) -> dict[str, np.ndarray]:
        """Reads the small arrays."""
        with np.load(self._folder / _HEAD, allow_pickle=False) as arrays:
            return dict(arrays)

    def read_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        """Reads rows into arrays [capacity, ...], each row into its old slot."""
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
    """Cuts serials into ranges of at most ``size`` rows that do not wrap around."""
    while first < stop:
        end = min(first + size, stop, first - first % capacity + capacity)
        yield first, end
        first = end


def _piece_name(start: int) -> str:
    return f"rows_{start:012d}.npz"


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Like np.savez_compressed, but with zlib's level 1: several times faster, hardly larger.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    flush(path)


def _replace(folder: Path, temporary: Path) -> None:
    replaced = _replaced(folder)
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    temporary.rename(folder)
    flush(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


_WORD = 2**64


def generator_state(generator: np.random.Generator) -> np.ndarray:
    """[6], uint64, the state of a generator made by ``np.random.default_rng``."""
    state = generator.bit_generator.state
    numbers = state["state"]
    words = [part for name in ("state", "inc") for part in divmod(numbers[name], _WORD)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_state(generator: np.random.Generator, words: np.ndarray) -> None:
    """Sets the state of a generator to one that `generator_state` returned."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high * _WORD + low, "inc": inc_high * _WORD + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
