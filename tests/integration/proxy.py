# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy for one connection that can be cut off, fall silent or be slow, as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading

_PIECE = 65536


class Proxy:
    """Listens on a port of this machine and passes one connection on."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._is_cut = threading.Event()
        self._bytes_per_s = float("inf")
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        """Both ends see the connection break."""
        self._is_cut.set()
        self._flows.set()
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def fall_silent(self) -> None:
        """Nothing passes any more, but the connection stays."""
        self._flows.clear()

    def slow_down(self, bytes_per_s: float) -> None:
        """Only so much passes, each way."""
        self._bytes_per_s = bytes_per_s

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            near, _address = self._listener.accept()
            self._sockets.append(near)
            far = socket.create_connection(self._target, timeout=10)
            self._sockets.append(far)
            far.settimeout(None)
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                self._flows.wait()
                if self._is_cut.wait(len(data) / self._bytes_per_s):
                    return
                sink.sendall(data)
