"""URIs of storages, and the local copies of what is there."""

import os
from pathlib import Path

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.system.stores.places import Place, local_folder, parse_place, place_of_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLSSL_CACHE", str(tmp_path))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "uri",
    [
        "s3://lab",
        "s3://lab/results",
        "gs://lab/a/b",
        "s3://lab/a?endpoint_override=h:1&scheme=http",
    ],
)
def test_a_local_copy_knows_its_uri(uri: str) -> None:
    place = parse_place(uri)
    assert place is not None
    assert place.uri == uri
    assert place_of_folder(place.create_folder()) == place
    inside = place.folder / "ppo" / "trial"
    assert place_of_folder(inside) == place.child("ppo").child("trial")


def test_the_same_bucket_of_two_servers_has_two_local_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = [local_folder("s3://lab/results")]
    for endpoint in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        folders.append(local_folder("s3://lab/results"))
    assert len(set(folders)) == 3


def test_a_local_copy_of_another_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    folder = Place("s3", "lab/results").create_folder()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(SpecError, match=r"set AWS_ENDPOINT_URL to 'http://127.0.0.1:1'"):
        place_of_folder(folder)


def test_other_folders_are_no_local_copies(tmp_path: Path) -> None:
    assert place_of_folder(tmp_path / "results" / "ppo") is None


def test_file_uris_are_folders(tmp_path: Path) -> None:
    assert local_folder(f"file://{tmp_path}") == tmp_path
    assert parse_place(f"file://{tmp_path}") is None


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("s4://lab/results", "storage 's4://lab/results': unknown scheme 's4'. Give s3://"),
        ("http://lab/results", "unknown scheme 'http'"),
        ("s3://", "names no bucket"),
        ("s3:///results", "names no bucket"),
        ("s3://lab/../other", "names no bucket"),
        ("s3://lab/a?regions=eu", "unknown option 'regions'; did you mean 'region'"),
    ],
)
def test_a_wrong_uri_is_refused_before_anything_starts(storage: str, words: str) -> None:
    document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 10}}
    with pytest.raises(SpecError) as raised:
        load_spec({**document, "storage": storage})
    assert words in str(raised.value)


def test_a_key_in_a_uri_is_refused_and_not_shown() -> None:
    with pytest.raises(SpecError, match="AWS_ACCESS_KEY_ID") as raised:
        parse_place("s3://AKIAEXAMPLE:topsecret@lab/results")
    assert "topsecret" not in str(raised.value)


def test_the_cache_is_in_the_users_cache_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLSSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = local_folder("s3://lab/results")
    assert os.fspath(folder) == os.fspath(tmp_path / "user/rlssl/stores/s3/lab/results")


def test_a_population_needs_a_folder() -> None:
    document = {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "stop": {"env_steps": 1000},
        "search": {"training.lr": {"grid": [1.0e-3, 1.0e-4]}},
        "scheduler": {"pbt": {"every_env_steps": 100}},
        "storage": "s3://lab/results",
    }
    with pytest.raises(SpecError, match=r"scheduler.pbt read each other's checkpoints"):
        load_spec(document)
