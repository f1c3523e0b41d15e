# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises, checked at every step against what the disks and the journals hold, never against an agent's word."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import TYPE_CHECKING

from ansible_collections.isolift.vm.plugins.module_utils import upgrade as controller
from ansible_collections.isolift.vm.plugins.module_utils import wire
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.records import Notified
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from isolift_agent import events
from isolift_agent.journal import ARCHIVES_LIMIT
from isolift_agent.memory import CLAIMS_LIMIT, FINISHED_LIMIT, OUTBOX_LIMIT, Memory, Upgrade
from isolift_agent.wire import Cancel, Message, Notification, Result, Start
from simulation.ground import BEGIN, Ground, Violation
from simulation.kinds import TRANSIENT, Kind
from simulation.ledger import Ledger, Outcome, decode_record

if TYPE_CHECKING:
    from simulation.coordinator import Coordinator
    from simulation.disk import Disk
    from simulation.domain import Domain
    from simulation.guest import Guest
    from simulation.relay import RelayProcess

OUTBOX_MARGIN = 8
"""Messages about the upgrade in progress that may come on top of `OUTBOX_LIMIT`."""

JOURNAL_MOST = 12 * 1024
"""Bytes of an agent's journal: the length at which it is rewritten here, and the longest record that is rewritten so."""

FILES_MOST = ARCHIVES_LIMIT + 2
"""Files of an agent: the journal, those set aside, and the one that takes the journal's place."""

LATENESS_S = 90.0
"""Seconds after the true end of a permit at which no install begins: two clocks' error, and bytes that were late."""


TROUBLE_S = 450.0
"""Seconds after the last fault within which every upgrade ends by itself, once it is its turn."""

LIMIT_S = 200.0
"""Seconds that every state has to be allowed, so that none is left by its limit."""

NOT_INSTALLED = ("declined", "cancelled")
STUCK = ("unreachable", "timed_out", "expired")


