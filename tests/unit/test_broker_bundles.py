# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published together: records of one stream, or commands for VMs of one node, as many as fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils.broker import Publication, bundles
from ansible_collections.isolift.vm.plugins.module_utils.topology import JOURNAL_EXCHANGE, VM_EXCHANGE
from ansible_collections.isolift.vm.plugins.module_utils.wire import BUNDLE_LIMIT, bundled

PUBLICATIONS = st.builds(
    Publication,
    st.sampled_from([JOURNAL_EXCHANGE, VM_EXCHANGE]),
    st.sampled_from(["a", "b"]),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"x" * (BUNDLE_LIMIT // 3), b"x" * BUNDLE_LIMIT])),
    node=st.sampled_from(["", "node1", "node2"]),
)


@given(st.lists(PUBLICATIONS))
def test_all_are_published_in_their_order(publications: list[Publication]) -> None:
    assert [one for bundle in bundles(publications) for one in bundle] == publications


@given(st.lists(PUBLICATIONS))
def test_a_bundle_is_records_of_one_stream_or_commands_for_one_node_within_the_limit(
    publications: list[Publication],
) -> None:
    for bundle in bundles(publications):
        assert len({one.exchange for one in bundle}) == 1
        if bundle[0].exchange == JOURNAL_EXCHANGE:
            assert len({one.key for one in bundle}) == 1
        elif len(bundle) > 1:
            assert {one.node for one in bundle} in ({"node1"}, {"node2"})
        assert len(bundle) == 1 or len(bundled([one.body for one in bundle])) <= BUNDLE_LIMIT


def test_small_records_that_follow_each_other_are_one_bundle() -> None:
    into = [Publication(JOURNAL_EXCHANGE, key, b"record") for key in "aaabba"]
    assert [len(bundle) for bundle in bundles(into)] == [len(list(run)) for _key, run in groupby("aaabba")]


def test_commands_for_a_node_that_follow_each_other_are_one_bundle() -> None:
    sent = [Publication(VM_EXCHANGE, f"vm-{at}", b"{}", node=node) for at, node in enumerate("aab__b")]
    sent = [replace(one, node=one.node.strip("_")) for one in sent]
    assert [len(bundle) for bundle in bundles(sent)] == [2, 1, 1, 1, 1]
