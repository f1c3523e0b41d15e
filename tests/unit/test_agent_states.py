# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's transition table, walked pair by pair."""

from __future__ import annotations

import itertools

import pytest
from unit.agent_support import START, command

from isolift_agent.memory import Upgrade
from isolift_agent.states import TRANSITIONS, Kind, State
from isolift_agent.step import IllegalMove, allowed, move

PAIRS = list(itertools.product(State, Kind))


@pytest.mark.parametrize(("state", "kind"), PAIRS, ids=lambda item: item.name)
def test_pair_moves_or_is_refused(state: State, kind: Kind) -> None:
    upgrade = Upgrade(command(START), state, consent=True, permit=3)
    if (state, kind) in TRANSITIONS:
        moved = move(upgrade, kind, permit=4)
        assert (moved.state, moved.permit, moved.consent) == (TRANSITIONS[(state, kind)], 4, True)
    else:
        with pytest.raises(IllegalMove, match=state.value):
            move(upgrade, kind, permit=4)
    assert allowed(state, kind) == ((state, kind) in TRANSITIONS)
    assert upgrade == Upgrade(command(START), state, consent=True, permit=3)


def test_every_state_is_reached_and_every_upgrade_can_end() -> None:
    forward = {
        state: {target for (source, _unused), target in TRANSITIONS.items() if source is state}
        for state in State
    }
    assert _reached(forward, State.IDLE) == set(State)
    for state in State:
        assert state is State.DONE or State.DONE in _reached(forward, state)
    assert not forward[State.DONE]


def test_installing_is_entered_only_with_verified_files_and_left_only_when_it_ended() -> None:
    entering = {pair for pair, target in TRANSITIONS.items() if target is State.INSTALLING}
    assert entering == {(State.VERIFYING, Kind.VERIFIED), (State.INSTALLING, Kind.RESTART)}
    leaving = {pair: target for pair, target in TRANSITIONS.items() if pair[0] is State.INSTALLING}
    assert leaving == {
        (State.INSTALLING, Kind.INSTALLED): State.DONE,
        (State.INSTALLING, Kind.RESTART): State.INSTALLING,
    }


def _reached(forward: dict[State, set[State]], start: State) -> set[State]:
    reached, todo = {start}, [start]
    while todo:
        fresh = forward[todo.pop()] - reached
        reached |= fresh
        todo += fresh
    return reached
