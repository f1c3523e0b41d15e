# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that begins a campaign: its opening, the first claim, and the first commands. Stands for `upgrade_start`.

It may be stopped before any of its records and commands, and does not come back: what it left behind is for an operator.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Effect
from ansible_collections.isolift.vm.plugins.module_utils.records import Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.topology import JOURNAL_EXCHANGE
from simulation.broker import Broker
from simulation.coordinator import Coordinator
from simulation.ground import Ground
from simulation.invariants import Invariants


class Opener(Coordinator):
    """One beginning of one campaign; ``done`` is called when all is said that there is to say at first."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        broker: Broker,
        campaign_id: str,
        checks: Invariants,
        opened: Opened,
        rows: list[Row],
        done: Callable[[], object],
    ) -> None:
        super().__init__(ground, name, broker, campaign_id, checks, insists=False, serial=0)
        self._opened = opened
        self._rows = rows
        self._done = done
        self._has_begun = False
        self._has_settled = False

    def _connect(self) -> None:
        """Only once: whatever goes wrong with the connection, or with a record, is the end."""
        if self._has_begun:
            self.end()
        else:
            super()._connect()

    def _nonce(self) -> str:
        return f"o-{self._sessions}"

    def _arrive(self) -> None:
        assert self.connection is not None
        self._has_begun = True
        self.connection.ask(self._broker.declare, self._journal)
        super()._arrive()
        for record in self.campaign.opening(self._opened, self._rows, self.clock()):
            self._send(JOURNAL_EXCHANGE, self._journal, record)
        self._pump()

    def _follow(self) -> None:
        if self.campaign.sealed:
            self._claim()

    def _perform(self, effects: list[Effect]) -> None:
        """Do what is due at first, and leave the rest to a coordinator."""
        if effects and not self._has_settled:
            self._has_settled = True
            super()._perform(effects)
        else:
            self.end()
            self._done()
