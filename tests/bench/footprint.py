# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemons cost: the agent in a real guest, and the relay with many VMs, idle and during an upgrade of all.

Everything is real but the agents of the relay's VMs, which answer on the sockets in QEMU's place. Four spans are watched
in which nothing happens: without a relay, so that the agents' ports have nobody at the host's end, with it, after the
upgrade, and when the relay was there and has gone. Beside our agent run QEMU's own and a Python that does nothing. An
installer is a process of its own and not counted.

The guest is emulated, so its processor seconds are many times those of a machine with KVM.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from integration.compute_host import ComputeHost, own_host

from lab import paths, plays, settings
from lab.progress import Progress
from lab.waiting import wait_until

from . import qemu_ga, report, vms
from .guest import AGENT_SOCKET, NAME, BenchGuest
from .watch import Usage, Watch, settle

HOST = "benchfoot"
AGENT, QEMU_AGENT, PYTHON, RELAY = "guest agent", "qemu-ga", "python3 -c pass", "relay"
TARGET = "2.0.0"
_NOTHING = "python3 -c 'import time; time.sleep(1e6)'"
"""`python3 -c pass`, kept from ending; `time` is part of every interpreter."""
_STARTS = 7
_SESSION_SECONDS = 120.0
_ANEW_SECONDS = 180.0
_CONFIG = "/etc/isolift/relay.json"


@dataclass(frozen=True)
class Row:
    """A process in one situation."""

    process: str
    situation: str
    usage: Usage


