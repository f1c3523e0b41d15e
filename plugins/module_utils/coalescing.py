# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send what one turn of the event loop produces in one piece.

pika hands every frame to the kernel by itself, and a message is three frames: with thousands of messages a second these calls cost
more than anything else, here and in the broker, which reads as many pieces as were sent.
"""

from __future__ import annotations

from typing import Any


class Coalescing:
    """To be inherited before a connection of pika's. If pika should ever send in another way, this has no effect."""

    ioloop: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._pieces: list[bytes] = []
        super().__init__(*arguments, **options)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._pieces:
            self.ioloop.call_later(0, self._send_pieces)
        self._pieces.append(data)

    def _send_pieces(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._transport is not None:  # type: ignore[attr-defined]  # else the connection was lost
            super()._adapter_emit_data(b"".join(pieces))  # type: ignore[misc]
