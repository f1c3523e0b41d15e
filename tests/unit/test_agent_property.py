# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens to the guest agent, in whatever order: at most one installation per upgrade ID, and one result."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.agent_support import (
    DEADLINE,
    NOW,
    OTHER_UPGRADE,
    OTHER_VM,
    START,
    START_ASK,
    THIRD_UPGRADE,
    UPGRADE,
    VM,
    command,
    inspected,
    permit,
)

from isolift_agent import events
from isolift_agent.events import Event
from isolift_agent.lifecycle import due, handle, must_record
from isolift_agent.memory import OUTBOX_LIMIT, Memory, changes, restore
from isolift_agent.states import TRANSITIONS, State
from isolift_agent.wire import Cancel, Result, encode

IDS = (UPGRADE, OTHER_UPGRADE, THIRD_UPGRADE)

payloads = st.one_of(
    st.sampled_from([START, START_ASK, replace(START, consent="?"), replace(START, nonce="other")]),
    st.builds(permit, st.integers(1, 4), st.sampled_from([NOW - 1, NOW + 50, NOW + 2000])),
    st.just(Cancel()),
)
commands = st.builds(
    lambda payload, upgrade, epoch, vm: events.Commanded(command(payload, upgrade, epoch=epoch, vm=vm)),
    payloads,
    st.sampled_from(IDS),
    st.integers(1, 3),
    st.sampled_from([VM, VM, VM, OTHER_VM]),
)
failures = st.sampled_from([None, None, events.Failure("verify", "unsigned", "no signature")])
versions = st.sampled_from(["", "1.0.0", "2.0.0"])
task_events = st.one_of(
    st.builds(inspected, versions, st.sampled_from(IDS)),
    st.builds(events.Prepared, st.sampled_from(IDS), st.booleans(), failures),
    st.builds(events.Answered, st.sampled_from(IDS), st.booleans()),
    st.builds(events.Installed, st.sampled_from(IDS), versions, st.sampled_from([None, 0, 1]), st.booleans()),
)
things = st.one_of(
    commands,
    commands,
    task_events,
    task_events,
    st.just("goes on"),
    st.just("goes on"),
    st.just("restart"),
    st.sampled_from(["restart", "acknowledge", "welcome", "later", "journal breaks", "journal works"]),
    st.just(events.Ticked()),
)
stories = st.builds(
    lambda lead, rest: ["goes on"] * lead + rest,
    st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5, 6]),
    st.lists(things, max_size=50),
)


class Life:
    """One guest: the core, its disk, and what it was told to do."""

    def __init__(self) -> None:
        self.disk = self.memory = Memory(generation="gen", vm=VM)
        self.now: float | None = NOW
        self.clock = NOW
        self.journal_works = True
        self.installs: Counter[str] = Counter()
        self.results: dict[str, set[str]] = {}

    def happens(self, thing: Event | str) -> None:
        if not isinstance(thing, str):
            self.step(thing)
        elif thing == "restart":
            self.now, self.memory = None, restore([changes(None, self.disk)])
            self.disk = replace(self.memory, counter=self.disk.counter)
            self.step(events.Restarted())
        elif thing == "welcome":
            self.now = self.clock
            self.step(events.Welcomed(VM, "fresh"))
        elif thing == "acknowledge" and self.memory.outbox:
            self.step(events.Acknowledged(self.memory.outbox[0].message_id))
        elif thing == "goes on":
            self.step(self.natural_event())
        elif thing == "later":
            self.clock += DEADLINE / 3e6
            self.now = None if self.now is None else self.clock
        else:
            self.journal_works = thing == "journal works"

    def natural_event(self) -> Event:
        """What happens next if all goes well."""
        upgrade = self.memory.current
        if upgrade is None:
            return events.Commanded(command(START_ASK, UPGRADE, epoch=9))
        ahead = permit(9, self.clock + 600)
        expected: dict[State, Event] = {
            State.REQUESTED: events.Commanded(command(ahead, upgrade.upgrade_id, epoch=9)),
            State.ASKING: events.Answered(upgrade.upgrade_id, True),
            State.VERIFYING: events.Prepared(upgrade.upgrade_id, True),
            State.INSTALLING: events.Installed(upgrade.upgrade_id, "2.0.0", exit_code=0),
        }
        return expected.get(upgrade.state, inspected("1.0.0", upgrade.upgrade_id))

    def step(self, event: Event) -> None:
        """What the agent's loop does with an event."""
        before = self.memory
        memory, effects = handle(before, event, self.now)
        if self.journal_works:
            self.disk = memory
        elif must_record(before, memory):
            memory, effects = handle(before, events.Unrecorded(event, "full"), self.now)
            assert not must_record(before, memory)
        self.memory = memory
        self.check_move(before, memory)
        for effect in effects:
            if isinstance(effect, events.Install):
                assert self.disk.current and self.disk.current.state is State.INSTALLING, (
                    "it is not on the disk"
                )
                self.installs[effect.upgrade.upgrade_id] += 1
            elif isinstance(effect, events.Transmit):
                encode(effect.message)  # raises if a field breaks the limits of the wire
                if isinstance(effect.message.payload, Result):
                    self.results.setdefault(effect.message.upgrade_id, set()).add(
                        effect.message.payload.outcome
                    )
            elif isinstance(effect, events.Repeat):
                self.step(effect.event)

    def check_move(self, before: Memory, after: Memory) -> None:
        old, new = before.current, after.current
        if old and new and old.upgrade_id == new.upgrade_id and old.state is not new.state:
            assert new.state in {
                target for (source, _kind), target in TRANSITIONS.items() if source is old.state
            }
        assert not (after.current and after.finished_upgrade(after.current.upgrade_id))
        assert len(after.outbox) <= OUTBOX_LIMIT + 8


@settings(max_examples=1000, deadline=None)
@given(stories)
def test_at_most_one_installation_per_upgrade(story: list[Event | str]) -> None:
    life = Life()
    for thing in story:
        life.happens(thing)
    assert all(count == 1 for count in life.installs.values())
    due(life.memory)


@settings(max_examples=200, deadline=None)
@given(stories.map(lambda story: [thing for thing in story if thing != "journal breaks"]))
def test_one_result_per_upgrade_while_the_journal_works(story: list[Event | str]) -> None:
    life = Life()
    for thing in story:
        life.happens(thing)
    assert all(len(outcomes) == 1 for outcomes in life.results.values())


@settings(max_examples=200, deadline=None)
@given(stories)
def test_every_memory_survives_the_journal(story: list[Event | str]) -> None:
    life = Life()
    records = [changes(None, life.memory)]
    for thing in story:
        before = life.memory
        life.happens(thing)
        records.append(changes(before, life.memory))
    assert replace(restore(records), counter=life.memory.counter) == life.memory
