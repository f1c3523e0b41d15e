# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration import journals
from integration.compute_host import ComputeHost, own_host
from integration.deployment import PASSWORD, deploy
from integration.journals import Journals

from ansible_collections.isolift.vm.plugins.module_utils.broker import BrokerOptions


@pytest.fixture(scope="session")
def host() -> Iterator[ComputeHost]:
    """A compute node of the tests' own, on which everything may be broken."""
    with own_host("compute") as host:
        yield host


@pytest.fixture(scope="session")
def own_broker(host: ComputeHost, tmp_path_factory: pytest.TempPathFactory) -> BrokerOptions:
    """The controller's way to a broker of the tests' own, on `host` together with a relay; both may be broken."""
    deploy(tmp_path_factory.mktemp("inventory"), host, host)
    return BrokerOptions(host.address, 5672, "isolift", "isolift_controller", PASSWORD)


@pytest.fixture(scope="session")
def broker_options() -> BrokerOptions:
    """The lab's broker as the controller's user, or the one that ``ISOLIFT_TEST_BROKER`` names as an AMQP URL."""
    return journals.options_of("isolift_controller")


@pytest.fixture(scope="session")
def relay_options() -> BrokerOptions:
    """The same broker as a relay's user."""
    return journals.options_of("isolift_relay")


@pytest.fixture
def journals_of_test(broker_options: BrokerOptions, relay_options: BrokerOptions) -> Iterator[Journals]:
    """Campaigns of the test's own; nothing is left of them."""
    with Journals(broker_options, relay_options) as own:
        yield own
