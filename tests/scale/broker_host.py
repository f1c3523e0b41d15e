# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with the real RabbitMQ, deployed by our role, that lives as long as a benchmark."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import report
from integration.compute_host import ComputeHost, own_host

from ansible_collections.isolift.vm.plugins.module_utils.broker import BrokerOptions
from lab import paths, settings
from lab.waiting import wait_until

NAME = "scale"
PORT = 5672
VHOST = "isolift"
CONTROLLER = "isolift_controller"
RELAY = "isolift_relay"
ANSWER_S = 60.0
"""Seconds for every answer of the broker, which shares this machine with thousands of VMs."""

_PLAY = Path(__file__).with_name("broker.yml")
# The host's root is in memory; the broker's data belongs on a disk.
_ON_DISK = f"{paths.SHARED_ON_NODE}/rabbitmq"
_PREPARE = f"install -d -o rabbitmq -g rabbitmq {_ON_DISK} && echo MNESIA_BASE={_ON_DISK} > /etc/rabbitmq/rabbitmq-env.conf"


class BrokerHost:
    """RabbitMQ on its host. ``pid`` is its process, as this machine numbers it."""

    def __init__(self, host: ComputeHost) -> None:
        self._host = host
        self.address = host.address
        self.pid = _process_of(host.name)

    def options(self, user: str) -> BrokerOptions:
        """How ``user`` reaches it."""
        passwords = {CONTROLLER: settings.CONTROLLER_PASSWORD, RELAY: settings.RELAY_PASSWORD}
        return BrokerOptions(self.address, PORT, VHOST, user, passwords[user], timeout=ANSWER_S)

    def versions(self) -> dict[str, str]:
        """The version of the package."""
        return report.versions(self._host.run, *report.BROKER)

    def ctl(self, *words: str) -> str:
        """What rabbitmqctl says."""
        return self._host.run(shlex.join(["rabbitmqctl", "--quiet", *words]))

    def wait_for_routes(self, vms: int, timeout: float) -> None:
        """Wait until that many VMs are bound.

        :raise LabError: they are not in time.
        """
        command = f"rabbitmqctl --quiet list_bindings -p {VHOST} source_name | grep -c '^isolift.vm$' || true"
        wait_until(
            lambda: int(self._host.run(command)) >= vms, what=f"{vms} bindings", timeout=timeout, every=1.0
        )


@contextmanager
def broker_host() -> Iterator[BrokerHost]:
    """The host, deployed afresh; nothing is left of it afterwards.

    :raise LabError: this machine does not allow it.
    """
    with own_host(NAME) as host:
        try:
            host.run(_PREPARE)
            variables = {
                "broker_controller_password": settings.CONTROLLER_PASSWORD,
                "broker_relay_password": settings.RELAY_PASSWORD,
            }
            host.playbook(_PLAY, [host.inventory], variables)
            yield BrokerHost(host)
        finally:
            host.run(f"systemctl stop rabbitmq-server.service; rm -rf {_ON_DISK}", timeout=120.0)


def _process_of(host: str) -> int:
    """The process of RabbitMQ on the host of that name."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name = (entry / "comm").read_text().strip()
            if name == "beam.smp" and (entry / "root/etc/hostname").read_text().strip() == host:
                return int(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    raise AssertionError(f"RabbitMQ does not run on {host}")
