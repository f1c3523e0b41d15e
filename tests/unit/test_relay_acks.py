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
    for tag in (1, 2, 3, 4, 5):
        deliveries.came(tag)
    assert [deliveries.done(tag) for tag in (2, 1, 4)] == [True, False, False]
    assert deliveries.acks() == [(2, True), (4, False)]
    assert deliveries.acks() == []
    deliveries.done(3)
    assert deliveries.acks() == [(3, True)]


@given(st.lists(st.lists(st.integers(1, 30), max_size=8), max_size=12))
def test_the_broker_takes_for_done_what_is_done_and_nothing_else(turns: list[list[int]]) -> None:
    deliveries = Deliveries()
    for tag in range(1, 31):
        deliveries.came(tag)
    unacknowledged, done = list(range(1, 31)), set()
    for turn in turns:
        for tag in turn:
            if tag not in done:
                done.add(tag)
                deliveries.done(tag)
        for tag, multiple in deliveries.acks():
            assert tag in unacknowledged, (
                "the broker closes a channel that acknowledges what it does not have"
            )
            unacknowledged = [one for one in unacknowledged if (one > tag if multiple else one != tag)]
        assert set(unacknowledged) == set(range(1, 31)) - done
