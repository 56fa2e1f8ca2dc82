"""A network of machines made of network namespaces: a switch, and ports that can be cut, blocked and restored.

Everything, including the switch, is in namespaces with a common name prefix, so that nothing of the machine itself is
touched and nothing is left once they are deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The prefix of all namespaces of all benches.
FAMILY = "rlmbench"
#: Where `ip netns exec` finds the files that replace those in /etc.
_ETC = Path("/etc/netns")


def why_not() -> str:
    """Return why no such network is possible here; empty if it is."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "nft", "unshare", "redis-server") if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed: apt-get install iproute2 nftables util-linux redis-server"
    trial = f"{FAMILY}{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", trial], capture_output=True, check=False)
    return f"no network namespace can be made here: {made.stderr.strip()}" if made.returncode else ""


def run(*command: str) -> str:
    """Run a command that must succeed, and return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


class Network:
    """A switch and the ports of `names`, the first with the address 10.213.N.1; `extra` addresses go to ports by name.

    N is derived from the process id, so that two benches can run side by side.
    """

    def __init__(self, names: Sequence[str], extra: Mapping[str, int] | None = None) -> None:
        self.prefix = f"{FAMILY}{os.getpid()}-"
        self.net = f"10.213.{os.getpid() % 250 + 1}"
        self.switch = f"{self.prefix}sw"
        self.ports: dict[str, Port] = {}
        delete_abandoned()
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for number, name in enumerate(names, start=1):
            more = (extra or {}).get(name, 0)
            addresses = [f"{self.net}.{number}", *(f"{self.net}.{100 + number + one}" for one in range(more))]
            self.ports[name] = Port(self.switch, f"{self.prefix}{name}", name, addresses)

    def name(self, host: str, address: str) -> None:
        """Let every port find `host` at `address`."""
        for port in self.ports.values():
            port.names[host] = address
            port.write_names()

    def close(self) -> None:
        """End every process in the namespaces, and delete them."""
        delete_all(self.prefix)


class Port:
    """A machine's place in the network: its namespace, its host name and its `addresses`."""

    def __init__(self, switch: str, namespace: str, name: str, addresses: Sequence[str]) -> None:
        self.namespace, self.name, self.addresses = namespace, name, list(addresses)
        self.names: dict[str, str] = {}
        self.switch, self.plug = switch, f"p-{name}"
        run("ip", "netns", "add", namespace)
        ends = ("name", self.plug, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "-n", switch, "link", "add", *ends)
        run("ip", "-n", switch, "link", "set", self.plug, "master", "br0", "up")
        for address in addresses:
            run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", namespace, "link", "set", device, "up")
        (_ETC / namespace).mkdir(parents=True, exist_ok=True)
        self.write_names()
        (_ETC / namespace / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    @property
    def address(self) -> str:
        return self.addresses[0]

    def write_names(self) -> None:
        """Write the names that this machine can resolve."""
        names = {**self.names, "localhost": "127.0.0.1", self.name: self.address}
        lines = [f"{address} {name}\n" for name, address in names.items()]
        with (_ETC / self.namespace / "hosts").open("w") as file:
            file.writelines(lines)

    # -- faults

    def cut(self) -> None:
        """Pull the cable."""
        run("ip", "-n", self.switch, "link", "set", self.plug, "down")

    def mend(self) -> None:
        """Plug it in again."""
        run("ip", "-n", self.switch, "link", "set", self.plug, "up")

    def drop(self, *addresses: str) -> None:
        """Drop packets to `addresses` silently."""
        self.filter("drop", addresses)

    def refuse(self, *addresses: str) -> None:
        """Refuse connections to `addresses` at once, as if nobody listened."""
        self.filter("meta l4proto tcp reject with tcp reset", addresses)

    def filter(self, verdict: str, addresses: Sequence[str]) -> None:
        condition = f"ip daddr {{ {', '.join(addresses)} }}"
        lines = (
            "table inet fault {",
            "chain out {",
            "type filter hook output priority 0",
            f"{condition} {verdict}",
            "}",
            "}",
        )
        run("ip", "netns", "exec", self.namespace, "nft", "\n".join(lines))

    def unblock(self) -> None:
        """Undo `drop` and `refuse`."""
        subprocess.run(
            ["ip", "netns", "exec", self.namespace, "nft", "delete", "table", "inet", "fault"],
            capture_output=True,
            check=False,
        )

    # -- processes

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs `command` on this machine, under its host name."""
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name)
        return ["ip", "netns", "exec", self.namespace, *named, *command]

    def pids(self) -> list[int]:
        """Return the processes on this machine."""
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def signal(self, signum: int) -> None:
        """Send a signal to every process on this machine."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def kill(self) -> None:
        """Kill every process on this machine."""

        def gone() -> bool:
            self.signal(signal.SIGKILL)
            return not self.pids()

        wait_until(gone, timeout=10, message=f"nothing runs on {self.name} any more")


def delete_abandoned() -> None:
    """Delete the namespaces of killed benches."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for pid in set(re.findall(rf"^{FAMILY}(\d+)-", listed, re.MULTILINE)):
        if int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists():
            delete_all(f"{FAMILY}{pid}-")


def delete_all(prefix: str) -> None:
    """Delete each namespace whose name begins with `prefix`, after its processes."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    names = re.findall(rf"^{re.escape(prefix)}\S*", listed, re.MULTILINE)
    for name in names:
        for _ in range(100):
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in found.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if not found.stdout.split():
                break
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(_ETC / name, ignore_errors=True)