class Bench:
    """The host with broker and relay, its guest, and what was found."""

    def __init__(self, host: ComputeHost, progress: Progress, count: int, seconds: int) -> None:
        self.host = host
        self.progress = progress
        self.count = count
        self.seconds = seconds
        self.guest = BenchGuest(host)
        self.in_guest: dict[str, int] = {}
        self.rows: list[Row] = []
        self.variables = settings.variables() | {
            "isolift_broker_host": host.address,
            "compute_relay_broker_host": host.address,
            "upgrade_conditions": [],
            "target_version": TARGET,
            "upgrade_iso": str(report.RESULTS / f"guest-tools-{TARGET}.iso"),
        }

    def prepare(self) -> None:
        """Deploy broker and relay, stop the relay, and start all VMs."""
        self._play("site")
        self.host.run("systemctl stop isolift-relay.service")
        self.progress.say("broker and relay: deployed; starting the VMs")
        vms.start(self.host, self.count)
        self.guest.start(self.progress)
        agent = int(self.guest.shell("pidof python3"))
        self.in_guest = {
            AGENT: agent,
            QEMU_AGENT: self.guest.spawn(qemu_ga.COMMAND),
            PYTHON: self.guest.spawn(_NOTHING),
        }
        self.progress.say(f"VMs: {self.count} without a guest, 1 with one")

    def watch_absent(self) -> None:
        """The agents while nobody is at the host's end of their ports."""
        self._watch_idle("host absent", self.in_guest, {})

    def watch_present(self) -> None:
        """The agents while somebody is there, and the relay with all its VMs."""
        client = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{AGENT_SOCKET}')\nwhile s.recv(4096): pass"
        self.host.run(f'systemd-run --quiet --unit=bench-client python3 -c "{client}"')
        self.host.run(f"systemd-run --quiet --unit=bench-nothing {_NOTHING}")
        self.host.run("systemctl start isolift-relay.service")
        vms.wait_for_sessions(self.host, self.count)
        wait_until(
            lambda: self.guest.said("session open") > 0, what="the guest's session", timeout=_SESSION_SECONDS
        )
        self.progress.say(f"sessions: {self.count + 1}")
        on_host = {RELAY: self._pid("isolift-relay"), PYTHON: self._pid("bench-nothing")}
        self._watch_idle("host present", self.in_guest, on_host)

    def watch_busy(self) -> None:
        """Our agent and the relay during an upgrade of all VMs, each of which must succeed."""
        report.RESULTS.mkdir(parents=True, exist_ok=True)
        iso = {"component_version": TARGET, "component_iso": self.variables["upgrade_iso"]}
        self._run(paths.SOURCES / "component.yml", self.variables | iso)
        guest = Watch(self.guest.snapshot, {AGENT: self.in_guest[AGENT]})
        host = Watch(self._snapshot, {RELAY: self._pid("isolift-relay")})
        self._play("upgrade")
        self._add(f"{self.count + 1} upgrades", host.end())
        self._add("1 upgrade", guest.end())

    def watch_after(self) -> None:
        """Our agent and the relay once nothing is left to do, and then our agent alone, whose host has gone."""
        agent = {AGENT: self.in_guest[AGENT]}
        self.progress.say("the agent begins anew about a minute after its work")
        wait_until(lambda: self.guest.said("begins anew") > 0, what="that", timeout=_ANEW_SECONDS)
        self._watch_idle("host present, upgraded", agent, {RELAY: self._pid("isolift-relay")})
        self.host.run("systemctl stop isolift-relay.service")
        self._watch_idle("host gone, upgraded", agent, {})

    def starts(self) -> dict[str, list[float]]:
        """Seconds that each takes to start on the host, several times."""
        agent = paths.on_node(paths.SHARED / NAME / "agent.pyz")
        names = ("port", "state_dir", "keys_dir", "mount_point", "work_dir", "control_socket")
        config = json.dumps({name: f"/run/bench-agent/{name}" for name in names})
        self.host.run("mkdir /run/bench-agent && cat > /run/bench-agent/config.json", stdin=config)
        commands = {
            AGENT: f"python3 {agent} run --config /run/bench-agent/config.json",
            RELAY: f"python3 {vms.RELAY} --config {_CONFIG}",
            PYTHON: "python3 -c pass",
            QEMU_AGENT: qemu_ga.listening(self._qemu_agent),
        }
        words = shlex.join(commands.values())
        program = Path(__file__).with_name("start_time.py").read_text()
        found = json.loads(self.host.run(f"python3 - {_STARTS} {words}", stdin=program, timeout=300))
        return dict(zip(commands, found, strict=True))

    def sizes(self) -> dict[str, int]:
        """The sizes in bytes of what is shipped: a zipapp, or QEMU's program without the libraries that it needs."""
        files = {AGENT: paths.on_node(paths.SHARED / NAME / "agent.pyz"), RELAY: vms.RELAY}
        files[QEMU_AGENT] = self._qemu_agent
        return {name: int(self.host.run(f"stat --format=%s {file}")) for name, file in files.items()}

    @property
    def _qemu_agent(self) -> str:
        """QEMU's agent, as the host sees it."""
        return str(paths.on_node(qemu_ga.below(self.guest.layer)))

    def _play(self, name: str) -> None:
        """Run one of the collection's playbooks on the host, which is broker and compute node."""
        members: dict[str, Any] = {"hosts": {self.host.name: {}}}
        with tempfile.TemporaryDirectory() as directory:
            groups = Path(directory, "groups.json")
            groups.write_text(json.dumps({"broker": members, "compute_nodes": members}))
            self._run(paths.REPOSITORY / "playbooks" / f"{name}.yml", self.variables, "-i", str(groups))

    def _run(self, playbook: Path, variables: Mapping[str, Any], *options: str) -> None:
        done = plays.ansible(str(playbook), *options, inventory=self.host.inventory, variables=variables)
        plays.require(done, playbook.name)

    def _snapshot(self, pids: list[int]) -> str:
        program = Path(__file__).with_name("snapshot.py").read_text()
        return self.host.run(" ".join(["python3 -", *map(str, pids)]), stdin=program)

    def _pid(self, unit: str) -> int:
        return int(self.host.run(f"systemctl show --property MainPID --value {unit}.service"))

    def _watch_idle(self, situation: str, in_guest: Mapping[str, int], on_host: Mapping[str, int]) -> None:
        """Watch processes for a span in which nothing happens."""
        settle(self.guest.snapshot, {AGENT: in_guest[AGENT]})  # qemu-ga without a host never rests
        if RELAY in on_host:
            settle(self._snapshot, {RELAY: on_host[RELAY]})
        guest, host = Watch(self.guest.snapshot, in_guest), Watch(self._snapshot, on_host)
        time.sleep(self.seconds)
        found = host.end()
        self._add(situation, guest.end())
        if on_host:
            self._add(f"{self.count + 1} VMs, idle{situation.removeprefix('host present')}", found)

    def _add(self, situation: str, found: dict[str, Usage]) -> None:
        self.rows += [Row(process, situation, usage) for process, usage in found.items()]
        self.progress.say(f"watched: {', '.join(found)} ({situation})")


