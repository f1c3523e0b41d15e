# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a playbook, as far as a campaign goes: conductors, each in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.conductor import Conductor
from lab.waiting import wait_until

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], what: str, timeout: float = PATIENCE_S) -> None:
    wait_until(condition, what=what, timeout=timeout)


class Run:
    """A run on the control node ``host``; to be used as a context manager, which does not outlive a test that failed."""

    def __init__(self, connect: Callable[[], Broker], campaign: str, host: str) -> None:
        self._connect = connect
        self._over = False
        self.said: list[str] = []
        self.counts: dict[str, int] = {}
        self.conducted_on = ""
        self._conductor = Conductor(
            self._connection, campaign, host, lambda _opened: lambda _facts: "", self._watch, self.said.append
        )
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._ending = self._thread.submit(self._conductor.run)
        return self

    def __exit__(self, *_error: object) -> None:
        self._over = True
        self._thread.shutdown()

    def _connection(self) -> Broker:
        self._require_test()
        return self._connect()

    def _watch(self, campaign: Campaign) -> None:
        self._require_test()
        self.counts, self.conducted_on = campaign.counts(), campaign.claimed_on

    def _require_test(self) -> None:
        if self._over:
            raise Abandoned

    def has_said(self, words: str) -> bool:
        return any(words in line for line in self.said)

    def wait(self, timeout: float = PATIENCE_S) -> Campaign:
        """The campaign, once the run is over."""
        return self._ending.result(timeout)


class Abandoned(Exception):
    """Nobody waits for the run any more."""