class Invariants:
    """What must hold. Every method raises `Violation` if it does not.

    :ivar domains: the VMs by UUID.
    :ivar closings: how many campaigns were closed.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.domains: dict[str, Domain] = {}
        self.closings = 0
        self.ledgers: dict[str, Ledger] = {}  # by campaign ID
        self._streams: dict[str, Ledger] = {}
        self._told_at: dict[
            tuple[str, str], float
        ] = {}  # when the last result of (campaign ID, VM) was stored
        self._made: dict[tuple[str, str], Message] = {}
        self._journaled: dict[tuple[str, str], wire.Payload] = {}
        self._said: dict[tuple[str, str], Disk] = {}  # the disk of the agent that sent it
        self._forgotten: dict[tuple[str, str], Message] = {}

    def begin(self, campaign_id: str) -> None:
        """A campaign's journal exists from now on."""
        self.ledgers[campaign_id] = self._streams[journal(campaign_id)] = Ledger()

    # The journal

    def appended(self, stream: str, offset: int, body: bytes) -> None:
        """A record was stored."""
        ledger = self._streams[stream]
        message = decode_record(body)
        was_closed = ledger.closed_at is not None
        had_outcome = message.vm in ledger.outcomes
        ledger.append(offset, message)
        if not had_outcome and message.vm in ledger.outcomes:
            self._check_untouched(message.vm, ledger.outcomes[message.vm])
        if ledger.closed_at is not None and not was_closed:
            self.closings += 1
            self._check_sum(ledger)
        if isinstance(message.payload, Notified):
            self._check_cap(ledger, message.created_at)
        if isinstance(message.payload, wire.REPORTS):
            self._check_report(message)

    def _check_report(self, message: wire.Message) -> None:
        """A report was made on the VM whose record it is in, and no other bears its number."""
        key = (message.vm, message.message_id)
        made, what = self._made.get(key), (message.upgrade_id, message.payload.TYPE)
        own = made is not None and (made.upgrade_id, made.payload.TYPE) == what
        _require(own, "own reports", f"{message.vm} never said {message.message_id}, {what}")
        if isinstance(message.payload, wire.Result):
            self._check_result(message, message.payload)
        twin = self._journaled.setdefault(key, message.payload)
        # Numbers follow the node's clock: one who is set back by less than two nodes' clocks differ cannot know what it used.
        is_excused = {Kind.SNAPSHOT_REVERT, Kind.HOST_SKEW} <= set(self._ground.happened)
        _require(
            twin == message.payload or is_excused,
            "unique messages",
            f"{message.vm} used {message.message_id} twice",
        )

    def _check_result(self, message: wire.Message, result: wire.Result) -> None:
        """What the campaign heard to be over is over, whether the agent's own journal holds that or not."""
        self._told_at[message.campaign_id, message.vm] = self._ground.now
        disk = self._said[message.vm, message.message_id]
        disk.results.setdefault(message.upgrade_id, result.outcome)
        is_without = result.outcome in NOT_INSTALLED or result.stage not in ("", "install")
        belied = is_without and message.upgrade_id in disk.installs
        _require(not belied, "one install", f"{message.vm} said {result.outcome}, and had installed it")

    def _check_cap(self, ledger: Ledger, now: float) -> None:
        """No more VMs have leave to install than may at once."""
        count, most = ledger.live_permits(now), ledger.at_once
        _require(not most or count <= most, "caps hold", f"{count} VMs have leave at once, and {most} may")

    def _check_untouched(self, vm: str, outcome: Outcome) -> None:
        """What ended with the word that nothing was installed was not."""
        belied = outcome.is_untouched and outcome.upgrade_id in self.domains[vm].disk.installs
        _require(not belied, "cancelled is cancelled", f"{vm} ended as {outcome.word}, and had installed it")

    def _check_sum(self, ledger: Ledger) -> None:
        complete = set(ledger.outcomes) == set(ledger.selected)
        _require(complete, "outcomes add up", f"closed with {len(ledger.outcomes)} of {len(ledger.selected)}")
        same = ledger.counts() == ledger.closed_counts
        _require(same, "outcomes add up", f"{ledger.closed_counts} closed, {ledger.counts()} in the journal")

    # The coordinator

    def upgrade_changed(self, coordinator: Coordinator, upgrade: controller.Upgrade) -> None:
        """A coordinator folded a record that changed an upgrade."""
        outcome = self.ledgers[coordinator.campaign_id].outcome(upgrade.vm, coordinator.read)
        expected = outcome.word if outcome else ""
        found = upgrade.state.value if upgrade.final else ""
        _require(
            found == expected,
            "one outcome",
            f"{coordinator.name} has {found or 'none'} for {upgrade.vm}, the journal {expected or 'none'}",
        )

    def command_sent(self, coordinator: Coordinator, message: wire.Message) -> None:
        """A coordinator sends a command."""
        ledger, read, payload = self.ledgers[coordinator.campaign_id], coordinator.read, message.payload
        mine = ledger.epoch_at(read)
        holds = mine == (message.epoch, coordinator.nonce) and ledger.is_sealed
        what = f"{coordinator.name} sends {payload.TYPE} to {message.vm} at offset {read}"
        _require(holds, "decided before sent", f"{what} without a claim that it has read")
        if isinstance(payload, wire.Notification):
            wanted = (message.epoch, payload.nonce, payload.permit, payload.expires_at)
            found = any(
                (one.epoch, one.nonce, one.number, one.expires_at) == wanted and one.offset <= read
                for one in ledger.permits.get(message.vm, ())
            ) or self._is_older_permit(ledger, message, payload, read)
            _require(found, "decided before sent", f"{what}, permit {payload.permit}, before it read it back")
        elif isinstance(payload, wire.Cancel):
            wished = any(at <= read and (not vms or message.vm in vms) for at, vms in ledger.cancels)
            ended = ledger.outcome(message.vm, read) is not None
            doubted = ledger.doubts.get(message.vm, read + 1) <= read
            _require(
                wished or ended or doubted, "decided before sent", f"{what} and nothing stands against it"
            )

    @staticmethod
    def _is_older_permit(
        ledger: Ledger, message: wire.Message, payload: wire.Notification, read: int
    ) -> bool:
        """Whether a coordinator before this one journaled the permit."""
        return any(
            (one.number, one.expires_at) == (payload.permit, payload.expires_at) and one.offset <= read
            for one in ledger.permits.get(message.vm, ())
        )

    def closed(self, coordinator: Coordinator) -> None:
        """A coordinator thinks that the campaign is closed."""
        at = self.ledgers[coordinator.campaign_id].closed_at
        _require(
            at is not None and at <= coordinator.read, "outcomes add up", "closed without a record of it"
        )

    # The relay

    def relay_stepped(self, relay: RelayProcess) -> None:
        """A relay's core handled an event."""
        desk = relay.core._desk
        limits = desk.limits
        bounded = len(desk.sent) <= limits.unconfirmed + limits.prefetch
        for vm in desk.vms.values():
            bounded = (
                bounded
                and len(vm.handed) <= limits.handed_per_vm
                and len(vm.unconfirmed) <= limits.unconfirmed_per_vm
                and len(vm.waiting) <= limits.prefetch
            )
        _require(bounded, "bounded queues", f"{relay.name} keeps more than its limits allow")

    # The agent

    def agent_began(self, guest: Guest) -> None:
        """An agent read its journal: it may hold reports that the agent before it was killed over."""
        memory = guest.store.memory
        if memory.vm == guest.domain.uuid:
            for message in memory.outbox:
                self._made.setdefault((memory.vm, message.message_id), message)

    def agent_stepped(
        self, guest: Guest, event: events.Event, before: Memory, effects: list[events.Effect], recorded: bool
    ) -> None:
        """An agent's core handled an event; ``recorded`` says whether its journal holds what came of it."""
        memory = guest.store.memory
        if memory.vm != before.vm or memory.generation != before.generation:
            guest.claims = {}
        if isinstance(event, events.Commanded):
            self._check_claim(guest, event.message, effects)
        if recorded:
            guest.domain.disk.claims = dict(guest.claims)
        if memory.outbox is not before.outbox:
            self._check_outbox(guest, event, before, memory, recorded)
        if any(isinstance(effect, events.Install) for effect in effects):
            guest.decided_at = guest.host_time()
        self._check_bounds(guest, memory)

    def agent_says(self, guest: Guest, message: Message) -> None:
        """An agent sends a message. What it calls over is over, unless its journal knows nothing of it."""
        disk, recorded = guest.domain.disk, guest.store._recorded
        self._said[guest.domain.uuid, message.message_id] = disk
        current = recorded.current if recorded is not None else None
        is_known = current is not None and current.upgrade_id == message.upgrade_id
        if isinstance(message.payload, Result) and is_known:
            disk.results.setdefault(message.upgrade_id, message.payload.outcome)

    def _check_claim(self, guest: Guest, message: Message, effects: list[events.Effect]) -> None:
        obeyed = any(
            isinstance(effect, events.Acknowledge)
            and not effect.refused
            and effect.message_id == message.message_id
            for effect in effects
        )
        if not obeyed:
            return
        payload = message.payload
        assert isinstance(payload, (Start, Notification, Cancel))
        seen = guest.claims.get(message.campaign_id)
        claim = (message.epoch, payload.nonce)
        stale = seen is not None and (claim[0] < seen[0] or (claim[0] == seen[0] and claim[1] != seen[1]))
        _require(not stale, "no lower epoch obeyed", f"{guest.name} obeyed {claim} after {seen}")
        guest.claims[message.campaign_id] = claim

    def _check_outbox(
        self, guest: Guest, event: events.Event, before: Memory, memory: Memory, recorded: bool
    ) -> None:
        known = {message.message_id for message in before.outbox}
        for message in memory.outbox:
            if message.message_id not in known:
                self._made_report(guest, message, recorded)
        if isinstance(
            event, events.Acknowledged
        ):  # or refused for good, which no report of these campaigns may be
            for message in before.outbox:
                if message.message_id == event.message_id:
                    self._forgotten[memory.vm, message.message_id] = message

    def _made_report(self, guest: Guest, message: Message, recorded: bool) -> None:
        disk, payload = guest.domain.disk, message.payload
        self._made[guest.domain.uuid, message.message_id] = message
        if not isinstance(payload, Result) or message.upgrade_id in disk.results:  # or it is said again
            return
        if payload.outcome in ("succeeded", "up_to_date"):
            true = message.upgrade_id in disk.installs or disk.version == payload.version_after
            _require(
                true, "truthful success", f"{guest.name} says {payload.outcome}, its disk {disk.version}"
            )
        if recorded:
            disk.results[message.upgrade_id] = payload.outcome

    def _check_bounds(self, guest: Guest, memory: Memory) -> None:
        bounded = (
            len(memory.outbox) <= OUTBOX_LIMIT + OUTBOX_MARGIN
            and len(memory.finished) <= FINISHED_LIMIT
            and len(memory.claims) <= CLAIMS_LIMIT
            and all(len(file.data) <= JOURNAL_MOST for file in guest.domain.disk.files.names.values())
            and len(guest.domain.disk.files.names) <= FILES_MOST
        )
        _require(bounded, "bounded queues", f"{guest.name} keeps more than its limits allow")

    # The disk

    def installed(self, domain: Domain, upgrade: Upgrade) -> None:
        """The installer was run."""
        disk, upgrade_id = domain.disk, upgrade.upgrade_id
        count = disk.installs.count(upgrade_id)
        _require(count == 1, "one install", f"{upgrade_id} was installed {count} times on one disk")
        said = disk.results.get(upgrade_id)
        _require(said is None, "one install", f"{upgrade_id} was installed after its agent had said {said}")
        ledger = self.ledgers[upgrade.command.campaign_id]
        outcome = ledger.outcomes.get(domain.uuid)
        if outcome is not None:
            self._check_untouched(domain.uuid, outcome)
        self._check_permit(domain, upgrade)

    def _check_permit(self, domain: Domain, upgrade: Upgrade) -> None:
        """An agent that decides to install holds a permit, by the host's time as it was told that and counted on."""
        guest, end = domain.guest, upgrade.expires_at
        decided_at = guest.decided_at
        _require(decided_at is not None, "permits end", f"{guest.name} installs before it was told the time")
        assert decided_at is not None
        late = f"{guest.name} installs {decided_at - end:.1f} s after the end of its permit"
        _require(upgrade.permit > 0 and decided_at < end, "permits end", late)
        latest = end + LATENESS_S + domain.paused_s
        _require(
            self._ground.now < latest, "permits end", f"{late} (true time {self._ground.now - BEGIN:.1f})"
        )

    # The end

    def finish(self, campaign_id: str, stream: list[bytes]) -> None:
        """All is healed, and time has passed."""
        ledger = self.ledgers[campaign_id]
        _require(ledger.closed_at is not None, "every run ends", f"campaign {campaign_id} was never closed")
        afresh = Campaign(campaign_id)
        for body in stream:
            afresh.apply(decode_record(body))
        found = {vm: upgrade.state.value for vm, upgrade in afresh.upgrades.items()}
        expected = {vm: outcome.word for vm, outcome in ledger.outcomes.items()}
        _require(found == expected, "one outcome", f"folded afresh: {found}, by the journal: {expected}")
        _require(Counter(found.values()).total() == len(ledger.selected), "outcomes add up", str(found))
        for vm, outcome in ledger.outcomes.items():
            self._check_untouched(vm, outcome)
        self._check_forgotten(campaign_id, ledger)
        self._check_progress(ledger)

    def check_unsealed(self, campaign_id: str) -> None:
        """Of a campaign whose opening was never finished nobody was told anything."""
        ledger = self.ledgers[campaign_id]
        has_started = ledger.claims or ledger.outcomes or ledger.reports
        _require(not has_started, "unsealed never starts", f"campaign {campaign_id} was conducted")

    def drive_changed(self, vm: str) -> None:
        """Something was done to a drive, and nobody else's disc was touched."""
        disc, foreign = self.domains[vm].disc, self.domains[vm].foreign_disc
        _require(disc == foreign or not foreign, "discs", f"{vm} lost {foreign}")

    def check_discs(self) -> None:
        """No disc of ours is left that a relay had time and occasion to take out."""
        for (campaign_id, vm), told_at in self._told_at.items():
            is_left = campaign_id in self.domains[vm].disc and self._ground.last_fault_at < told_at
            _require(not is_left, "discs", f"{vm} keeps the disc of {campaign_id}, which is over")

    def _check_progress(self, ledger: Ledger) -> None:
        """Where nothing but passing troubles came, and long ago, no upgrade waited for the deadline."""
        ground = self._ground
        turns = ceil(len(ledger.selected) / (ledger.at_once or len(ledger.selected)))
        is_long_ago = ground.last_fault_at + turns * TROUBLE_S < ledger.deadline
        has_time = is_long_ago and ledger.shortest_limit >= LIMIT_S
        # A guest that was set back, or was off when its upgrade was cancelled, may be busy with an upgrade of a campaign that is closed,
        # until that one's deadline.
        campaigns = sum(one.is_sealed for one in self.ledgers.values())
        seen = set(ground.happened)
        is_held_up = campaigns > 1 and bool(seen & {Kind.SNAPSHOT_REVERT, Kind.CANCEL})
        if not has_time or is_held_up or not seen <= TRANSIENT:
            return
        for vm, outcome in ledger.outcomes.items():
            if outcome.at < ground.last_fault_at:
                continue  # its agent answered past the limit of its state, did not go on, and cannot be heard at present
            is_stuck = outcome.word in STUCK or outcome.stage in ("turn", "conditions")
            _require(not is_stuck, "campaigns go on", f"{vm} ended as {outcome.word} {outcome.stage}")

    def _check_forgotten(self, campaign_id: str, ledger: Ledger) -> None:
        for (vm, message_id), message in self._forgotten.items():
            if message.campaign_id == campaign_id:
                _require(
                    (vm, message_id) in ledger.reports,
                    "no report lost",
                    f"{vm} forgot {message.payload.TYPE} {message_id}, and the journal never got it",
                )


def _require(holds: bool, invariant: str, detail: str) -> None:
    if not holds:
        raise Violation(invariant, detail)
