# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cores that are broken on purpose, one promise each, to show that the simulation would notice.

Every mutation replaces one function of the production code, or what it calls, while it is in effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Append, Campaign, Effect, Send
from ansible_collections.isolift.vm.plugins.module_utils.records import Notified, Selected
from ansible_collections.isolift.vm.plugins.module_utils.turns import Turns
from ansible_collections.isolift.vm.plugins.module_utils.wire import Message, Notification
from isolift_agent import clock, commands, lifecycle, store
from isolift_agent.events import Install, Restarted, Settle
from isolift_agent.memory import Memory, Upgrade
from isolift_agent.step import Step
from isolift_agent.wire import Message as AgentMessage
from isolift_relay import wire
from isolift_relay.desk import ReportSent
from isolift_relay.drives import Drives
from isolift_relay.events import Outcome
from isolift_relay.media import NO_DISC, DomainMedia
from isolift_relay.reports import Reports
from isolift_relay.sessions import Vm
from simulation.files import Kernel
from simulation.guest import guest_time


@contextmanager
def ack_before_journal() -> Iterator[None]:
    """The relay acknowledges an agent's report before the broker confirmed it."""
    carry = Reports._carry

    def hasty(self: Reports, vm: Vm, message: wire.Message) -> None:
        carry(self, vm, message)
        if message.message_id in vm.unconfirmed:
            self._desk.write(vm, wire.Ack(vm.session, message.message_id))

    with patch.object(Reports, "_carry", hasty):
        yield


@contextmanager
def epoch_check_removed() -> Iterator[None]:
    """The agent obeys whoever sends a command."""
    refusal = commands._refusal

    def trusting(memory: Memory, message: AgentMessage) -> str:
        found = refusal(memory, message)
        return "" if found.startswith("stale_claim") else found

    with patch.object(commands, "_refusal", trusting):
        yield


@contextmanager
def command_before_read_back() -> Iterator[None]:
    """The coordinator sends a permit together with the record of it."""
    decide = Campaign.decide

    def hasty(self: Campaign, now: float, judge: Any) -> list[Effect]:
        effects = decide(self, now, judge)
        return effects + [Send(_notification(self, one.message, now)) for one in effects if _permits(one)]

    with patch.object(Campaign, "decide", hasty):
        yield


def _permits(effect: Effect) -> bool:
    return isinstance(effect, Append) and isinstance(effect.message.payload, Notified)


def _notification(campaign: Campaign, record: Message, now: float) -> Message:
    permit = record.payload
    assert isinstance(permit, Notified)
    note = Notification(permit=permit.permit, expires_at=permit.expires_at, nonce=permit.nonce)
    return campaign.record(note, now, campaign.upgrades[record.vm])


@contextmanager
def double_install_on_restart() -> Iterator[None]:
    """The agent settles an installation that it does not know the end of by running the installer again."""
    settle = lifecycle._restarted

    def eager(step: Step, event: Restarted) -> None:
        settle(step, event)
        step.effects = [
            Install(effect.upgrade) if isinstance(effect, Settle) else effect for effect in step.effects
        ]

    with patch.dict(lifecycle._HANDLERS, {Restarted: eager}):
        yield


@contextmanager
def permit_without_end() -> Iterator[None]:
    """The agent takes a permit as valid for ever."""

    def lasting(_self: Step, upgrade: Upgrade) -> bool:
        return upgrade.permit > 0

    with patch.object(Step, "permitted", lasting):
        yield


@contextmanager
def result_before_journal() -> Iterator[None]:
    """The agent says how an upgrade ended although its journal, which cannot be written, would let it go on."""
    with patch.object(store, "held_back", lambda _recorded, _message: False):
        yield


@contextmanager
def journal_without_fsync() -> Iterator[None]:
    """The agent takes its journal for safe as soon as it is written."""
    with patch.object(Kernel, "fsync", lambda _self, _descriptor: None):
        yield


@contextmanager
def refused_for_good() -> Iterator[None]:
    """The relay tells the agent that a report will never be taken which the broker only refused for now."""
    original = Reports.settled

    def for_good(self: Reports, sent: ReportSent, outcome: Outcome) -> None:
        original(self, sent, Outcome.GONE if outcome is Outcome.REFUSED else outcome)

    with patch.object(Reports, "settled", for_good):
        yield


@contextmanager
def foreign_disc_replaced() -> Iterator[None]:
    """The relay looks into a drive no further than whether the disc it wants is there."""
    with patch.object(DomainMedia, "disc", NO_DISC):
        yield


@contextmanager
def disc_left_in_the_drive() -> Iterator[None]:
    """The relay leaves an upgrade's disc in the drive after the result."""
    with patch.object(Drives, "over", lambda _self, _vm, _result: None):
        yield


@contextmanager
def clock_of_the_guest() -> Iterator[None]:
    """The agent counts the host's time on by the guest's wall clock."""
    with patch.object(clock, "elapsed", guest_time.time):
        yield


@contextmanager
def cancelled_on_the_wish() -> Iterator[None]:
    """The coordinator takes the wish to cancel for its fulfilment, whatever the agent may do with its permit."""
    with patch.object(Campaign, "_may_install", lambda _self, _upgrade: False):
        yield


@contextmanager
def cap_ignored() -> Iterator[None]:
    """The coordinator gives leave to whoever asks for it."""
    with patch.object(Turns, "admits", lambda _self, _vm: True):
        yield


@contextmanager
def held_for_good() -> Iterator[None]:
    """The coordinator asks a VM that does not meet the conditions for no fresh facts."""
    with patch.object(Campaign, "_ask_again", lambda _self, _upgrade, _now, _asked: []):
        yield


@contextmanager
def seal_not_awaited() -> Iterator[None]:
    """The coordinator takes the VMs that are listed so far for the selection."""
    select = Campaign._apply_selected

    def hasty(self: Campaign, payload: Selected, at: float) -> None:
        self.sealed = False
        select(self, payload, at)
        self.sealed, self._open = True, sum(not one.final for one in self.upgrades.values())

    with patch.object(Campaign, "_apply_selected", hasty):
        yield


MUTATIONS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "ack before journal": ack_before_journal,
    "epoch check removed": epoch_check_removed,
    "command before read-back": command_before_read_back,
    "double install on restart": double_install_on_restart,
    "permit without end": permit_without_end,
    "result before journal": result_before_journal,
    "journal without fsync": journal_without_fsync,
    "refused for good": refused_for_good,
    "foreign disc replaced": foreign_disc_replaced,
    "disc left in the drive": disc_left_in_the_drive,
    "clock of the guest": clock_of_the_guest,
    "cancelled on the wish": cancelled_on_the_wish,
    "cap ignored": cap_ignored,
    "held for good": held_for_good,
    "seal not awaited": seal_not_awaited,
}
