# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The coordinator's shell: between the broker and the campaign core.

It performs what the core decides and tells the core what came. Nothing is decided here.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Callable

from .broker import Broker, Publication, append
from .broker_errors import BrokerError, BrokerLost
from .campaign import Append, Campaign, Effect, Judge, Send
from .campaign_errors import CampaignError, CampaignLost, HalfBegun, NeverSealed
from .history import campaigns_of
from .ids import campaign_time
from .records import RECORDS, Opened, Row
from .topology import CAMPAIGNS, VM_EXCHANGE, coordinator_queue, journal
from .wire import MESSAGES, Message, WireError, decode, encode

IDLE_S = 5.0
"""Seconds after which a waiting coordinator looks at the clock, whatever the core says is due."""

SILENCE_S = 30.0
"""Seconds without a record, where records are known to be there, after which the broker counts as failed."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Coordinator:
    """One coordinator of one campaign, on one connection.

    :param nonce: random text that tells this coordinator apart from every other.
    :param host: the name of the control node, for people who read the journal.
    """

    def __init__(self, broker: Broker, campaign_id: str, nonce: str, host: str) -> None:
        self.campaign = Campaign(campaign_id, nonce)
        self._broker = broker
        self._host = host
        self._journal = journal(campaign_id)
        self._reached = -1

    def begin(self, opened: Opened, vms: list[Row]) -> None:
        """Make the campaign's journal, write its opening, list it, and claim epoch 1.

        :raises CampaignError: no campaign can have that policy or selection; nothing was made.
        :raises BrokerError: the journal exists already, or cannot be made; nothing was begun.
        :raises HalfBegun: the broker failed or refused after that, or another coordinator was quicker.
        """
        now = time.time()
        rehearse(self.campaign.campaign_id, opened, vms)
        opening = self.campaign.opening(opened, vms, now)
        self._broker.declare_journal(self._journal)
        try:
            self._list(opening[0])  # before the seal: what is sealed can be conducted, so it must be found
            self._broker.read(self._journal)
            self._append(opening)
            self._claim()
        except (BrokerError, CampaignLost) as error:
            raise HalfBegun(str(error)) from error

    def catch_up(self) -> None:
        """Fold the journal as far as it goes now.

        :raises NeverSealed: it never starts.
        :raises CampaignError: the journal is not that of the campaign, or not what was sealed.
        :raises NoSuchStream: the broker has no such campaign.
        """
        last = self._broker.read(self._journal)
        self._read_until(lambda: self._reached >= last)
        if self.campaign.problem:
            raise CampaignError(self.campaign.problem)
        if not self.campaign.sealed:
            raise NeverSealed(
                f"campaign {self.campaign.campaign_id} was never sealed: the run that began it was stopped before any VM was told to "
                "start, and none will be; begin it anew"
            )

    def take(self) -> None:
        """Take the campaign: hear its VMs' presence, which only one coordinator can, and claim the next epoch.

        :raises QueueLocked: another coordinator conducts it.
        :raises CampaignLost: another one claimed it at the same time.
        """
        self._broker.hear_presence(coordinator_queue(self.campaign.campaign_id))
        self._claim()

    def resume(self) -> None:
        """Fold the journal, and take the campaign unless it is closed.

        :raises CampaignError, QueueLocked, NoSuchStream: as of `catch_up` and `take`.
        """
        self.catch_up()
        if not self.campaign.closed:
            self.take()

    def _claim(self) -> None:
        claim = self.campaign.claim(self._host, time.time())
        self._append([claim])
        self._read_until(lambda: self.campaign.epoch >= claim.epoch)
        self._check()

    def _read_until(self, done: Callable[[], bool]) -> None:
        """Fold what comes until ``done``; the broker has it already, so silence is a failure. Presence is no record."""
        heard_at = time.monotonic()
        while not done():
            reached = self._reached
            self.receive(max(heard_at + SILENCE_S - time.monotonic(), 0.0))
            if self._reached != reached or self._broker.blocked:
                heard_at = time.monotonic()
            elif time.monotonic() >= heard_at + SILENCE_S:
                raise BrokerLost(f"RabbitMQ sent nothing of {self._journal} for {SILENCE_S:g} s")

    def _check(self) -> None:
        campaign = self.campaign
        if not campaign.mine:
            raise CampaignLost(
                f"another coordinator, on {campaign.claimed_on or 'an unknown host'}, has taken campaign {campaign.campaign_id} "
                f"(epoch {campaign.epoch})"
            )

    def settle(self, judge: Judge) -> None:
        """Perform what is due now and wait for nothing else."""
        for _again in range(2):  # what came back is sent again, to wherever its VM is
            self._perform(self.campaign.decide(time.time(), judge))

    def run(self, judge: Judge, watch: Callable[[Campaign], None]) -> None:
        """Go on until every upgrade has an outcome and the campaign is closed.

        :param watch: called with the campaign after whatever came was folded, at least every `IDLE_S` seconds.
        :raises CampaignLost: another coordinator took the campaign.
        :raises BrokerError: the broker fails; the campaign can be resumed.
        """
        while not self.campaign.closed:
            self._perform(self.campaign.decide(time.time(), judge))
            due = self.campaign.next_due()
            wait = IDLE_S if due is None else min(max(due - time.time(), 0.0), IDLE_S)
            self.receive(wait)
            watch(self.campaign)
            if not self.campaign.closed:
                self._check()

    def make_known(self) -> None:
        """See to it that the list of campaigns says that this one is closed."""
        closing = self.campaign.closing
        listed = campaigns_of(self._broker.campaigns())
        own = [one for one in listed if one["campaign_id"] == self.campaign.campaign_id]
        if closing is not None and not all(one["closed"] for one in own):
            self._list(closing)

    def receive(self, timeout: float) -> None:
        """Fold what came, after waiting up to ``timeout`` seconds for something to come."""
        for delivery in self._broker.poll(timeout):
            if delivery.source != self._journal:
                self._hear(delivery.body)
                continue
            self._reached = delivery.offset
            try:
                message = decode(delivery.body, RECORDS)
            except WireError:
                self.campaign.strays += 1
                continue
            self.campaign.apply(message)

    def _hear(self, body: bytes) -> None:
        try:
            self.campaign.present(decode(body, MESSAGES).vm)
        except WireError:
            self.campaign.strays += 1

    def _perform(self, effects: list[Effect]) -> None:
        self._append([effect.message for effect in effects if isinstance(effect, Append)])
        commands = [effect for effect in effects if isinstance(effect, Send)]
        unroutable = self._broker.publish(
            Publication(VM_EXCHANGE, command.message.vm, encode(command.message), node=command.node)
            for command in commands
        )
        for publication in unroutable:
            self.campaign.unroutable(publication.key)

    def _append(self, records: list[Message]) -> None:
        append(self._broker, self._journal, map(encode, records))

    def _list(self, record: Message) -> None:
        append(self._broker, CAMPAIGNS, [encode(record)])


def rehearse(campaign_id: str, opened: Opened, vms: list[Row]) -> None:
    """Find out, without a broker, whether a campaign of that policy and selection can be begun.

    :raises CampaignError: it cannot; the text names what is wrong.
    """
    try:
        campaign_time(campaign_id)
    except ValueError as error:
        raise CampaignError(str(error)) from error
    ids = [row.vm for row in vms]
    odd = [vm for vm in ids if not _UUID.fullmatch(vm)]
    if odd:
        raise CampaignError(f"not UUIDs of VMs, in lower case: {', '.join(odd)[:300]}")
    twice = [vm for vm, count in Counter(ids).items() if count > 1]
    if twice:
        raise CampaignError(f"selected more than once: {', '.join(twice)}")
    rehearsal = Campaign(campaign_id)
    try:
        for record in rehearsal.opening(opened, vms, 0.0):
            rehearsal.apply(decode(encode(record), RECORDS))
    except WireError as error:
        raise CampaignError(f"the campaign cannot be journaled: {error.detail}") from error
    if not rehearsal.sealed:
        raise CampaignError(rehearsal.problem)
