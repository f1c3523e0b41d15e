# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A RabbitMQ cluster of three nodes that our role made, one of which is killed or cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from integration import lone_client
from integration.cluster import NAMES, PASSWORD, Cluster, own_cluster
from integration.relayed_vm import PERMIT, REQUEST, RESULT, campaign_on, machine_of
from integration.traffic import flowing

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, Publication
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.topology import CAMPAIGNS, JOURNAL_EXCHANGE, journal
from isolift_relay import wire
from lab.waiting import wait_until

LONE_CLIENT = Path(lone_client.__file__)

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@contextmanager
def stream_of(cluster: Cluster) -> Iterator[str]:
    """An empty journal on a cluster of which all nodes run."""
    cluster.wait_until_whole()
    name = journal(campaign_id(time.time_ns() // 1_000_000, os.urandom(10)))
    with Broker(cluster.options()) as broker:
        broker.declare_journal(name)
    try:
        yield name
    finally:
        with Broker(cluster.options()) as broker:
            broker.delete_journal(name)


@pytest.fixture
def stream(cluster: Cluster) -> Iterator[str]:
    with stream_of(cluster) as stream:
        yield stream


def logs(cluster: Cluster, stream: str, count: int) -> list[list[bytes]]:
    """What each node holds, when it holds at least ``count`` records: a replica may lag behind, and a node that has just joined
    may leave a consumer without an answer until its replica is there."""

    def log(name: str) -> list[bytes]:
        with Broker(cluster.options(name)) as broker:
            return broker.read_all(stream)

    def whole(name: str) -> bool:
        try:
            return len(log(name)) >= count
        except BrokerLost:
            return False

    for name in NAMES:
        wait_until(lambda name=name: whole(name), what=f"the records on {name}", timeout=90)  # type: ignore[misc]
    return [log(name) for name in NAMES]


def test_every_node_has_a_replica_of_every_stream(cluster: Cluster, stream: str) -> None:
    for name in NAMES:
        with Broker(cluster.options(name)) as broker:
            assert broker.read_all(stream) == []
            assert broker.read_all(CAMPAIGNS) == []


def test_nothing_confirmed_is_lost_when_the_leader_dies_and_the_writer_goes_on_elsewhere(
    cluster: Cluster, stream: str
) -> None:
    leader = cluster.leader(stream)
    first, second = cluster.others(leader)
    with flowing(
        stream,
        cluster.options(leader, first, second),
        cluster.options(first),
        cluster.options(leader, second),
    ) as traffic:
        assert traffic.writing_on == cluster.hosts[leader].address
        cluster.kill(leader)
        traffic.wait_for_more(1)
        assert traffic.writing_on == cluster.hosts[first].address
        traffic.wait_for_more()
    cluster.wait_until_whole()
    traffic.check(logs(cluster, stream, len(traffic.confirmed)))
    assert len(traffic.readings) > 2, "the reader of the leader connected again"


def cut_the_leader_off(cluster: Cluster, stream: str, *, restart: bool) -> None:
    """Let clients write and read on both sides of a cut, heal it, and compare what they were told.

    :param restart: the node that was cut off is to be restarted.
    """
    leader = cluster.leader(stream)
    first, second = cluster.others(leader)
    host = cluster.hosts[leader]
    host.run("cat > /run/lone_client.py", stdin=LONE_CLIENT.read_text())
    for deed in ("write", "read"):
        host.run(
            f"systemd-run --quiet --collect --unit=lone-{deed} "
            f"python3 /run/lone_client.py {deed} {stream} /run/lone.{deed} {PASSWORD}"
        )
    host.wait_for("test -s /run/lone.write -a -s /run/lone.read", what="the client on the node itself")
    readers = cluster.options(second), cluster.options(leader, first)
    with flowing(stream, cluster.options(leader, first, second), *readers) as traffic:
        with cluster.cut_off(leader):
            wait_until(lambda: cluster.running(first) == 2, what="the cut to be noticed", timeout=60, every=1)
            traffic.wait_for_more()
            assert traffic.writing_on in (cluster.hosts[first].address, cluster.hosts[second].address)
        host.run("systemctl stop lone-write lone-read; true", timeout=120)
        if restart:
            assert cluster.running(leader) == 1
            host.run("systemctl restart rabbitmq-server.service", timeout=120)
        cluster.wait_until_whole()
        traffic.wait_for_more()
    confirmed_there, seen_there = (
        host.run(f"cat /run/lone.{deed}").encode().splitlines() for deed in ("write", "read")
    )
    found = logs(cluster, stream, len(traffic.confirmed) + len(confirmed_there))
    traffic.confirmed += confirmed_there
    traffic.readings.append(seen_there)
    traffic.check(found)


def test_what_was_confirmed_around_a_cut_is_there_afterwards_when_the_minority_pauses(
    cluster: Cluster, stream: str
) -> None:
    cut_the_leader_off(cluster, stream, restart=False)


def test_the_relay_goes_on_with_another_node_when_its_own_dies(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.compute_node
    cluster.wait_until_whole()

    def connected_to() -> str:
        log = node.run(
            "journalctl --unit isolift-relay.service --output cat --grep 'connected to the broker'"
        )
        address = log.splitlines()[-1].rpartition(" ")[2].partition(":")[0]
        return next(host.name for host in cluster.hosts.values() if host.address == address)

    first = connected_to()
    options = cluster.options(*cluster.others(first))
    with campaign_on(node, options) as control, machine_of(control, node, tmp_path) as machine:
        machine.begin()
        assert machine.report(REQUEST, "g.1").refused == ""
        cluster.kill(first)
        report = replace(machine.control.message(RESULT, machine.vm, "g.2"), vm="")
        machine.agent.say(wire.Carry(session=machine.agent.session, now=0.0, message=report))
        machine.agent.open("again")
        assert connected_to() != first
        assert machine.report(RESULT, "g.2").refused == ""
        machine.command(PERMIT)
        machine.agent.take()
        reports = [record.message_id for record in control.journal() if record.message_id.startswith("g.")]
        # The relay may have published it before it heard of the loss; who reads the journal drops what comes twice.
        assert reports in (["g.1", "g.2"], ["g.1", "g.2", "g.2"])


def test_what_was_confirmed_around_a_cut_is_there_afterwards_when_the_cut_is_ignored(
    cluster: Cluster,
) -> None:
    cluster.deploy(partition_handling="ignore")
    try:
        with stream_of(cluster) as stream:
            cut_the_leader_off(cluster, stream, restart=True)
    finally:
        cluster.deploy()


OWN_QUEUE = """{"vhosts": [{"name": "own"}], "queues": [{"name": "own", "vhost": "own", "durable": true, "auto_delete": false,
"arguments": {}}]}"""


def test_a_host_that_takes_the_place_of_another_gets_the_streams_unless_it_has_queues_of_its_own(
    cluster: Cluster, stream: str
) -> None:
    records = [Publication(JOURNAL_EXCHANGE, stream, f"record {number}".encode()) for number in range(100)]
    with Broker(cluster.options()) as broker:
        broker.publish(records)
    late = cluster.hosts[NAMES[1]]
    late.run("systemctl stop rabbitmq-server.service && rm -r /var/lib/rabbitmq/mnesia/*", timeout=120)
    cluster.hosts[NAMES[0]].run(f"rabbitmqctl forget_cluster_node rabbit@{late.name}", timeout=120)
    late.run(
        "systemctl start rabbitmq-server.service && rabbitmqctl import_definitions",
        stdin=OWN_QUEUE,
        timeout=120,
    )
    with pytest.raises(AssertionError, match="rabbit2 would lose its queues and streams by joining"):
        cluster.deploy()
    late.run("rabbitmqctl delete_vhost own")
    cluster.deploy()
    cluster.wait_until_whole()
    for log in logs(cluster, stream, len(records)):
        assert log == [record.body for record in records]
