# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ short of memory, as it thinks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .compute_host import ComputeHost


@contextmanager
def memory_alarm(host: ComputeHost) -> Iterator[None]:
    """Let the broker on the host take nothing from those who publish."""
    host.run("rabbitmqctl set_vm_memory_high_watermark absolute 1MB")
    host.wait_for(
        "rabbitmqctl eval 'rabbit_alarm:get_alarms().' | grep -q memory", what="the alarm", timeout=60
    )
    try:
        yield
    finally:
        host.run("rabbitmqctl set_vm_memory_high_watermark 0.4")
