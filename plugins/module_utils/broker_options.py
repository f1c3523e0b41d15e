# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the broker is, as modules, coordinator and callback are told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .broker_errors import BrokerError

PLAIN_PORT = 5672
TLS_PORT = 5671

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "broker_host": {"type": "str", "default": "localhost"},
    "broker_port": {"type": "int"},
    "broker_vhost": {"type": "str", "default": "isolift"},
    "broker_username": {"type": "str", "default": "isolift_controller"},
    "broker_password": {"type": "str", "required": True, "no_log": True},
    "broker_ca_cert": {"type": "path"},
    "broker_timeout": {"type": "float", "default": 15.0},
}
"""The broker options that the modules and the coordinator share."""


@dataclass(frozen=True)
class BrokerOptions:
    """Where the broker is and who we are there. ``timeout`` is in seconds, for connecting and for every answer.

    ``host`` may be several names with commas between them: the nodes of a cluster.
    """

    host: str
    port: int
    vhost: str
    username: str
    password: str
    ca_cert: str | None = None
    timeout: float = 15.0

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> BrokerOptions:
        """The options among a module's or action's validated arguments.

        :raises BrokerError: an option that cannot be meant so.
        """
        if not 0 < arguments["broker_timeout"] < float("inf"):
            raise BrokerError(f"broker_timeout must be seconds above 0, not {arguments['broker_timeout']}")
        values = {name[len("broker_") :]: arguments[name] for name in ARGUMENT_SPEC}
        if values["port"] is None:
            values["port"] = TLS_PORT if values["ca_cert"] else PLAIN_PORT
        options = cls(**values)
        if not options.nodes():
            raise BrokerError("broker_host names no host")
        return options

    def nodes(self) -> list[BrokerOptions]:
        """The same for each of the hosts alone, in their order."""
        return [replace(self, host=host) for host in (name.strip() for name in self.host.split(",")) if host]

    def after(self, host: str) -> BrokerOptions:
        """The same with the hosts in another order, beginning behind ``host``."""
        hosts = [node.host for node in self.nodes()]
        first = (hosts.index(host) + 1) % len(hosts)
        return replace(self, host=",".join(hosts[first:] + hosts[:first]))

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (vhost {self.vhost!r}, user {self.username!r})"
