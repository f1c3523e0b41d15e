# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever goes wrong, in whatever order: a campaign ends at its deadline, and its outcomes add up."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.campaign_rig import CAMPAIGN, DEADLINE, OPENED, met, snapshot
from unit.campaign_world import Coordinator, World, first_endings, judge

from ansible_collections.isolift.vm.plugins.module_utils.campaign import SKEW_S, Campaign, Effect, Judge
from ansible_collections.isolift.vm.plugins.module_utils.records import Closed, Notified
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import NEVER
from ansible_collections.isolift.vm.plugins.module_utils.wire import Message

SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 8)


def fold(journal: list[Message], nonce: str = "") -> Campaign:
    campaign = Campaign(CAMPAIGN, nonce)
    for record in journal:
        campaign.apply(record)
    return campaign


@settings(max_examples=150)
@given(SEEDS, COUNTS)
def test_every_campaign_is_closed_at_its_deadline_with_one_outcome_for_every_vm(
    seed: int, count: int
) -> None:
    world = World(Random(seed), count)
    world.run()
    campaign = fold(world.journal)
    assert campaign.closed and campaign.finished
    assert sum(campaign.counts().values()) == count == len(campaign.upgrades)
    assert all(upgrade.final for upgrade in campaign.upgrades.values())
    assert {vm: one.state for vm, one in campaign.upgrades.items()} == first_endings(world.journal)
    assert all(agent.installs <= 1 for agent in world.agents)


@settings(max_examples=60)
@given(SEEDS, COUNTS)
def test_no_coordinator_closes_a_campaign_twice_and_the_counts_it_writes_are_right(
    seed: int, count: int
) -> None:
    world = World(Random(seed), count)
    world.run()
    closings = [record.payload for record in world.journal if isinstance(record.payload, Closed)]
    nonces = [closing.nonce for closing in closings]
    assert len(nonces) == len(set(nonces))
    outcomes = fold(world.journal).counts()
    for closing in closings:
        assert {word: int(number) for word, number in closing.counts} == outcomes


@settings(max_examples=60)
@given(SEEDS, COUNTS)
def test_a_coordinator_that_read_along_knows_what_one_knows_that_reads_it_all_at_once(
    seed: int, count: int
) -> None:
    world = World(Random(seed), count)
    while world.now < DEADLINE:
        world.step()
        for coordinator in world.coordinators:
            afresh = fold(world.journal[: coordinator.read])
            for vm, upgrade in coordinator.campaign.upgrades.items():
                # Only a live coordinator knows that nobody took its command.
                afresh.upgrades[vm].reason = upgrade.reason
            assert snapshot(coordinator.campaign) == snapshot(afresh)


class Attentive(World):
    """A world in which coordinators read all that there is before they decide."""

    def catch_up(self, coordinator: Coordinator, everything: bool = True) -> None:
        super().catch_up(coordinator, True)


def most_with_leave(journal: list[Message]) -> int:
    """The most VMs that had leave to install at one time, by the records alone. One that used its leave in time, and was heard of that
    only after its place was given to another, does not count."""
    campaign, most = Campaign(CAMPAIGN), 0
    until: dict[str, float] = {}
    for record in journal:
        campaign.apply(record)
        until = {vm: end for vm, end in until.items() if end > record.created_at}
        upgrade = campaign.upgrades.get(record.vm)
        if upgrade is None:
            continue
        if upgrade.final:
            until.pop(upgrade.vm, None)
        elif upgrade.state in (State.CONFIRMED, State.INSTALLING):
            until.update({upgrade.vm: NEVER} if upgrade.vm in until else {})
        elif isinstance(record.payload, Notified) and upgrade.permit:
            until[upgrade.vm] = upgrade.expires_at + SKEW_S
            most = max(most, len(until))
        elif until.get(upgrade.vm) == NEVER:
            until[upgrade.vm] = upgrade.expires_at + SKEW_S
    return most


@settings(max_examples=150)
@given(SEEDS, COUNTS, st.integers(1, 3))
def test_no_more_vms_have_leave_at_one_time_than_the_campaign_allows(
    seed: int, count: int, at_once: int
) -> None:
    world = Attentive(Random(seed), count, replace(OPENED, at_once=at_once))
    world.run()
    assert most_with_leave(world.journal) <= at_once
    assert fold(world.journal).closed


def payloads(effects: list[Effect]) -> list[tuple[str, str, object]]:
    return [(type(effect).__name__, effect.message.vm, effect.message.payload) for effect in effects]


@settings(max_examples=60)
@given(SEEDS, COUNTS, st.integers(0, 200), st.sampled_from([judge, met]), st.integers(0, 2))
def test_a_resumed_coordinator_decides_what_one_decides_that_was_there_all_the_time(
    seed: int, count: int, steps: int, judging: Judge, at_once: int
) -> None:
    world = World(Random(seed), count, replace(OPENED, at_once=at_once))
    for _step in range(steps):
        world.step()
    afresh = fold(world.journal, "resumed")
    stepwise = Campaign(CAMPAIGN, "resumed")
    for record in world.journal:
        stepwise.apply(record)
        assert stepwise.decide(world.now, judging) == []  # not its campaign yet
    claim = afresh.claim("control", world.now)
    afresh.apply(claim)
    stepwise.apply(claim)
    later = world.now + 1000.0
    for now in (world.now, later, DEADLINE):
        assert payloads(afresh.decide(now, judging)) == payloads(stepwise.decide(now, judging))
