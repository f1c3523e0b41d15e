# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A coordinator's process: the real campaign core, with the broker simulated.

It stands for the conductor and the coordinator's shell.
"""

from __future__ import annotations

from collections import deque

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Append, Campaign, Effect, Send
from ansible_collections.isolift.vm.plugins.module_utils.topology import (
    JOURNAL_EXCHANGE,
    VM_EXCHANGE,
    journal,
    node_key,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import Facts, Message, decode, encode
from simulation.broker import REFUSED, UNROUTABLE, Broker, Connection
from simulation.ground import Ground, Process
from simulation.invariants import Invariants
from simulation.ledger import decode_record

RETRY_S = 5.0
"""Seconds between attempts to reach the broker."""

AGAIN_S = {REFUSED: 0.0, UNROUTABLE: RETRY_S}
"""Seconds until the next attempt after a record was not stored."""

LEASE_S = 5.0
"""Seconds between attempts to get the lease."""


def judge(facts: Facts) -> str:
    """The campaign's condition."""
    return "" if facts.get("ready") else "it is not ready"


class Coordinator(Process):
    """One coordinator of one campaign.

    It follows the journal, and conducts once it has the lease and its claim is in force. ``insists``: it claims without the
    lease, as one does that found it free on its side of a partition.

    :ivar read: the offset up to which it folded the journal.
    """

    def __init__(
        self,
        ground: Ground,
        name: str,
        broker: Broker,
        campaign_id: str,
        checks: Invariants,
        insists: bool,
        serial: int,
    ) -> None:
        super().__init__(ground, name)
        self.campaign_id = campaign_id
        self.campaign = Campaign(campaign_id)
        self.read = -1
        self.skew_s = 0.0
        self.connection: Connection | None = None
        self._broker = broker
        self._invariants = checks
        self._insists = insists
        self._serial = serial
        self._random = ground.random()
        self._journal = journal(campaign_id)
        self._sessions = 0
        self._cut_until = 0.0

    def clock(self) -> float:
        """What the control node's clock shows."""
        return self.ground.now + self.skew_s

    def start(self) -> None:
        """Resume the campaign from its journal alone."""
        self.begin()
        self.say("starts")
        self._connect()

    def end(self) -> None:
        """The process is gone, and the kernel closes its connection."""
        super().end()
        self._hang_up()

    def freeze_for(self, seconds: float) -> None:
        """Stop doing anything for a while; the broker hears no heartbeat."""
        self.freeze()
        if self.connection is not None:
            self.connection.cut(seconds, upwards_only=True)
        self.ground.after(seconds, self._thaw, self.run)

    def cut_off(self, seconds: float) -> bool:
        """The network to the broker is gone for a while."""
        if self.connection is None:
            return False
        self._cut_until = self.ground.now + seconds
        self.connection.cut(seconds)
        return True

    def _thaw(self, run: int) -> None:
        if self.alive and run == self.run:
            self.thaw()

    # Beginning

    def _connect(self) -> None:
        """Connect, and fold the journal afresh under a new nonce."""
        self._hang_up()
        self._sessions += 1
        self.nonce = self._nonce()
        self.campaign = Campaign(self.campaign_id, self.nonce)
        self.read = -1
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._outgoing: deque[tuple[str, str, Message]] = deque()
        self._owed = 0
        self._token = 0
        self._commands: dict[int, str] = {}
        self._epoch = 0  # the one that it claimed
        self._last = -1  # the offset of the last record there was at the beginning
        self._is_seeking = False
        self._alarm = 0.0
        if self.ground.now >= self._cut_until:
            self.connection = self._broker.connect(self, self._random)
        if self.connection is None:
            self.later(RETRY_S, self._connect)
        else:
            self._arrive()

    def _nonce(self) -> str:
        return f"c{self._serial}-{self.run}-{self._sessions}"

    def _arrive(self) -> None:
        """Read the journal."""
        assert self.connection is not None
        self.connection.ask(self._broker.consume, self._journal, self._told_last)

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _told_last(self, last: int) -> None:
        self._last = last

    def _seek(self) -> None:
        """Try to get the lease."""
        if self.connection is None:
            return
        if self._insists:
            self._insists = False
            self.connection.ask(self._broker.hear)
            self._claim()
        else:
            self.connection.ask(self._broker.lease, self.campaign_id, self._leased)

    def _seek_again(self, session: int) -> None:
        if session == self._sessions:
            self._seek()

    def _leased(self, is_ours: bool) -> None:
        if is_ours and not self._epoch:
            self._claim()
        elif not is_ours:
            self.later(LEASE_S, self._seek_again, self._sessions)

    def _claim(self) -> None:
        """Claim the epoch after the highest that was read."""
        claim = self.campaign.claim("control", self.clock())
        self._epoch = claim.epoch
        self.say(f"claims epoch {claim.epoch} as {self.nonce}")
        self._send(JOURNAL_EXCHANGE, self._journal, claim)
        if not self._owed:
            self._pump()

    # What comes

    def recorded(self, offset: int, body: bytes) -> None:
        """A record of the journal."""
        self._inbox.append((offset, body))
        self._turn()

    def present(self, body: bytes) -> None:
        """An agent said hello."""
        self.campaign.present(decode(body).vm)
        self._turn()

    def answered(self, token: int, outcome: str) -> None:
        """The broker's word on a publication."""
        self._owed -= 1
        vm = self._commands.pop(token, "")
        if vm and outcome == UNROUTABLE:
            self.campaign.unroutable(vm)
        if (
            outcome in (REFUSED, UNROUTABLE) and not vm
        ):  # a record that was not stored: begin anew from what was
            self._hang_up()
            self.later(AGAIN_S[outcome], self._connect)
            return
        self._turn()

    def delivered(self, tag: int, body: bytes) -> None:
        """Coordinators have no queue of commands."""
        raise AssertionError("a coordinator receives no command")

    def lost(self) -> None:
        """The connection is gone."""
        self.say("lost the broker")
        self.connection = None
        self.later(1.0, self._connect)

    # Working

    def _turn(self) -> None:
        """Read what came, and do what is due; but first finish what is being published."""
        if self._owed or self._outgoing:
            return
        while self._inbox:
            offset, body = self._inbox.popleft()
            self._fold(offset, body)
        campaign = self.campaign
        if campaign.closed:
            self._close()
        elif not self._epoch:
            self._follow()
        elif campaign.mine:
            self._perform(campaign.decide(self.clock(), judge))
        elif campaign.epoch >= self._epoch:
            self._lose()

    def _fold(self, offset: int, body: bytes) -> None:
        self.point()
        self.read = offset
        upgrade = self.campaign.apply(decode_record(body))
        if upgrade is not None:
            self._invariants.upgrade_changed(self, upgrade)

    def _follow(self) -> None:
        """Read along, and seek the lease once all is read that there was at the beginning."""
        if self._is_seeking or self.read < self._last:
            return
        if not self.campaign.sealed:
            self.say("the campaign was never sealed")
            self.end()
            return
        self._is_seeking = True
        self._seek()

    def _lose(self) -> None:
        """Another coordinator claimed the campaign: follow it."""
        self.say(f"lost the campaign to {self.campaign.claimed_by}")
        self._connect()

    def _close(self) -> None:
        self.say("the campaign is closed")
        self._invariants.closed(self)
        self.end()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                self._send(JOURNAL_EXCHANGE, self._journal, effect.message)
        for effect in effects:
            if isinstance(effect, Send):
                key = node_key(effect.node) if effect.node else effect.message.vm
                self._send(VM_EXCHANGE, key, effect.message)
        if effects:
            self._pump()
        else:
            self._set_alarm()

    def _send(self, exchange: str, key: str, message: Message) -> None:
        self._outgoing.append((exchange, key, message))

    def _pump(self) -> None:
        """Publish one message after the other; between any two this process may die or freeze."""
        if not self._outgoing or self.connection is None:
            return
        self.point()
        exchange, key, message = self._outgoing.popleft()
        self._token += 1
        self._owed += 1
        if exchange == VM_EXCHANGE:
            self._commands[self._token] = message.vm
            self._invariants.command_sent(self, message)
        self.say(f"{message.payload.TYPE} {message.vm[-2:]} {message.message_id}")
        self.connection.ask(self._broker.publish, self._token, exchange, key, encode(message))
        if self._outgoing:
            self.later(0.0, self._pump)

    def _set_alarm(self) -> None:
        due = self.campaign.next_due()
        if due is not None and due != self._alarm:
            self._alarm = due
            self.later(max(0.0, due - self.clock()) + 0.001, self._wake, self._sessions)

    def _wake(self, session: int) -> None:
        if session == self._sessions:
            self._alarm = 0.0
            self._turn()
