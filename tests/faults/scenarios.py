# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the cells of each part are brought about, several in one campaign where that part is a VM's own or can be killed again."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab import campaigns, drives, inside
from lab.cast import CELLS, Guest
from lab.progress import Progress
from lab.runs import Run

from . import stage
from .cells import Cell, Moment, stop_of
from .intercept import Breakpoint, Hit

HIT_S = 240.0
"""Seconds within which a moment must come."""

GATHER_S = 1.5
"""Seconds for which more connections may reach their moments before the broker is killed for all of them."""

CONTROLLERS = 4
"""Controllers that run at one time."""


@dataclass(frozen=True)
class Verdict:
    """How a cell went: the outcome, and how many installations were begun and finished in the guest.

    ``problem`` is what kept it from being tried as intended, or what it left behind; empty if nothing.
    """

    cell: Cell
    guest: Guest
    outcome: str
    begun: int
    installs: int
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the part was killed at its moment, and the upgrade succeeded all the same, by the only installation that was begun, and
        left no disc."""
        found = (self.outcome, self.begun, self.installs, self.problem)
        return found == ("succeeded", 1, 1, "")


Seats = Sequence[tuple[Cell, Guest]]
"""Cells, and the guest in which each is tried."""


def seated(cells: Iterable[Cell]) -> Seats:
    """A guest for each of at most ten cells."""
    return list(zip(cells, CELLS, strict=False))


def breakpoint_of(cell: Cell, guest: Guest) -> Breakpoint:
    """Where the connection is stopped for a cell."""
    stop, word = stop_of(cell)
    return Breakpoint(stop, word, "" if word == "closed" else str(guest.uuid))


def agents(seats: Seats, progress: Progress) -> list[Verdict]:
    """Kill the agent in each guest at the moment of its cell: one campaign."""
    stage.set_back()
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda seat: stage.order_agent(seat[1], seat[0]), seats))
    run = stage.begin([guest for _cell, guest in seats], "agents")
    run.finish()
    missed = {cell: "" if stage.agent_died(guest) else "the agent did not die" for cell, guest in seats}
    progress.say(f"agent: {len(seats)} killed" if not any(missed.values()) else "agent: not all were killed")
    return _verdicts(seats, missed)


def relays(seats: Seats, progress: Progress) -> list[Verdict]:
    """Kill the relay of each guest's node at the moment of its cell, one after the other: one campaign."""
    stage.set_back()
    hits: queue.Queue[Hit] = queue.Queue()
    with stage.relays_through(hits) as proxies:
        for cell, guest in seats:
            proxies[guest.node].stop_at([breakpoint_of(cell, guest)])
        run = stage.begin([guest for _cell, guest in seats], "relays")
        node_of = {str(guest.uuid): guest.node for _cell, guest in seats}

        def kill(batch: list[Hit]) -> None:
            for hit in batch:
                stage.kill_relay(node_of[hit.breakpoint.vm])

        missed = _kill_at_each(seats, hits, run, kill, progress)
        run.finish()
    return _verdicts(seats, missed)


def brokers(seats: Seats, progress: Progress) -> list[Verdict]:
    """Kill the broker at the moment of each cell, cells that meet at one moment together: one campaign."""
    stage.set_back()
    hits: queue.Queue[Hit] = queue.Queue()
    with stage.relays_through(hits) as proxies, stage.interceptor(hits) as controllers:
        for cell, guest in seats:
            down = cell.moment in (Moment.START, Moment.NOTIFICATION)
            proxy = controllers if down else proxies[guest.node]
            proxy.stop_at([breakpoint_of(cell, guest)])
        run = stage.begin([guest for _cell, guest in seats], "brokers", **stage.through(controllers))
        missed = _kill_at_each(seats, hits, run, lambda batch: stage.kill_broker(), progress, GATHER_S)
        run.finish()
    return _verdicts(seats, missed)


