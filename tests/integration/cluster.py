# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A RabbitMQ cluster of three hosts, deployed by our roles, whose nodes can be killed and cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ansible_collections.isolift.vm.plugins.module_utils.broker import BrokerOptions
from lab import paths
from lab.errors import LabError
from lab.shell import run as run_here
from lab.waiting import wait_until

from .compute_host import ComputeHost, own_host

PASSWORD = "cluster-tests"
NAMES = ("rabbit1", "rabbit2", "rabbit3")

# A cut is noticed after 6 to 10 seconds instead of a minute.
_TICKTIME = "mkdir -p /etc/rabbitmq/conf.d && echo 'net_ticktime = 8' > /etc/rabbitmq/conf.d/60-ticktime.conf"


class Cluster:
    """Three hosts with RabbitMQ; the last one is a compute node with a relay too."""

    def __init__(self, hosts: Sequence[ComputeHost], directory: Path) -> None:
        self.hosts = {host.name: host for host in hosts}
        self._directory = directory

    @property
    def compute_node(self) -> ComputeHost:
        """The host with the relay."""
        return self.hosts[NAMES[-1]]

    def options(self, *names: str, user: str = "isolift_controller") -> BrokerOptions:
        """A user's, with these nodes in this order."""
        addresses = ",".join(self.hosts[name].address for name in names or NAMES)
        return BrokerOptions(addresses, 5672, "isolift", user, PASSWORD)

    def deploy(self, partition_handling: str = "", cookie: str = "integration-tests-secret") -> None:
        """Have the roles put RabbitMQ on all hosts, as one cluster, and the relay on the last.

        :raise AssertionError: the play failed.
        """
        groups = self._directory / "groups.json"
        members = {"broker": NAMES, "compute_nodes": NAMES[-1:]}
        groups.write_text(
            json.dumps({group: {"hosts": {name: {} for name in names}} for group, names in members.items()})
        )
        variables = {
            "broker_cluster_nodes": NAMES,
            "broker_erlang_cookie": cookie,
            "broker_controller_password": PASSWORD,
            "broker_relay_password": PASSWORD,
            "compute_relay_broker_host": self.options().host,
            "compute_relay_broker_password": PASSWORD,
        }
        if partition_handling:
            variables["broker_partition_handling"] = partition_handling
        inventories = [host.inventory for host in self.hosts.values()]
        self.compute_node.playbook(paths.REPOSITORY / "playbooks/site.yml", [*inventories, groups], variables)

    def leader(self, stream: str) -> str:
        """The host that leads the stream."""
        command = "timeout 20 rabbitmqctl --quiet --formatter json list_queues --vhost isolift name leader"
        queues = json.loads(self.hosts[NAMES[0]].run(command))
        [node] = [queue["leader"] for queue in queues if queue["name"] == stream]
        return str(node).partition("@")[2]

    def others(self, name: str) -> list[str]:
        """The hosts but this one."""
        return [other for other in NAMES if other != name]

    def kill(self, name: str) -> None:
        """Kill RabbitMQ on the host; systemd starts it again after a while."""
        self.hosts[name].run("systemctl kill --signal=KILL rabbitmq-server.service")

    @contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """Cut the host off from everybody."""
        link = f"vb-{name}"
        run_here(["ip", "link", "set", link, "down"])
        try:
            yield
        finally:
            run_here(["ip", "link", "set", link, "up"])

    @contextmanager
    def parted(self, name: str) -> Iterator[None]:
        """Part the host from the other two; clients reach both sides."""
        others = [self.hosts[other].address for other in self.others(name)]
        for address in others:
            self.hosts[name].run(f"ip route add blackhole {address}")
        try:
            yield
        finally:
            for address in others:
                self.hosts[name].run(f"ip route delete blackhole {address}")

    def running(self, name: str) -> int:
        """How many nodes this one takes for running, 0 if it does not."""
        try:
            # cluster_status would wait for nodes that are cut off.
            return int(
                self.hosts[name].run("timeout 10 rabbitmqctl eval 'length(rabbit_nodes:all_running()).'")
            )
        except (LabError, ValueError):
            return 0

    def wait_until_whole(self) -> None:
        """Wait until every node sees all run.

        :raise LabError: they do not.
        """
        wait_until(
            lambda: all(self.running(name) == len(NAMES) for name in NAMES),
            what="the cluster to be whole",
            timeout=90,
            every=1.0,
        )


@contextmanager
def own_cluster(directory: Path) -> Iterator[Cluster]:
    """A cluster of hosts that are started for the tests and taken down after them."""
    with ExitStack() as stack:
        hosts = [stack.enter_context(own_host(name)) for name in NAMES]
        names = "".join(f"{host.address} {host.name}\n" for host in hosts)
        for host in hosts:
            host.run("cat >> /etc/hosts", stdin=names)
            host.run(_TICKTIME)
        cluster = Cluster(hosts, directory)
        cluster.deploy()
        yield cluster
