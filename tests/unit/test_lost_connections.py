# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules say when the connection is lost while they write: not that nothing was written."""

from __future__ import annotations

from typing import Any

import pytest
from unit.campaign_rig import CAMPAIGN, Rig, vm_uuid
from unit.list_broker import Clock, ListBroker

from ansible_collections.isolift.vm.plugins.action import upgrade_start
from ansible_collections.isolift.vm.plugins.module_utils import beginning
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerError
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import HalfBegun
from ansible_collections.isolift.vm.plugins.module_utils.wire import encode
from ansible_collections.isolift.vm.plugins.modules import upgrade_control


def defaults(spec: dict[str, dict[str, Any]], **given: Any) -> dict[str, Any]:
    """The module's arguments, of which ``given`` are set."""
    values = {name: option.get("default") for name, option in spec.items()}
    return {**values, "broker_host": "broker", "broker_password": "secret", **given}


def lose_connections_of(module: Any, monkeypatch: pytest.MonkeyPatch, **broker: bool) -> None:
    log = [encode(record) for record in Rig(2).journal]
    monkeypatch.setattr(module, "Broker", lambda _options: ListBroker(Clock(), log, **broker))


@pytest.mark.parametrize("lost", [{"stores": False}, {"bound": False}])
def test_a_wish_that_may_have_been_written_is_not_called_nothing(
    lost: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that was just restarted returns what it would take a moment later."""
    lose_connections_of(upgrade_control, monkeypatch, **lost)
    arguments = defaults(upgrade_control.SPEC, campaign_id=CAMPAIGN, action="cancel")
    with pytest.raises(
        upgrade_control.WishUnknown, match="not known whether the wish was written.*Run it again"
    ):
        upgrade_control.control(arguments, check_mode=False)


def test_a_wish_about_a_campaign_that_was_deleted_meanwhile_is_called_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_connections_of(upgrade_control, monkeypatch, bound=False)
    monkeypatch.setattr(ListBroker, "stream_exists", lambda _broker, _name: False)
    arguments = defaults(upgrade_control.SPEC, campaign_id=CAMPAIGN, action="cancel")
    with pytest.raises(BrokerError, match="is gone or not bound"):
        upgrade_control.control(arguments, check_mode=False)


def test_a_campaign_that_may_have_been_begun_can_be_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    lose_connections_of(beginning, monkeypatch, stores=False)
    arguments = defaults(
        upgrade_start.SPEC,
        campaign_id=CAMPAIGN,
        component="guest-tools",
        target_version="2.0.0",
        iso_sha256="a" * 64,
        manifest_sha256="b" * 64,
        media_path=f"/media/{CAMPAIGN}/{'a' * 64}.iso",
        vms=[{"vm": vm_uuid(0), "name": "desk-0", "node": "node0", "reason": ""}],
    )
    with pytest.raises(HalfBegun, match=f"-e campaign_id={CAMPAIGN} goes on with it"):
        beginning.start(arguments, check_mode=False)
