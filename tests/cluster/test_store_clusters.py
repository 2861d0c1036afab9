"""Runs on clusters whose nodes share no folder, only a bucket of a real S3 server."""

import json
from pathlib import Path

import pytest

from rlssl.run_files import MANIFEST
from tests.cluster.clusters import PLUGIN, SLOW, Command, Nodes, can_unshare
from tests.experiment.command_line import only_trial, results
from tests.experiment.remote.store_server import BUCKET, StoreServer, server, set_keys

__all__ = ["server"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not can_unshare(), reason="needs root for a mount namespace"),
]

TRAIN = ["train", "ppo", "lab/Corridor", "--set", "plugins=[my_lab]", *SLOW, "--name", "run"]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StoreServer) -> Path:
    """A folder with a plug-in; the environment, which nodes inherit, has keys and a cache."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "my_lab.py").write_text(PLUGIN)
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("RLSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    set_keys(monkeypatch)
    return folder


def test_a_trial_goes_on_from_the_bucket_on_another_node(
    lab: Path, server: StoreServer, tmp_path: Path
) -> None:
    nodes, own_disk = Nodes(), f"mount -t tmpfs none {tmp_path}/cache"
    storage = f"s3://{BUCKET}/nodes"
    command = None

    def env_steps() -> list[int]:
        names = [name for name in server.names("nodes") if name.endswith(MANIFEST)]
        return [json.loads(server.read(name))["env_steps"] for name in names]

    try:
        with nodes.blind_node(1, own_disk) as first:
            stop = ["--stop", "env_steps=20000", "--storage", storage]
            command = Command(lab, *TRAIN, *stop, "--address", nodes.address)
            command.wait_until(lambda: len(env_steps()) >= 2)
            assert not list((tmp_path / "cache").rglob(MANIFEST))  # they are on the node's disk
        assert first not in nodes.alive()
        with nodes.blind_node(1, own_disk):
            printed = command.finish()
    finally:
        if command is not None:
            command.end()
        nodes.shutdown()
    assert "lost a process" in printed
    assert "continues from the beginning" not in printed
    (run,) = (tmp_path / "cache").glob("stores/*/lab/nodes/run")
    rows = results(only_trial(run))
    starts = sorted({row["env_steps_at_start"] for row in rows})
    assert starts[0] == 0
    assert starts[-1] >= 2000  # the trial continued, it did not begin again
    assert rows[-1]["env_steps"] >= 20_000
    assert max(env_steps()) == rows[-1]["env_steps"]
