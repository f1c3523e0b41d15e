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
from integration.campaign_run import Run, wait_for
from integration.cluster import NAMES, PASSWORD, Cluster, own_cluster
from integration.journals import Journals, opened, vms
from integration.relayed_vm import PERMIT, REQUEST, RESULT, campaign_on, machine_of
from integration.traffic import flowing

from ansible_collections.isolift.vm.plugins.module_utils import conductor
from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    Broker,
    BrokerOptions,
    Connector,
    Publication,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.coordinator import Coordinator
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id, upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.states import State
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


OWN_QUEUE = """{"vhosts": [{"name": "own"}], "queues": [{"name": "own", "vhost": "own", "durable": true, "auto_delete": false,
"arguments": {}}]}"""


def test_a_host_that_takes_the_place_of_another_gets_the_streams_unless_it_has_queues_of_its_own(
    cluster: Cluster, stream: str
) -> None:
    records = [Publication(JOURNAL_EXCHANGE, stream, f"record {number}".encode()) for number in range(100)]
    with Broker(cluster.options()) as broker:
        broker.publish(records)
    late = cluster.hosts[NAMES[1]]
    late.run(
        "systemctl stop rabbitmq-server.service && rm -r /var/lib/rabbitmq/mnesia/* && systemctl start rabbitmq-server.service",
        timeout=120,
    )
    with pytest.raises(
        AssertionError, match='Say "rabbitmqctl forget_cluster_node rabbit@rabbit2" on rabbit1'
    ):
        cluster.deploy()
    cluster.hosts[NAMES[0]].run(f"rabbitmqctl forget_cluster_node rabbit@{late.name}", timeout=120)
    late.run("rabbitmqctl import_definitions", stdin=OWN_QUEUE)
    with pytest.raises(AssertionError, match="rabbit2 would lose its queues and streams by joining"):
        cluster.deploy()
    late.run("rabbitmqctl delete_vhost own")
    cluster.deploy()
    cluster.wait_until_whole()
    for log in logs(cluster, stream, len(records)):
        assert log == [record.body for record in records]


def test_the_secret_of_the_nodes_can_be_changed(cluster: Cluster, stream: str) -> None:
    record = Publication(JOURNAL_EXCHANGE, stream, b"before")
    with Broker(cluster.options()) as broker:
        broker.publish([record])
    cluster.deploy(cookie="another-secret-of-the-tests")
    cluster.wait_until_whole()
    assert logs(cluster, stream, 1) == [[b"before"]] * len(NAMES)


@pytest.fixture(scope="module", params=[False, True], ids=["the_minority_pauses", "the_cut_is_ignored"])
def cut_is_ignored(cluster: Cluster, request: pytest.FixtureRequest) -> bool:
    """How nodes take it that they are parted: the fewer pause until they are not; or all go on, and somebody restarts the fewer.

    What comes last in this file leaves the cluster as it is.
    """
    if request.param:
        cluster.deploy(partition_handling="ignore")
    return bool(request.param)


def test_what_was_confirmed_around_a_cut_is_there_afterwards(
    cluster: Cluster, cut_is_ignored: bool, stream: str
) -> None:
    """Clients write and read on both sides of the cut."""
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
        if cut_is_ignored:
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


class Reports:
    """What the relays of a campaign's VMs report, each report by a connection of its own to any of the nodes."""

    def __init__(self, options: BrokerOptions, campaign: str) -> None:
        self._options = options
        self._campaign = campaign
        self._sequence = 0

    def send(self, vm: str, payload: wire.Payload) -> None:
        """Reports, as often as it takes to have it confirmed."""
        self._sequence += 1
        own = upgrade_id(self._campaign, vm, 1)
        number = f"tests.{self._sequence}"
        message = wire.Message(payload, number, own, self._campaign, vm, 1, 0, time.time())
        wait_until(lambda: self._is_confirmed(message), what=f"{number} to be confirmed", timeout=60)

    def _is_confirmed(self, message: wire.Message) -> bool:
        record = Publication(JOURNAL_EXCHANGE, journal(self._campaign), wire.encode(message))
        try:
            with Broker(self._options) as broker:
                return not broker.publish([record])
        except BrokerLost:
            return False


def test_a_campaign_that_is_conducted_on_both_sides_of_a_cut_ends_once(
    cluster: Cluster, cut_is_ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that conducts is with the node that leads the journal and is parted from the others; it stays connected if it may."""
    monkeypatch.setattr(conductor, "FOLLOW_S", 1.0)
    notices: list[str] = []
    cluster.wait_until_whole()
    with Journals(cluster.options(), cluster.options(user="isolift_relay")) as journals:
        name, rows = journals.campaign(), vms(2)
        before, after = (row.vm for row in rows)
        with Broker(cluster.options()) as broker:
            Coordinator(broker, name, "start", "control").begin(opened(300.0), rows)
        leader = cluster.leader(journal(name))
        first, second = cluster.others(leader)
        reports = Reports(cluster.options(second, first, user="isolift_relay"), name)
        with Run(Connector(cluster.options(leader, second), notices.append), name, "alpha") as alpha:
            wait_for(lambda: alpha.conducted_on == "alpha", "the first run to conduct")
            with Run(Connector(cluster.options(first), notices.append), name, "beta") as beta:
                wait_for(lambda: beta.has_said("is conducted by a run on alpha"), "the second to follow")
                reports.send(before, RESULT)
                wait_for(lambda: beta.counts == {"succeeded": 1, "pending": 1}, "the first VM's outcome")
                with cluster.parted(leader):
                    wait_for(lambda: beta.conducted_on == "beta", "the second run to conduct", timeout=120)
                    reports.send(after, REQUEST)
                    wait_for(lambda: beta.counts == {"succeeded": 1, "notified": 1}, "the other VM's permit")
                if cut_is_ignored:
                    cluster.hosts[leader].run("systemctl restart rabbitmq-server.service", timeout=120)
                cluster.wait_until_whole()
                wait_for(lambda: alpha.has_said("this run lost it"), "the first run to say so", timeout=120)
                wait_for(lambda: alpha.has_said("is conducted by a run on beta"), "it to follow")
                reports.send(after, RESULT)
                assert alpha.wait().counts() == beta.wait().counts() == {"succeeded": 2}
        folded, records = journals.fold(name)
    assert [upgrade.state for upgrade in folded.upgrades.values()] == [State.SUCCEEDED] * 2
    assert [record.payload.TYPE for record in records].count("closed") == 1
