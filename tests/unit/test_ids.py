# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaign IDs and upgrade IDs: the layout of RFC 9562, and which journal an ID names."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils import ids, topology

TIMES = st.integers(0, 2**48 - 1)
RANDOM = st.binary(min_size=10, max_size=10)
VMS = st.uuids().map(str)
ATTEMPTS = st.integers(1, 1000)

CAMPAIGN = "0192f0e0-1111-7abc-8def-0123456789ab"
VM = "2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11"


@given(TIMES, RANDOM)
def test_a_campaign_id_is_a_uuid7_that_holds_the_time_and_all_random_bits_but_six(
    unix_ms: int, random: bytes
) -> None:
    made = UUID(ids.campaign_id(unix_ms, random))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == unix_ms
    bits = int.from_bytes(random, "big")
    assert (made.int >> 64) & 0xFFF == bits & 0xFFF
    assert made.int & (2**62 - 1) == (bits >> 12) & (2**62 - 1)


@given(TIMES, RANDOM, VMS, ATTEMPTS)
def test_an_upgrade_id_is_a_uuid8_that_repeats_its_campaigns_time_and_random_bits(
    unix_ms: int, random: bytes, vm: str, attempt: int
) -> None:
    campaign = ids.campaign_id(unix_ms, random)
    made = UUID(ids.upgrade_id(campaign, vm, attempt))
    assert (made.version, made.variant) == (8, RFC_4122)
    assert made.int >> 80 == unix_ms
    assert (made.int >> 64) & 0xFFF == (UUID(campaign).int >> 64) & 0xFFF


@given(TIMES, RANDOM, VMS, ATTEMPTS)
def test_a_campaign_and_all_its_upgrades_name_one_journal(
    unix_ms: int, random: bytes, vm: str, attempt: int
) -> None:
    campaign = ids.campaign_id(unix_ms, random)
    upgrade = ids.upgrade_id(campaign, vm, attempt)
    assert ids.journal_key(upgrade) == ids.journal_key(campaign)
    assert ids.journal_key(campaign) == f"{unix_ms:012x}" + campaign.replace("-", "")[13:16]
    assert topology.journal(upgrade) == topology.journal(campaign)


@given(st.tuples(TIMES, RANDOM), st.tuples(TIMES, RANDOM))
def test_campaigns_that_differ_in_time_have_different_journals_in_the_order_of_time(
    one: tuple[int, bytes], other: tuple[int, bytes]
) -> None:
    first, second = ids.campaign_id(*one), ids.campaign_id(*other)
    if one[0] < other[0]:
        assert ids.journal_key(first) < ids.journal_key(second)


def test_an_upgrade_id_never_changes_between_versions_of_this_program() -> None:
    assert ids.upgrade_id(CAMPAIGN, VM, 1) == "0192f0e0-1111-8abc-ac32-e8b010494836"


@given(VMS, VMS, ATTEMPTS, ATTEMPTS)
def test_another_vm_or_attempt_is_another_upgrade(vm: str, other_vm: str, attempt: int, other: int) -> None:
    same = (vm, attempt) == (other_vm, other)
    assert (ids.upgrade_id(CAMPAIGN, vm, attempt) == ids.upgrade_id(CAMPAIGN, other_vm, other)) is same


def test_the_spelling_of_a_uuid_does_not_matter() -> None:
    assert ids.upgrade_id(CAMPAIGN.upper(), VM.upper(), 1) == ids.upgrade_id(CAMPAIGN, VM, 1)


@pytest.mark.parametrize("unix_ms", [-1, 2**48])
def test_a_time_that_does_not_fit_is_refused(unix_ms: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        ids.campaign_id(unix_ms, bytes(10))


@pytest.mark.parametrize("count", [0, 9, 11])
def test_too_little_or_too_much_randomness_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count}"):
        ids.campaign_id(0, bytes(count))


@pytest.mark.parametrize("text", ["", "x", CAMPAIGN[:-1], CAMPAIGN + "0"])
def test_what_is_no_uuid_names_no_journal_and_no_upgrade(text: str) -> None:
    with pytest.raises(ValueError):
        ids.journal_key(text)
    with pytest.raises(ValueError):
        ids.upgrade_id(text, VM, 1)
    with pytest.raises(ValueError):
        ids.upgrade_id(CAMPAIGN, text, 1)


def test_a_vms_uuid_is_no_campaign_and_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="neither a campaign ID"):
        topology.journal(VM)


@given(st.text(max_size=300))
def test_a_nodes_key_fits_into_amqp_and_is_no_uuid(node: str) -> None:
    key = topology.node_key(node)
    assert len(key.encode("utf-8")) <= 255
    assert key == f"node.{node}" or len(f"node.{node}".encode()) > 255
