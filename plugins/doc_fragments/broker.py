# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options by which everything that talks to RabbitMQ finds it."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``isolift.vm.broker``."""

    DOCUMENTATION = r"""
options:
  broker_host:
    description:
      - Name or address of the RabbitMQ node, or those of a cluster's nodes with commas between them, which are tried in turn.
    type: str
    default: localhost
  broker_port:
    description: AMQP port. The default is V(5671) if O(broker_ca_cert) is set, else V(5672).
    type: int
  broker_vhost:
    description: The vhost that the role P(isolift.vm.broker#role) made.
    type: str
    default: isolift
  broker_username:
    description: The controller's user.
    type: str
    default: isolift_controller
  broker_password:
    description: The controller's password.
    type: str
    required: true
  broker_ca_cert:
    description:
      - PEM file of the certificate authority that signed the broker's certificate.
      - The connection uses TLS if this is set, and checks the certificate against O(broker_host).
    type: path
  broker_timeout:
    description:
      - Seconds to wait for connecting and for every answer of the broker.
      - The time for which the broker takes nothing because it is short of memory or disk space does not count. It has a limit of its
        own, a quarter of an hour.
    type: float
    default: 15.0
requirements:
  - pika >= 1.2.0, for M(isolift.vm.upgrade_start) and M(isolift.vm.upgrade_coordinate) in the Python that runs Ansible
"""
