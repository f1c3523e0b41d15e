# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker options of the modules, and what errors tell people to look at."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    BrokerError,
    BrokerOptions,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import check


def options(**given: Any) -> BrokerOptions:
    defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    return BrokerOptions.from_arguments({**defaults, "broker_password": "secret", **given})


def test_the_port_follows_from_tls_unless_it_is_set() -> None:
    assert options().port == 5672
    assert options(broker_ca_cert="/etc/ca.pem").port == 5671
    assert options(broker_ca_cert="/etc/ca.pem", broker_port=5672).port == 5672
    assert options(broker_port=5671).port == 5671


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(BrokerError, match="broker_timeout must be seconds above 0"):
        options(broker_timeout=seconds)


def test_a_cluster_is_several_hosts_with_commas_between_them() -> None:
    cluster = options(broker_host=" one, two,three,")
    assert [node.host for node in cluster.nodes()] == ["one", "two", "three"]
    assert {node.port for node in cluster.nodes()} == {5672}
    with pytest.raises(BrokerError, match="broker_host names no host"):
        options(broker_host=" , ")


def test_another_connection_begins_behind_the_host_of_the_one_before() -> None:
    cluster = options(broker_host="one,two,three")
    assert cluster.after("one").host == "two,three,one"
    assert cluster.after("three").host == "one,two,three"
    assert options(broker_host="one").after("one").host == "one"


def test_an_error_names_what_to_look_at_for_tasks_and_for_playbooks() -> None:
    assert check("broker_host", "broker_port") == (
        "check broker_host and broker_port (isolift_broker_host and isolift_broker_port in the playbooks)"
    )
