"""Checkpoints on a real S3 server: committed by their manifest, whole or named as damaged."""

import json
import threading
import time
from pathlib import Path

import pytest

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.lock import held, refuse_if_running, running
from rlssl.experiment.remote import checkpoints
from rlssl.experiment.remote.storage import CopiedStorage
from rlssl.experiment.remote.trial_uploads import TrialUploads
from rlssl.experiment.storage import claim_name
from rlssl.run_files import MANIFEST
from rlssl.system.files import checksum
from rlssl.system.stores.objects import Objects, require_rights
from rlssl.system.stores.places import Place, parse_place
from tests.experiment.remote.store_server import (
    BUCKET,
    CuttingProxy,
    StoreServer,
    server,
    set_keys,
    store_server,
)

__all__ = ["server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLSSL_CACHE", str(tmp_path / "cache"))
    set_keys(monkeypatch)


def write_checkpoint(trial: Path, number: int, env_steps: int, size: int = 1000) -> Path:
    folder = trial / f"checkpoint_{number:06d}"
    (folder / "policy").mkdir(parents=True)
    for name in ("weights.bin", "policy/policy.json"):
        (folder / name).write_bytes(f"{name} {env_steps} ".encode() * size)
    files = {name: checksum(folder / name) for name in ("weights.bin", "policy/policy.json")}
    manifest = {"env_steps": env_steps, "progress": {}, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def place_at(server: StoreServer, name: str, port: int | None = None) -> Place:
    place = parse_place(server.uri(name, port))
    assert place is not None
    return place


def test_a_checkpoint_comes_back_as_it_was(server: StoreServer, tmp_path: Path) -> None:
    trial = Objects(place_at(server, "whole/trial"))
    sent = write_checkpoint(tmp_path / "trial", 0, 100)
    checkpoints.send(trial, sent, set(), keep=2)
    checkpoints.fetch_newest(trial, tmp_path / "fetched")
    found = newest_valid(tmp_path / "fetched")
    assert found is not None
    assert found.env_steps == 100
    files = ("weights.bin", "policy/policy.json", MANIFEST)
    assert all((found.path / it).read_bytes() == (sent / it).read_bytes() for it in files)


def test_only_the_newest_checkpoints_stay(server: StoreServer, tmp_path: Path) -> None:
    trial = Objects(place_at(server, "pruned/trial"))
    for number in range(4):
        written = write_checkpoint(tmp_path / "trial", number, 100 * (number + 1))
        checkpoints.send(trial, written, set(), keep=2)
        time.sleep(1.1)  # the server's clock tells them apart
    assert [one.env_steps for one in checkpoints.committed(trial)] == [400, 300]
    assert {name.split("/")[2] for name in server.names("pruned")} == {
        "checkpoint_000002",
        "checkpoint_000003",
    }


def test_a_checkpoint_without_its_manifest_does_not_exist(
    server: StoreServer, tmp_path: Path
) -> None:
    trial = Objects(place_at(server, "half/trial"))
    checkpoints.send(trial, write_checkpoint(tmp_path / "trial", 0, 100), set(), keep=2)
    checkpoints.send(trial, write_checkpoint(tmp_path / "trial", 1, 200), set(), keep=2)
    server.delete(f"half/trial/checkpoint_000001/{MANIFEST}")
    checkpoints.fetch_newest(trial, tmp_path / "fetched")
    found = newest_valid(tmp_path / "fetched")
    assert found is not None
    assert found.env_steps == 100


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_object_is_named_and_an_older_checkpoint_fetched(
    server: StoreServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    trial = Objects(place_at(server, f"{damage}/trial"))
    for number in range(2):
        written = write_checkpoint(tmp_path / "trial", number, 100 * (number + 1))
        checkpoints.send(trial, written, set(), keep=2)
    name = f"{damage}/trial/checkpoint_000001/weights.bin"
    if damage == "missing":
        server.delete(name)
    else:
        server.write(name, b"other bytes")
    checkpoints.fetch_newest(trial, tmp_path / "fetched")
    found = newest_valid(tmp_path / "fetched")
    assert found is not None
    assert found.env_steps == 100
    words = "has no object weights.bin" if damage == "missing" else "weights.bin is truncated"
    printed = capsys.readouterr().err
    assert words in printed
    assert f"s3://{BUCKET}/{damage}/trial/checkpoint_000001" in printed


def test_a_trial_whose_checkpoints_are_all_damaged_does_not_begin_again(
    server: StoreServer, tmp_path: Path
) -> None:
    trial = Objects(place_at(server, "ruined/trial"))
    checkpoints.send(trial, write_checkpoint(tmp_path / "trial", 0, 100), set(), keep=2)
    server.delete("ruined/trial/checkpoint_000000/weights.bin")
    with pytest.raises(SpecError, match=r"no valid checkpoint left.*has no object weights.bin"):
        checkpoints.fetch_newest(trial, tmp_path / "fetched")


def test_a_frozen_server_delays_a_checkpoint_and_loses_none(
    server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 s without an answer: the trial waits a bounded time, and the checkpoint arrives later."""
    monkeypatch.setattr("rlssl.experiment.remote.trial_uploads.WAIT_S", 2.0)
    place = place_at(server, "frozen/trial")
    uploads = TrialUploads(place, tmp_path / "trial", keep=2)
    uploads.send(write_checkpoint(tmp_path / "trial", 0, 100), is_last=False)
    assert [one.env_steps for one in checkpoints.committed(Objects(place))] == [100]
    with server.frozen():
        newer = write_checkpoint(tmp_path / "trial", 1, 200)
        begin = time.monotonic()
        uploads.send(newer, is_last=False)
        assert time.monotonic() - begin < 5.0
        time.sleep(60)
        assert "checkpoint_000001 is not at" in uploads.error
        assert "does not answer" in uploads.error
    deadline = time.monotonic() + 60
    while uploads.error and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [one.env_steps for one in checkpoints.committed(Objects(place))] == [200, 100]
    checkpoints.fetch_newest(Objects(place), tmp_path / "fetched")
    uploads.close()


def test_connections_that_are_cut_in_an_upload_lose_nothing_committed(
    server: StoreServer, tmp_path: Path
) -> None:
    proxy = CuttingProxy(server.port)
    through = place_at(server, "cut/trial", proxy.port)
    trial = Objects(through)
    checkpoints.send(trial, write_checkpoint(tmp_path / "trial", 0, 100), set(), keep=2)
    proxy.limit = 50_000
    newer = write_checkpoint(tmp_path / "trial", 1, 200, size=200_000)  # 3 MB
    sent: set[str] = set()
    with pytest.raises(OSError, match=r"."):
        checkpoints.send(trial, newer, sent, keep=2)
    assert proxy.num_cut
    direct = Objects(place_at(server, "cut/trial"))
    assert [one.env_steps for one in checkpoints.committed(direct)] == [100]
    checkpoints.fetch_newest(direct, tmp_path / "fetched")
    proxy.limit = None
    checkpoints.send(trial, newer, sent, keep=2)
    checkpoints.fetch_newest(direct, tmp_path / "fetched")
    found = newest_valid(tmp_path / "fetched")
    assert found is not None
    assert found.env_steps == 200
    proxy.close()


def test_two_local_copies_do_not_run_the_same_run(
    server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_at(server, "locked")
    place.create_folder()
    storage = CopiedStorage(place)
    assert [claim_name(storage, "ppo") for _ in range(2)] == ["ppo", "ppo-2"]
    with held(place.folder / "ppo"):
        monkeypatch.setenv("RLSSL_CACHE", str(tmp_path / "other machine"))
        other = place.create_folder() / "ppo"
        assert running(other)
        with pytest.raises(ResourceError, match="ppo is running"):
            refuse_if_running(other)
        assert claim_name(CopiedStorage(place), "ppo") == "ppo-3"
    assert not running(other)


def test_of_processes_that_create_an_object_together_one_gets_it(
    server: StoreServer, tmp_path: Path
) -> None:
    from rlssl.experiment.remote.storage import ObjectStorage

    storage, won = ObjectStorage(place_at(server, "race")), []

    def create(number: int) -> None:
        if storage.create("lock.json", f"{number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("lock.json") == f"{won[0]}".encode()


def test_a_bucket_that_does_not_exist_is_refused(server: StoreServer) -> None:
    place = parse_place(server.uri("results").replace(BUCKET, "nobody"))
    assert place is not None
    with pytest.raises(ResourceError, match=r"storage 's3://nobody.*there is no bucket 'nobody'"):
        require_rights(place)


def test_a_server_that_is_not_there_is_refused() -> None:
    place = parse_place("s3://lab/results?endpoint_override=127.0.0.1:1&scheme=http")
    assert place is not None
    with pytest.raises(ResourceError, match="the server does not answer"):
        require_rights(place)


def test_a_bucket_without_rights_is_refused() -> None:
    # The server allows two requests, then it checks every key.
    with (
        store_server(INITIAL_NO_AUTH_ACTION_COUNT="2") as strict,
        pytest.raises(ResourceError, match=r"storage 's3://lab.*(access key|no rights)"),
    ):
        require_rights(place_at(strict, "results"))
