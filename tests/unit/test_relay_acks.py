# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which acknowledgements the relay sends the broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isolift_relay.broker import Deliveries


def test_what_is_done_in_order_is_acknowledged_at_once() -> None:
    deliveries = Deliveries()
    numbers = [number for tag in (11, 12, 13, 14, 15) for number in deliveries.came(tag, 1)]
    assert [deliveries.done(numbers[place]) for place in (1, 0, 3)] == [True, False, False]
    assert deliveries.acks() == [(12, True), (14, False)]
    assert deliveries.acks() == []
    deliveries.done(numbers[2])
    assert deliveries.acks() == [(13, True)]


def test_a_delivery_is_acknowledged_when_all_of_its_commands_are_done() -> None:
    deliveries = Deliveries()
    first, second = deliveries.came(7, 3), deliveries.came(8, 1)
    assert [deliveries.done(number) for number in (*first[:2], *second)] == [False, False, True]
    assert deliveries.acks() == [(8, False)]
    assert deliveries.done(first[2])
    assert deliveries.acks() == [(7, True)]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.lists(st.lists(st.integers(0, 40), max_size=8), max_size=12),
)
def test_the_broker_takes_for_done_what_is_done_and_nothing_else(
    sizes: list[int], turns: list[list[int]]
) -> None:
    deliveries = Deliveries()
    commands = {tag: set(deliveries.came(tag, size)) for tag, size in enumerate(sizes, 1)}
    unacknowledged = list(commands)
    for turn in turns:
        for number in turn:
            holders = [tag for tag, left in commands.items() if number in left]
            for tag in holders:
                commands[tag].discard(number)
                deliveries.done(number)
        for tag, multiple in deliveries.acks():
            assert tag in unacknowledged, (
                "the broker closes a channel that acknowledges what it does not have"
            )
            unacknowledged = [one for one in unacknowledged if (one > tag if multiple else one != tag)]
        assert unacknowledged == [tag for tag, left in commands.items() if left]