def controllers(seats: Seats, progress: Progress) -> list[Verdict]:
    """Kill the whole run of the playbook at the moment of each cell, and go on in a new one: a campaign for each."""
    stage.set_back()
    with ThreadPoolExecutor(max_workers=CONTROLLERS) as pool:
        missed = dict(zip((cell for cell, _guest in seats), pool.map(_controller, seats), strict=True))
    progress.say(f"controller: {sum(not problem for problem in missed.values())} killed")
    return _verdicts(seats, missed, len(seats))


def _controller(seat: tuple[Cell, Guest]) -> str:
    """Try one cell of the controller; what kept it from being tried, if anything."""
    cell, guest = seat
    hits: queue.Queue[Hit] = queue.Queue()
    name = f"controller-{cell.moment.value}-{cell.side.name.lower()}"
    with stage.interceptor(hits) as proxy:
        proxy.stop_at([breakpoint_of(cell, guest)])
        run = stage.begin([guest], name, **stage.through(proxy))
        hit = _next_hit(hits, run)
        run.kill()
        if hit is None:
            return f"the moment never came: see {run.log}"
        hit.sever()
    Run(f"{name}-again", campaign_id=hit.message["campaign_id"]).finish()
    return ""


def _kill_at_each(
    seats: Seats,
    hits: queue.Queue[Hit],
    run: Run,
    kill: Callable[[list[Hit]], None],
    progress: Progress,
    gather_s: float = 0.0,
) -> dict[Cell, str]:
    """Kill when moments come, until all have come; what kept cells from being tried.

    :param gather_s: seconds for which more moments may come that one kill serves.
    """
    waiting = {breakpoint_of(cell, guest): cell for cell, guest in seats}
    missed = dict.fromkeys(waiting.values(), "the moment never came")
    while waiting and (hit := _next_hit(hits, run)) is not None:
        batch = [hit, *_gathered(hits, gather_s)]
        kill(batch)
        if gather_s:
            batch += _gathered(hits, 0.0)  # they were stopped when the part died
        for each in batch:
            each.sever()
            missed[waiting.pop(each.breakpoint)] = ""
        progress.say(f"killed: {'; '.join(str(cell) for cell in missed if cell in _cells(batch, seats))}")
    return missed


def _gathered(hits: queue.Queue[Hit], pause: float) -> list[Hit]:
    """The hits that come with less than ``pause`` seconds between them."""
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(hits.get(timeout=pause) if pause else hits.get_nowait())
    return found


def _cells(batch: list[Hit], seats: Seats) -> set[Cell]:
    hit = {each.breakpoint for each in batch}
    return {cell for cell, guest in seats if breakpoint_of(cell, guest) in hit}


def _next_hit(hits: queue.Queue[Hit], run: Run) -> Hit | None:
    """The next hit; None if the run ends first, or `HIT_S` seconds pass."""
    deadline = time.monotonic() + HIT_S
    while time.monotonic() < deadline and not (run.ended and hits.empty()):
        with contextlib.suppress(queue.Empty):
            return hits.get(timeout=0.5)
    return None


def _verdicts(seats: Seats, missed: dict[Cell, str], count: int = 1) -> list[Verdict]:
    """What the journals of the ``count`` newest campaigns say, and the guests themselves."""
    results = [
        result for campaign in campaigns.newest(count) for result in campaigns.summary(campaign)["results"]
    ]
    outcomes = {result["name"]: result["state"] for result in results}
    verdicts = []
    for cell, guest in seats:
        begun = inside.begun(guest.node, guest.name)
        _version, installs = inside.installed(guest.node, guest.name)
        outcome = outcomes.get(guest.name, "no campaign")
        disc = drives.drive_of(guest, guest.node)
        left = "" if disc == drives.EMPTY else f"{disc} is still in the drive"
        verdicts.append(Verdict(cell, guest, outcome, begun, installs, missed[cell] or left))
    return verdicts