def run(progress: Progress, *, count: int, seconds: int) -> None:
    """Watch everything for some ``seconds``, ``count`` VMs without a guest among it, and print and write the result.

    :raise LabError: something does not start or does not answer, or a playbook fails.
    """
    with own_host(HOST) as host:
        progress.say(f"host {host.name}: up")
        bench = Bench(host, progress, count, seconds)
        try:
            bench.prepare()
            bench.watch_absent()
            bench.watch_present()
            bench.watch_busy()
            bench.watch_after()
            starts, sizes = bench.starts(), bench.sizes()
        finally:
            bench.guest.remove_files()
        packages = report.versions(host.run, *report.HYPERVISOR, *report.BROKER)
    _conclude(bench.rows, {"vms": count, "start_s": starts, "bytes": sizes}, packages)


def _conclude(rows: list[Row], details: Mapping[str, Any], packages: Mapping[str, str]) -> None:
    print(_usage_table(rows))
    print(_start_table(details["start_s"], details["bytes"]))
    agent, python = _idle(rows, AGENT), _idle(rows, PYTHON)
    relay = _idle(rows, RELAY)
    figures = {
        "agent_rss_ratio": max(usage.resident_mib for usage in agent)
        / max(usage.resident_mib for usage in python),
        "agent_wakeups_per_min": max(usage.wakeups_per_min for usage in agent),
        "agent_cpu_s_per_min": max(usage.cpu_s_per_min for usage in agent),
        "relay_rss_mib": max(usage.resident_mib for usage in relay),
        "relay_cpu_s_per_min": max(usage.cpu_s_per_min for usage in relay),
        "relay_wakeups_per_min": max(usage.wakeups_per_min for usage in relay),
    }
    relay_vms = f"with {details['vms'] + 1} VMs"
    bars = [
        report.Bar(f"agent's memory ÷ {PYTHON}", figures["agent_rss_ratio"], 2.2),
        report.Bar("agent's wake-ups in a minute", figures["agent_wakeups_per_min"], 2),
        report.Bar("agent's CPU s in a minute", figures["agent_cpu_s_per_min"], 0.05),
        report.Bar(f"relay's memory {relay_vms}, MiB", figures["relay_rss_mib"], 60),
        report.Bar("relay's CPU s in a minute", figures["relay_cpu_s_per_min"], 0.1),
    ]
    print("of all idle spans, the worst")
    report.conclude("footprint", figures, bars, {**details, "usage": [asdict(row) for row in rows]}, packages)


def _idle(rows: list[Row], process: str) -> list[Usage]:
    """What a process used in each span in which nothing happened; of Python, in the guest."""
    situation = "VMs, idle" if process == RELAY else "host "
    return [row.usage for row in rows if row.process == process and situation in row.situation]


def _start_table(starts: Mapping[str, list[float]], sizes: Mapping[str, int]) -> str:
    lines = [
        [name, f"{1000 * median(seconds):.0f}", f"{sizes[name] / 1024:.0f}" if name in sizes else ""]
        for name, seconds in starts.items()
    ]
    return report.table(["", "start ms", "size KiB"], lines)


def _usage_table(rows: list[Row]) -> str:
    heading = ["", "situation", "resident MiB", "peak MiB", "CPU s", "CPU s/min", "wake-ups/min"]
    lines = [
        [
            row.process,
            row.situation,
            f"{row.usage.resident_mib:.1f}",
            f"{row.usage.peak_mib:.1f}",
            f"{row.usage.cpu_s:.3f}",
            f"{row.usage.cpu_s_per_min:.3f}",
            f"{row.usage.wakeups_per_min:.1f}",
        ]
        for row in rows
    ]
    return report.table(heading, lines)
