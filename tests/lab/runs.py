# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a playbook that go on beside the test, and can be waited for, frozen and killed."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import Any

from . import paths, plays, processes
from .errors import LabError
from .waiting import wait_until

PATIENCE_S = 420.0
"""Seconds after which a run counts as hanging."""

_LOGS = paths.RUN / "runs"
# Without the callback, which reads the journal by itself: what is done to a run should be done to its coordinator.
_SETTINGS = f"[defaults]\ncollections_path = {paths.COLLECTIONS}\n[connection]\npipelining = True\n"
_CAMPAIGN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


_begun: list[Run] = []


def end_all() -> None:
    """Kill every run that was begun and goes on: whoever began it failed."""
    while _begun:
        run = _begun.pop()
        if not run.ended:
            run.kill()


class Run:
    """One run of a playbook. What it prints is in ``log``, a file named ``name``."""

    def __init__(self, name: str, playbook: str = "playbooks/upgrade.yml", **variables: Any) -> None:
        _LOGS.mkdir(parents=True, exist_ok=True)
        self.log = _LOGS / f"{name}.log"
        self.log.unlink(missing_ok=True)
        settings = _LOGS / "ansible.cfg"
        settings.write_text(_SETTINGS)
        environment = {"ANSIBLE_CONFIG": str(settings)}
        self._process = plays.begin(playbook, self.log, variables=variables, environment=environment)
        _begun.append(self)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def campaign_id(self) -> str:
        """The campaign that it speaks of first; waits until it does.

        :raise LabError: it does not, or ended before.
        """

        def named() -> bool:
            if self.ended and not _CAMPAIGN.search(self.output):
                raise LabError(f"the run ended before it named its campaign:\n{self._tail()}")
            return _CAMPAIGN.search(self.output) is not None

        wait_until(named, what=f"{self.log.name} to name its campaign", timeout=120.0, every=0.5)
        found = _CAMPAIGN.search(self.output)
        assert found is not None
        return found.group()

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        processes.stop_tree(self._process.pid)

    def thaw(self) -> None:
        """Let all of its processes go on."""
        processes.send_to_tree(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill ansible-playbook and everything below it."""
        processes.kill_tree(self._process.pid)
        self._process.wait()

    def finish(self, status: int = 0, within: float = PATIENCE_S) -> None:
        """Wait for its end.

        :raise LabError: it did not end in time, or with another exit status; the end of its output is in the text.
        """
        try:
            found = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.log} did not end within {within:.0f} s:\n{self._tail()}") from None
        if found != status:
            raise LabError(f"{self.log} ended with status {found}, not {status}:\n{self._tail()}")

    def _tail(self) -> str:
        return self.output[-4000:]
