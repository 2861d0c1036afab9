"""Hosts of one network on this machine, each with namespaces of its own, as root."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.clusters import wait_for

#: Namespaces of a host: network, mounts, processes and host name.
_NAMESPACES = ["--net", "--mount", "--pid", "--uts"]

#: Options with which the host ends when its first process does.
_WITH_INIT = ["--fork", "--kill-child", "--mount-proc"]

#: The first process of a host. A shell waits for orphans, as init does.
_INIT = "while :; do sleep 1; done"

#: Gives a host a /tmp of its own, in which only some folders of the machine's /tmp are visible.
_OWN_TMP = """
set -e
mount --make-rprivate /
mount -t tmpfs none /mnt && mkdir /mnt/tmp && mount --rbind /tmp /mnt/tmp
mount -t tmpfs none /tmp && chmod 1777 /tmp
for folder in $VISIBLE; do
  case $folder in /tmp/*) mkdir -p $folder && mount --bind /mnt$folder $folder ;; esac
done
mount --bind $HOSTS /etc/hosts && hostname $NAME
exec bash -c "$INIT"
"""


class Host:
    """A host: what runs there sees only its own processes, network and /tmp."""

    def __init__(self, name: str, hosts_file: Path, visible: Sequence[Path]) -> None:
        self.name = name
        self._unshare = subprocess.Popen(
            [
                "unshare",
                *_NAMESPACES,
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                _OWN_TMP,
            ],
            env={
                **os.environ,
                "NAME": name,
                "HOSTS": str(hosts_file),
                "INIT": _INIT,
                "VISIBLE": " ".join(map(str, visible)),
            },
        )
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        wait_for(lambda: children.read_text().split(), lambda: self._unshare.poll() is None)
        self.pid = int(children.read_text().split()[0])
        wait_for(
            lambda: self.output("hostname").strip() == name, lambda: self._unshare.poll() is None
        )

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a command on this host."""
        return ["nsenter", "--target", str(self.pid), *_NAMESPACES, "--", *arguments]

    def output(self, *arguments: str) -> str:
        """Runs a command there that must succeed; returns its output."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[Any]":
        """Starts a command there, in the folder /."""
        return subprocess.Popen(self.command(*arguments), **options)

    def processes(self) -> list[str]:
        """The command lines of the processes there."""
        return self.output("ps", "-eo", "args").splitlines()

    def end_all(self) -> None:
        """Kills every process there but the first."""
        self.output("bash", "-c", "kill -KILL -1")

    def lose(self) -> None:
        """Kills the host and everything on it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._unshare.wait()


@contextlib.contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them, which both see the folder and the imported code.

    Args:
        folder: An existing folder.
    """
    hosts_file = folder / "hosts"
    addresses = {"host1": "10.77.0.1", "host2": "10.77.0.2"}
    lines = [f"{address} {name}" for name, address in addresses.items()]
    hosts_file.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    imported = [Path(entry) for entry in sys.path if entry.startswith("/tmp/")]
    hosts: list[Host] = []
    try:
        hosts += [Host(name, hosts_file, [folder, *imported]) for name in addresses]
        one, other = (str(host.pid) for host in hosts)
        cable = ["ip", "link", "add", "eth0", "netns", one, "type", "veth"]
        subprocess.run([*cable, "peer", "name", "eth0", "netns", other], check=True)
        for host in hosts:
            host.output("ip", "address", "add", f"{addresses[host.name]}/24", "dev", "eth0")
            host.output("ip", "link", "set", "lo", "up")
            host.output("ip", "link", "set", "eth0", "up")
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.lose()


def can_make_hosts() -> bool:
    """Whether this user may create namespaces and cables between them."""
    command = ["unshare", *_NAMESPACES, "--fork", "ip", "link", "add", "cable", "type", "veth"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False
