# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin a campaign, as upgrade_start's arguments describe it."""

from __future__ import annotations

import os
import posixpath
import socket
import time
from typing import Any

from .broker import Broker
from .broker_errors import BrokerError
from .broker_options import BrokerOptions
from .campaign import SKEW_S
from .campaign_errors import HalfBegun
from .conditions import Conditions
from .coordinator import Coordinator, rehearse
from .media import parse_path
from .overlap import require_free
from .records import Opened, Row
from .upgrade import INELIGIBLE_REASONS

PERMIT_LEAST_S = 2 * SKEW_S
"""Shorter permits could run out at once on a compute node whose clock is ahead, again and again."""


def opened_from(arguments: dict[str, Any], host: str, now: float) -> Opened:
    """The campaign's opening record.

    :raises ValueError: an option that no campaign can have; the text names it.
    """
    place = parse_path(arguments["media_path"], posixpath.dirname(posixpath.dirname(arguments["media_path"])))
    if place != (arguments["campaign_id"], arguments["iso_sha256"]):
        raise ValueError(
            f"media_path {arguments['media_path']} is not <media_dir>/<campaign_id>/<iso_sha256>.iso of this campaign"
        )
    for name in ("deadline_s", "permit_s", "request_s", "verify_s", "install_s"):
        if not arguments[name] > 0:
            raise ValueError(f"{name} must be more than 0 seconds, not {arguments[name]:g}")
    if arguments["permit_s"] < PERMIT_LEAST_S:
        raise ValueError(
            f"permit_s must be at least {PERMIT_LEAST_S:g} seconds, not {arguments['permit_s']:g}"
        )
    if arguments["at_once"] < 0:
        raise ValueError(f"at_once must be a number of VMs, or 0 for no limit, not {arguments['at_once']}")
    if not arguments["vms"]:
        raise ValueError("vms is empty: there is nothing to upgrade")
    return Opened(
        component=arguments["component"],
        target_version=arguments["target_version"],
        iso_sha256=arguments["iso_sha256"],
        manifest_sha256=arguments["manifest_sha256"],
        media_path=arguments["media_path"],
        deadline=now + arguments["deadline_s"],
        permit_s=arguments["permit_s"],
        consent=arguments["consent"],
        prompt=arguments["prompt"],
        conditions=tuple(arguments["conditions"]),
        opened_by=host,
        request_s=arguments["request_s"],
        verify_s=arguments["verify_s"],
        install_s=arguments["install_s"],
        failures=tuple(arguments["failures"]),
        at_once=arguments["at_once"],
    )


def start(arguments: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Begin the campaign that ``arguments``, upgrade_start's options, describe; what upgrade_start returns, and ``warnings``.

    :raises HalfBegun: see there; the text says what to do.
    :raises BrokerError, CampaignError, ConditionError, ValueError: nothing was begun.
    """
    host = socket.gethostname()
    conditions = Conditions(arguments["conditions"])
    conditions.require_known_facts()
    opened = opened_from(arguments, host, time.time())
    rows = [_row(vm) for vm in arguments["vms"]]
    rehearse(arguments["campaign_id"], opened, rows)
    warnings: list[str] = []
    with Broker(BrokerOptions.from_arguments(arguments)) as broker:
        if arguments["overlap"] == "refuse":
            require_free(broker, [row.vm for row in rows], time.time())
        if not check_mode:
            coordinator = Coordinator(broker, arguments["campaign_id"], os.urandom(8).hex(), host)
            try:
                coordinator.begin(opened, rows)
            except HalfBegun as error:
                raise HalfBegun(
                    f"Beginning the campaign was broken off, so it is not known how far it came: {error}. "
                    f"isolift.vm.upgrade -e campaign_id={arguments['campaign_id']} goes on with it, or says that it was never begun"
                ) from error
            try:
                coordinator.settle(conditions.judge)
            except BrokerError as error:
                warnings.append(
                    f"The campaign is begun, but not every start was sent; upgrade_coordinate sends them: {error}"
                )
    return {
        "warnings": warnings,
        "changed": True,
        "campaign_id": arguments["campaign_id"],
        "deadline": opened.deadline,
        "selected": len(rows),
        "started": sum(not row.unfit for row in rows),
    }


def _row(vm: dict[str, str]) -> Row:
    """A selected VM as the journal lists it. What else is known against it may pass: the relay tries again."""
    unfit = vm["reason"] if vm["reason"] in INELIGIBLE_REASONS else ""
    return Row(vm["vm"], vm["name"], vm["node"], unfit)
