# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks' pure parts: who is emulated where, and what a journal says about time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scale import fleet, history, journal, profiles, traffic

from ansible_collections.isolift.vm.plugins.module_utils import history as product_history
from ansible_collections.isolift.vm.plugins.module_utils.broker import Delivery, Publication
from ansible_collections.isolift.vm.plugins.module_utils.topology import CAMPAIGNS
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal as journal_of


def test_nodes_are_full_but_the_last() -> None:
    nodes = fleet.fleet(100, Path("/s"))
    assert [len(node.vms) for node in nodes] == [40, 40, 20]


def test_every_vm_has_a_uuid_and_a_socket_of_its_own() -> None:
    vms = [vm for node in fleet.fleet(500, Path("/s")) for vm in node.vms]
    assert len({vm.uuid for vm in vms}) == len({vm.path for vm in vms}) == 500


def test_a_process_gets_whole_nodes() -> None:
    nodes = fleet.fleet(100, Path("/s"))
    shards = list(fleet.shards(nodes, most_vms=90))
    assert shards == [nodes[:2], nodes[2:]]


def test_nodes_survive_the_way_through_a_file(tmp_path: Path) -> None:
    nodes = fleet.fleet(50, tmp_path)
    fleet.save(nodes, tmp_path / "nodes")
    assert fleet.load(tmp_path / "nodes") == nodes


def test_percentiles_are_values_that_occurred() -> None:
    assert journal.spread([float(number) for number in range(100, 0, -1)]) == journal.Spread(50.0, 99.0)


def test_a_stage_that_no_vm_went_through_is_an_error() -> None:
    with pytest.raises(ValueError, match="no VM"):
        journal.spread([])


def test_a_vm_whose_beginning_is_not_known_makes_no_stage_shorter() -> None:
    streams = _Streams()
    upgrade = history.write_campaigns(streams, [1], 30)[1]  # type: ignore[arg-type]
    bodies = streams.bodies[journal_of(upgrade)]
    requests = [body for body in bodies if b'"type":"request"' in body]
    without_three = [body for body in bodies if body not in requests[:3]]
    stages = journal.account(without_three).stages
    assert {name: stage.unknown for name, stage in stages.items() if stage.unknown} == {"decision": 3}


def test_a_profile_counts_a_function_by_itself_wherever_it_was_called_from() -> None:
    stacks = ["main (a.py);fold (b.py) 3", "main (a.py);decide (c.py);fold (b.py) 4", "main (a.py) 1"]
    assert profiles.self_times(stacks) == {"fold (b.py)": 7, "main (a.py)": 1}


def test_a_message_counts_once_however_many_records_it_holds() -> None:
    streams = _Streams()
    upgrade = history.write_campaigns(streams, [1], 30)[1]  # type: ignore[arg-type]
    bodies = streams.bodies[journal_of(upgrade)]
    of_controller = 30 + len(("opened", "selected", "sealed", "claim", "closed"))
    each_alone = [Delivery("s", number, body) for number, body in enumerate(bodies)]
    assert traffic.of_relays(each_alone) == len(bodies) - of_controller
    requests = [body for body in bodies if b'"type":"request"' in body]
    assert traffic.of_relays([Delivery("s", 7, body) for body in requests]) == 1


class _Streams:
    """Takes what is published, as the broker does."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}

    def declare_journal(self, name: str) -> None:
        self.bodies[name] = []

    def publish(self, publications: Any) -> list[Publication]:
        for publication in publications:
            self.bodies.setdefault(publication.key, []).append(publication.body)
        return []


def test_a_written_history_is_one_that_the_product_could_have_made() -> None:
    streams = _Streams()
    upgrade = history.write_campaigns(streams, [1, 2], 30)[2]  # type: ignore[arg-type]
    campaign = product_history.fold(streams.bodies[journal_of(upgrade)])
    assert campaign.closed
    assert campaign.strays == 0
    assert campaign.counts() == {"succeeded": 30}
    assert [one["closed"] for one in product_history.campaigns_of(streams.bodies[CAMPAIGNS])] == [True, True]


def test_the_account_of_a_journal_adds_up() -> None:
    streams = _Streams()
    upgrade = history.write_campaigns(streams, [1, 2], 30)[2]  # type: ignore[arg-type]
    bodies = streams.bodies[journal_of(upgrade)]
    account = journal.account(bodies)
    assert (account.records, account.bytes) == (len(bodies), sum(map(len, bodies)))
    assert account.outcomes == {"succeeded": 30}
    assert set(account.stages) == {name for name, _begin, _end in journal.STAGES}
    assert account.tallies["delivered start"].records == 30
