# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign without a broker: its journal is a list, time is a number, and every part speaks when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Append, Campaign, Judge, Send
from ansible_collections.isolift.vm.plugins.module_utils.ids import upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import Upgrade
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Delivered,
    Facts,
    Message,
    Payload,
    Request,
    Result,
    Undeliverable,
)

CAMPAIGN = "0192f0e0-1111-7abc-8def-0123456789ab"
TARGET = "2.0.0"
BEGIN = 1_795_460_000.0
DEADLINE = BEGIN + 3600.0
PERMIT_S = 600.0

OPENED = Opened(
    component="guest-tools",
    target_version=TARGET,
    iso_sha256="a" * 64,
    manifest_sha256="b" * 64,
    media_path=f"/var/lib/isolift/media/{CAMPAIGN}/{'a' * 64}.iso",
    deadline=DEADLINE,
    permit_s=PERMIT_S,
    consent="ask",
)

REQUEST = Request("1.0.0", facts={"free_bytes": 10})
SUCCEEDED = Result("succeeded", version_before="1.0.0", version_after=TARGET, exit_code=0)

START_DELIVERED = Delivered("start", "nonce-1.9")
PERMIT_DELIVERED = Delivered("notification", "nonce-1.9")
NO_AGENT = Undeliverable("start", "nonce-1.9", "no_agent")

_OF_THE_COORDINATOR = {"pending_decision", "greeted", "ask_from", "release", "due", "tries"}


def vm_uuid(number: int) -> str:
    """The UUID of the ``number``-th VM."""
    return str(UUID(int=number + 1))


def rows(count: int) -> list[Row]:
    """A selection of ``count`` VMs."""
    return [Row(vm_uuid(number), f"desk-{number}", f"node{number % 2}") for number in range(count)]


def unfit(row: Row, why: str) -> Row:
    """The same VM, of which it is known that it cannot be upgraded."""
    return row._replace(unfit=why)


def met(_facts: Any) -> str:
    """The judge of a campaign without conditions."""
    return ""


def snapshot(campaign: Campaign) -> dict[str, Any]:
    """All that the journal says, without what only a coordinator remembers."""
    fields = [name for name in Upgrade.__slots__ if name not in _OF_THE_COORDINATOR]
    return {
        "campaign": (campaign.sealed, campaign.closed, campaign.problem, campaign.epoch, campaign.claimed_by),
        "finished": campaign.finished,
        "strays": campaign.strays,
        "counts": campaign.counts(),
        **{vm: {name: getattr(one, name) for name in fields} for vm, one in campaign.upgrades.items()},
    }


class Rig:
    """A sealed campaign of ``count`` VMs and the coordinator that claimed it.

    :ivar nodes: by the ID of a command, the node with whose others it may go.
    """

    def __init__(
        self, count: int = 1, judge: Judge = met, opened: Opened = OPENED, selection: Sequence[Row] = ()
    ) -> None:
        self.now = BEGIN
        self.judge = judge
        self.journal: list[Message] = []
        self.sent: list[Message] = []
        self.nodes: dict[str, str] = {}
        self.campaign = Campaign(CAMPAIGN, "nonce-1")
        self._counters: dict[str, int] = {}
        self._relayed = 0
        for record in self.campaign.opening(opened, list(selection) or rows(count), self.now):
            self.append(record)
        self.append(self.campaign.claim("control-1", self.now))

    def append(self, record: Message) -> Message:
        """``record`` is journaled, and the coordinator reads it."""
        self.journal.append(record)
        self.campaign.apply(record)
        return record

    def message(self, payload: Payload, vm: int = 0, message_id: str = "x", epoch: int = 1) -> Message:
        """``payload`` about the upgrade of a VM."""
        uuid = vm_uuid(vm)
        return Message(
            payload=payload,
            message_id=message_id,
            upgrade_id=upgrade_id(CAMPAIGN, uuid, 1),
            campaign_id=CAMPAIGN,
            vm=uuid,
            attempt=1,
            epoch=epoch,
            created_at=self.now,
        )

    def agent(self, *payloads: Payload, vm: int = 0, generation: str = "g") -> Message:
        """The agent of a VM says ``payloads``; the last message."""
        for payload in payloads:
            counter = self._counters[generation] = self._counters.get(generation, 0) + 1
            last = self.append(self.message(payload, vm, f"{generation}.{counter}"))
        return last

    def relay(self, payload: Payload, vm: int = 0) -> Message:
        """The relay says ``payload`` about a VM."""
        self._relayed += 1
        return self.append(self.message(payload, vm, f"relay.{self._relayed}"))

    def decide(self, after: float = 0.0) -> tuple[list[Message], list[Message]]:
        """(records, commands) that the coordinator decides ``after`` seconds; nothing of it is journaled."""
        self.now += after
        effects = self.campaign.decide(self.now, self.judge)
        records = [effect.message for effect in effects if isinstance(effect, Append)]
        sends = [effect for effect in effects if isinstance(effect, Send)]
        self.nodes.update({send.message.message_id: send.node for send in sends})
        return records, [send.message for send in sends]

    def settle(self, after: float = 0.0) -> list[Message]:
        """Decide, journal, read back and decide again until nothing is left to do ``after`` seconds; the commands sent."""
        sent: list[Message] = []
        records, commands = self.decide(after)
        while records or commands:
            sent += commands
            for record in records:
                self.append(record)
            records, commands = self.decide()
        self.sent += sent
        return sent

    def resume(self, nonce: str) -> None:
        """Another coordinator takes over."""
        self.campaign = self.folded(nonce)
        self.append(self.campaign.claim("control-2", self.now))

    def folded(self, nonce: str = "", records: Sequence[Message] | None = None) -> Campaign:
        """A fresh fold of the journal."""
        campaign = Campaign(CAMPAIGN, nonce)
        for record in self.journal if records is None else records:
            campaign.apply(record)
        return campaign

    def upgrade(self, vm: int = 0) -> Upgrade:
        """The upgrade of a VM as the coordinator sees it."""
        return self.campaign.upgrades[vm_uuid(vm)]

    def state(self, vm: int = 0) -> State:
        """Its state."""
        return self.upgrade(vm).state

    def outcome(self, vm: int = 0) -> tuple[State, str, str]:
        """Its outcome, stage and reason."""
        upgrade = self.upgrade(vm)
        assert upgrade.final, f"it is only {upgrade.state.value}"
        return upgrade.state, upgrade.stage, upgrade.reason

    def recorded(self, kind: type[Payload]) -> list[Any]:
        """The payloads of this type in the journal."""
        return [record.payload for record in self.journal if isinstance(record.payload, kind)]


def kinds(messages: list[Message]) -> list[str]:
    """Their types."""
    return [message.payload.TYPE for message in messages]


def requested(rig: Rig, vm: int = 0) -> None:
    """A VM has its start and asked for the upgrade."""
    rig.relay(START_DELIVERED, vm)
    rig.agent(REQUEST, vm=vm)


def notified(rig: Rig, vm: int = 0) -> None:
    """A VM's permit was sent, and nothing else."""
    requested(rig, vm)
    assert kinds(rig.settle()) == ["notification"]


def unless(word: str) -> Callable[[Facts], str]:
    """A judge that holds every VM whose facts have the fact ``word``."""
    return lambda facts: f"{word} is in the way" if word in facts else ""
