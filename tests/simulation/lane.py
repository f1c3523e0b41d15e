# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One direction of a connection: what is put in comes out in the same order, after a while, unless it is cut."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from simulation.ground import Action, Ground


class Lane:
    """``shortest`` and ``longest`` are the bounds of its delay in seconds."""

    def __init__(self, ground: Ground, random: Random, shortest: float, longest: float) -> None:
        self._ground = ground
        self._random = random
        self._shortest = shortest
        self._spread = longest - shortest
        self._last = 0.0
        self._cut = False
        self._closed = False
        self._held: deque[tuple[Action, tuple[Any, ...]]] = deque()

    def put(self, action: Action, *arguments: Any) -> None:
        """Call ``action`` at the other end."""
        if self._closed:
            return
        if self._cut:
            self._held.append((action, arguments))
            return
        ground = self._ground
        self._last = max(self._last, ground.now + self._shortest + self._spread * self._random.random())
        ground.at(self._last, self._arrive, action, arguments)

    def stall(self, seconds: float) -> None:
        """Hold back all that comes from now on."""
        self._last = max(self._last, self._ground.now) + seconds

    def cut(self) -> None:
        """Nothing comes through any more."""
        self._cut = True

    def heal(self) -> None:
        """What was held back is sent again."""
        self._cut = False
        held, self._held = self._held, deque()
        for action, arguments in held:
            self.put(action, *arguments)

    def close(self) -> None:
        """What is under way is lost."""
        self._closed = True
        self._held.clear()

    def _arrive(self, action: Action, arguments: tuple[Any, ...]) -> None:
        if self._closed:
            return
        if self._cut:
            self._held.append((action, arguments))
        else:
            action(*arguments)
