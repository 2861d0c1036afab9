"""Data sets of Minari: import and export, without loss."""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium import spaces

from rlssl.data.description import Description
from rlssl.data.episode import Episode
from rlssl.data.reader import EpisodeDataset
from rlssl.data.writer import DatasetWriter
from rlssl.errors import MissingExtraError, ResourceError, SpecError

#: What a source of an import begins with, if it is the id of a data set in Minari's own folder.
MINARI_PREFIX = "minari:"

#: The key of Minari's metadata in which an export keeps what only rlssl has.
_METADATA_KEY = "rlssl"

#: The environment variable that names Minari's own folder.
_MINARI_ROOT = "MINARI_DATASETS_PATH"


def import_minari(source: str, path: str | Path) -> EpisodeDataset:
    """Copies a data set of Minari into one of rlssl.

    Rewards become float32, as everywhere in rlssl; all other values stay, bit for bit.

    Args:
        source: ``minari:ID`` for one in Minari's own folder, or the folder of one.
        path: Of the new data set.

    Returns:
        The new data set.

    Raises:
        MissingExtraError: If Minari is not installed.
        SpecError: If there is no such data set, or it cannot be copied.
        ResourceError: If its file is damaged.
    """
    found = _open(source)
    raw = found.storage.metadata
    kept = raw.get(_METADATA_KEY) or {}
    try:
        description = Description(
            found.observation_space,
            found.action_space,
            env=kept.get("env") or _env_of(found.env_spec),
            policy=kept.get("policy") or raw.get("algorithm_name"),
            seed=kept.get("seed"),
            notes={
                **(kept.get("notes") or {}),
                "source": source,
                "jpeg": bool(raw.get("jpeg_encoding", True)) and _has_images(found),
            },
        )
        with DatasetWriter(path, description, keep_partial=False) as writer:
            for each in _read(source, found):
                writer.add(_episode(each))
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(
            f"{source} cannot be imported: {str(error).rstrip('.')}. Nothing is left at {path}."
        ) from error
    return EpisodeDataset(path)


def export_minari(dataset: EpisodeDataset, dataset_id: str) -> Path:
    """Copies a data set into Minari's own folder; frames are not compressed to JPEG.

    It is written in a hidden folder, which Minari does not list, and is there when it is complete.

    Args:
        dataset: With actions.
        dataset_id: ``NAMESPACE/NAME-vVERSION``.

    Returns:
        The folder of the new data set.

    Raises:
        MissingExtraError: If Minari is not installed.
        SpecError: If Minari cannot store it, the id is wrong or taken.
        DamagedShardError: If a shard is damaged; then nothing is exported.
    """
    _require_minari()
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage.datasets_root_dir import get_dataset_path

    _check_exportable(dataset)
    _check_id(dataset_id)
    folder: Path = get_dataset_path(dataset_id)
    hidden = Path(tempfile.mkdtemp(prefix=".exporting-", dir=get_dataset_path()))
    try:
        with _datasets_in(hidden):
            _write(dataset, dataset_id)
        namespace = parse_dataset_id(dataset_id)[0]
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        (hidden / dataset_id).rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _datasets_in(root: Path) -> Iterator[None]:
    """Inside this context, Minari's own folder is another one."""
    before = os.environ.get(_MINARI_ROOT)
    os.environ[_MINARI_ROOT] = str(root)
    try:
        yield
    finally:
        del os.environ[_MINARI_ROOT]
        if before is not None:
            os.environ[_MINARI_ROOT] = before


def _write(dataset: EpisodeDataset, dataset_id: str) -> None:
    """Writes a data set into Minari's own folder."""
    import minari

    description = dataset.description
    saved, policy = description.to_json(), description.policy
    with warnings.catch_warnings():
        # Minari asks for an author, an email, an environment, one warning each.
        warnings.simplefilter("ignore", UserWarning)
        created = minari.create_dataset_from_buffers(
            dataset_id,
            [],
            observation_space=description.observation_space,
            action_space=description.action_space,
            algorithm_name=policy if isinstance(policy, str) else None,
            description=f"{len(dataset)} episodes, exported by rlssl",
            # Minari's default changes frames by up to 254 of 255, and fails for some shapes.
            jpeg_encoding=False,
        )
    keys = ("env", "policy", "seed", "versions", "notes")
    created.storage.update_metadata({_METADATA_KEY: {key: saved[key] for key in keys}})
    for shard in dataset.shards:
        created.storage.update_episodes(map(_buffer, dataset.read_shard(shard)))


