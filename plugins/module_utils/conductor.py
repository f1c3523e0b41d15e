# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conduct a campaign to its end, whatever happens to the broker and whoever else conducts it.

A coordinator lives as long as its connection. The conductor makes the next one: it folds the journal afresh and claims
the next epoch, unless another coordinator conducts the campaign; then it follows until that one is gone.
"""

from __future__ import annotations

import os
import time
from typing import Callable

from .broker import Broker
from .broker_errors import BrokerLost, QueueLocked
from .campaign import Campaign, Judge
from .campaign_errors import CampaignLost
from .coordinator import Coordinator
from .ids import campaign_time
from .records import Opened

FOLLOW_S = 5.0
"""Seconds between two tries of a follower to take the campaign."""

PATIENCE_S = 600.0
"""Seconds that the broker may be away; longer if the campaign's deadline is later."""

FIRST_S = 120.0
"""Seconds that the broker may be away before there ever was a connection; it may have gone since the campaign was begun."""

FIRST_PAUSE_S = 1.0
PAUSE_MOST_S = 10.0
"""Seconds between the first two tries to connect again, which double up to the most."""


class Conductor:
    """Conducts, or follows, one campaign.

    :param connect: opens a connection to the broker.
    :param host: the name of this control node.
    :param judge_of: makes the judge of a campaign's conditions.
    :param watch: called with the campaign whenever something was folded, at least every few seconds.
    :param say: tells the operator what happens to the conductor itself.
    :raises ValueError: ``campaign_id`` is not a campaign ID. An upgrade's would name the same journal, and be a wrong campaign in it.
    """

    def __init__(
        self,
        connect: Callable[[], Broker],
        campaign_id: str,
        host: str,
        judge_of: Callable[[Opened], Judge],
        watch: Callable[[Campaign], None],
        say: Callable[[str], None],
    ) -> None:
        campaign_time(campaign_id)
        self._connect = connect
        self._campaign_id = campaign_id
        self._host = host
        self._judge_of = judge_of
        self._watch = watch
        self._say = say
        self._claimed: tuple[int, str] = (0, "")  # the last epoch that was ours, and its nonce
        self._following = ""
        self._deadline = 0.0
        self._away_since = 0.0
        self._pause_s = FIRST_PAUSE_S

    def run(self) -> Campaign:
        """Go on until the campaign is closed, and return it.

        :raises CampaignError: the campaign cannot go on, or never began.
        :raises BrokerError: the broker refuses, or was away too long; the campaign can be resumed.
        """
        while True:
            try:
                with self._connect() as broker:
                    return self._session(broker)
            except BrokerLost as error:
                self._bear(error)
            except CampaignLost as error:
                self._claimed = (0, "")
                self._say(f"{error}. This run lost it and follows.")

    def _session(self, broker: Broker) -> Campaign:
        """One connection's worth of conducting."""
        coordinator = Coordinator(broker, self._campaign_id, os.urandom(8).hex(), self._host)
        campaign = coordinator.campaign
        coordinator.catch_up()
        self._deadline = campaign.policy.deadline
        self._say_if_lost(campaign)
        while not campaign.closed:
            try:
                coordinator.take()
            except QueueLocked:
                self._is_back()
                self._follow(coordinator)
                continue
            self._is_back()
            self._claimed, self._following = (campaign.epoch, campaign.claimed_by), ""
            coordinator.run(self._judge_of(campaign.policy), self._watch)
        self._watch(campaign)
        coordinator.make_known()
        return campaign

    def _is_back(self) -> None:
        """The broker does its work again: it has stored a claim, or it serves whoever conducts the campaign. To be read from is not enough."""
        if self._away_since:
            self._say("RabbitMQ is back.")
        self._away_since, self._pause_s = 0.0, FIRST_PAUSE_S

    def _say_if_lost(self, campaign: Campaign) -> None:
        epoch, nonce = self._claimed
        if nonce and (campaign.epoch, campaign.claimed_by) != (epoch, nonce) and not campaign.closed:
            self._claimed = (0, "")
            self._say(
                f"Meanwhile a coordinator on {campaign.claimed_on or 'an unknown host'} has taken campaign {self._campaign_id} "
                f"(epoch {campaign.epoch}): this run lost it."
            )

    def _follow(self, coordinator: Coordinator) -> None:
        """Read along for a while; say once by whom the campaign is conducted."""
        campaign = coordinator.campaign
        if self._following != campaign.claimed_by:
            self._following = campaign.claimed_by
            self._say(
                f"Campaign {self._campaign_id} is conducted by a run on {campaign.claimed_on or 'an unknown host'} "
                f"(epoch {campaign.epoch}); this one follows, and takes over should that one end."
            )
        until = time.monotonic() + FOLLOW_S
        while not campaign.closed and time.monotonic() < until:
            coordinator.receive(1.0)
            self._watch(campaign)

    def _bear(self, error: BrokerLost) -> None:
        """Wait before the next try to connect.

        :raises BrokerLost: the broker is away too long.
        """
        now = time.time()
        if not self._away_since:
            self._away_since = now
            self._say(f"{error}. Nothing is lost; trying again until it is back.")
        patience = PATIENCE_S if self._deadline else FIRST_S
        if now > max(self._deadline, self._away_since + patience):
            raise error
        time.sleep(self._pause_s)
        self._pause_s = min(2.0 * self._pause_s, PAUSE_MOST_S)
