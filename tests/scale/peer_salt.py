# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrade by Salt: a master, and a minion in each emulated VM; one call does all of it."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.waiting import wait_until
from scale import preflight, tools
from scale.meter import Meter, tree
from scale.peer_ansible import Cost
from scale.targets import PEER, TARGET, Targets
from scale.tools import Unavailable

_PORTS = (45505, 45506)
_READY_S = 240.0
_CALL_S = 120.0
_MB_PER_MINION = 130
_COMMON = """\
user: root
publish_port: {publish}
log_level: error
log_level_logfile: error
root_dir: {directory}/root
pki_dir: {directory}/pki
"""
_MASTER = _COMMON + "interface: 127.0.0.1\nret_port: {answer}\nauto_accept: true\n"
_MINION = _COMMON + "master: 127.0.0.1\nmaster_port: {answer}\nid: {name}\nmultiprocessing: false\n"


class Salt:
    """A master with its minions, one for each of the VMs."""

    def __init__(
        self, programs: Path, config: Path, master: int, minions: list[int], targets: Targets
    ) -> None:
        self._programs = programs
        self._config = config
        self._master = master
        self._minions = minions
        self._targets = targets

    def upgrade(self, vms: int) -> Cost:
        """Upgrade the first ``vms`` VMs from the old version.

        :raise AssertionError: one was not upgraded.
        """
        names = list(self._targets.directories)[:vms]
        self._targets.set_back()
        master = Meter(tree(self._master))
        minions = Meter(pid for minion in self._minions for pid in tree(minion))
        began, before = time.monotonic(), _cpu_of_children()
        command = f"sh {PEER / 'upgrade.sh'} {self._targets.parent}/{{{{ grains.id }}}} {TARGET}"
        answers = self._call(names, "cmd.run", command, "template=jinja")
        wall_s, call_cpu_s = time.monotonic() - began, _cpu_of_children() - before
        assert answers.count(f"-> {TARGET}") == vms, answers
        return Cost(vms, wall_s, call_cpu_s + master.usage().cpu_s, minions.usage().cpu_s)

    def answers(self) -> bool:
        """Whether all minions do."""
        names = list(self._targets.directories)
        return self._call(names, "test.ping").count("True") == len(names)

    def _call(self, names: list[str], *words: str) -> str:
        command = [str(self._programs / "salt"), "-c", str(self._config), "-t", "60", "--out=txt"]
        done = subprocess.run(
            [*command, "-L", ",".join(names), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CALL_S,
            check=False,
        )
        return done.stdout


@contextmanager
def salt(vms: int) -> Iterator[Salt]:
    """A master and ``vms`` minions that answer.

    :raises Unavailable: it cannot be installed, or there is too little memory.
    :raise LabError: not all minions answer in time.
    """
    needed, available = vms * _MB_PER_MINION, preflight.available_mb()
    if available < needed:
        raise Unavailable(f"{vms} minions need {needed} MB of memory, {available} MB are available")
    programs = tools.programs("salt")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isolift-scale-")))
        targets = Targets(directory / "vm", vms)
        master = _start(stack, programs / "salt-master", directory / "master", "master", _MASTER, "")
        minions = [
            _start(stack, programs / "salt-minion", directory / name, "minion", _MINION, name)
            for name in targets.directories
        ]
        running = Salt(programs, directory / "master", master, minions, targets)
        wait_until(running.answers, what=f"{vms} Salt minions", timeout=_READY_S, every=2.0)
        yield running


def _start(stack: ExitStack, program: Path, directory: Path, kind: str, config: str, name: str) -> int:
    """Start a daemon; its process."""
    directory.mkdir()
    publish, answer = _PORTS
    (directory / kind).write_text(
        config.format(publish=publish, answer=answer, directory=directory, name=name)
    )
    process = subprocess.Popen(
        [program, "-c", directory, "-l", "error"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.callback(_stop, process)
    return process.pid


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, 9)
    process.wait(10)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