def _require_minari() -> None:
    for name in ("minari", "h5py"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"{name} is not installed; pip install 'rlssl[minari]'.")


def _open(source: str) -> Any:
    """The data set of Minari."""
    _require_minari()
    import minari

    if source.startswith(MINARI_PREFIX):
        name = source.removeprefix(MINARI_PREFIX)
        try:
            return minari.load_dataset(name)
        except (FileNotFoundError, ValueError) as error:
            raise SpecError(
                f"{source} cannot be opened: {error}. `minari list local` lists what is here; "
                f"`minari download {name}` fetches it."
            ) from error
    folder = Path(source).expanduser()
    data = folder / "data" if (folder / "data").is_dir() else folder
    try:
        return minari.MinariDataset(data)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"{source} is no data set of Minari: {error}. Give minari:ID, or its folder, in which "
            "there is a folder 'data'."
        ) from error


def _env_of(env_spec: Any) -> dict[str, Any] | None:
    return None if env_spec is None else {"id": env_spec.id, **env_spec.kwargs}


def _has_images(dataset: Any) -> bool:
    from minari.dataset.minari_storage import is_image_space

    return any(map(is_image_space, _leaf_spaces(dataset.observation_space)))


def _leaf_spaces(space: gym.Space) -> Iterator[gym.Space]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            yield from _leaf_spaces(part)
    else:
        yield space


def _read(source: str, dataset: Any) -> Iterator[Any]:
    """The episodes of a data set of Minari.

    Raises:
        ResourceError: If its file is damaged.
    """
    episodes = dataset.iterate_episodes()
    while True:
        try:
            found = next(episodes, None)
        except (OSError, KeyError) as error:
            raise ResourceError(
                f"{source} is damaged: {error.args[-1]}. Fetch it again, or restore it from a copy."
            ) from error
        if found is None:
            return
        yield found


def _episode(found: Any) -> Episode:
    """An episode of Minari as one of rlssl.

    Raises:
        ValueError: If its parts do not fit each other; names the episode.
    """
    num_steps = len(found.rewards)
    for name in ("terminations", "truncations"):
        flags = np.asarray(getattr(found, name))
        if len(flags) != num_steps:
            raise ValueError(f"episode {found.id} has {num_steps} rewards and {len(flags)} {name}")
        early = np.flatnonzero(flags[:-1])
        if len(early):
            raise ValueError(
                f"episode {found.id} goes on after its {name[:-1]} at step {early[0]}; cut it there"
            )
    try:
        return Episode(
            found.observations,
            found.actions,
            found.rewards,
            terminated=bool(np.any(found.terminations)),
            truncated=bool(np.any(found.truncations)),
        )
    except ValueError as error:
        raise ValueError(f"episode {found.id}: {error}") from error


def _buffer(episode: Episode) -> Any:
    """An episode of rlssl as Minari writes it."""
    from minari.data_collector import EpisodeBuffer

    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    return EpisodeBuffer(
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=ends[0],
        truncations=ends[1],
    )


def _check_exportable(dataset: EpisodeDataset) -> None:
    description = dataset.description
    if description.action_space is None:
        raise SpecError(f"{dataset.path} has no actions, which Minari needs; label them first.")
    for space in (description.observation_space, description.action_space):
        struct = _keys(space)
        for path, _ in tree.flatten_with_path(struct):
            if wrong := [key for key in path if isinstance(key, str) and "/" in key]:
                raise SpecError(
                    f"{dataset.path}: the part {wrong[0]!r} of a space has a '/' in its name, "
                    "which Minari's files cannot hold; rename it in the environment."
                )


def _keys(space: gym.Space) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _keys(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_keys(part) for part in space.spaces)
    return 0


def _check_id(dataset_id: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.namespace import validate_namespace
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        namespace, _, _ = parse_dataset_id(dataset_id)
        if namespace is not None:
            validate_namespace(namespace)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"'{dataset_id}' is no id of Minari: write NAMESPACE/NAME-v0, with at least 2 "
            "characters in the namespace."
        ) from error
    if get_dataset_path(dataset_id).exists():
        raise SpecError(
            f"Minari already has a data set '{dataset_id}'; raise its version, or "
            f"`minari delete {dataset_id}`."
        )
