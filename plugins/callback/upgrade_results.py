# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_results
type: notification
short_description: Show an upgrade campaign's results from the queue, live and as a closing table
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - While M(isolift.vm.upgrade_coordinate) runs, this callback reads the campaign's journal from the broker and shows each change by
    VM and upgrade ID. When the task ends it shows the closing table. Of more than 200 upgrades that table has only those that did not
    succeed, 200 at most; the playbook C(isolift.vm.status) with the campaign's ID lists them all.
  - It finds the broker by the options of the M(isolift.vm.upgrade_start) or M(isolift.vm.upgrade_info) task before it in the same playbook,
    so it needs no settings of its own.
  - Where it cannot read the journal it says so once and shows the table from the task's own result.
requirements:
  - enable in configuration, C(callbacks_enabled = isolift.vm.upgrade_results)
  - pika >= 1.2.0
options:
  live:
    description:
      - V(all) shows every change of every VM.
      - V(outcomes) shows each VM's outcome.
      - V(summary) leaves it at the counts, which M(isolift.vm.upgrade_coordinate) shows from time to time in any case, and reads nothing.
      - V(auto) is V(all) for up to 20 VMs, V(outcomes) for up to 200, and V(summary) for more.
    type: str
    choices: [auto, all, outcomes, summary]
    default: auto
    ini:
      - section: callback_upgrade_results
        key: live
    env:
      - name: ISOLIFT_RESULTS_LIVE
"""

import threading
import time
from typing import Any, Callable

from ansible.plugins.callback import CallbackBase

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    Broker,
    BrokerOptions,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerError, BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS
from ansible_collections.isolift.vm.plugins.module_utils.report import (
    LISTED_MOST,
    closing_lines,
    line,
    result_of,
    summary_of,
)
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import WireError, decode

START = "isolift.vm.upgrade_start"
INFO = "isolift.vm.upgrade_info"
COORDINATE = "isolift.vm.upgrade_coordinate"

CHANGES_MOST = 20
"""Most VMs of a campaign of which every change is shown if nothing else was asked for; of up to `LISTED_MOST` the outcomes are."""

FINISH_S = 10.0
"""Seconds to wait for the journal's end once the coordinator is done."""

RETRY_S = 2.0
"""Seconds between two tries to connect to a broker that is away."""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Follows the campaign that the play coordinates."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "isolift.vm.upgrade_results"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._campaign_id = ""
        self._vms = 0
        self._broker: BrokerOptions | None = None
        self._follower: Follower | None = None
        self._warned = False

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Begin to follow when the coordinator starts."""
        if _name(task) != COORDINATE or task.check_mode or not self._campaign_id or self._broker is None:
            return
        if PIKA_ERROR is not None:
            self._warn("the Python library pika is missing on the control node")
            return
        mode = self.mode(self.get_option("live"), self._vms)
        if mode == "summary":
            return  # to read every record a second time would cost as much as the coordinator's own work
        live = Live(mode, self._display.display)
        self._follower = Follower(self._broker, self._campaign_id, live)
        self._follower.start()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Learn of the campaign, or show the closing table."""
        action = _name(result.task)
        if action in (START, INFO):
            self._learn(result)
        elif action == COORDINATE:
            self._close(_table(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The coordinator gave up: show how far the campaign came, if it was followed."""
        if _name(result.task) == COORDINATE:
            self._close([])

    @staticmethod
    def mode(live: str, vms: int) -> str:
        """How a campaign of so many VMs is shown under that option."""
        if live != "auto":
            return live
        if vms > LISTED_MOST:
            return "summary"
        return "outcomes" if vms > CHANGES_MOST else "all"

    def _learn(self, result: Any) -> None:
        campaign = result.result.get("campaign") or result.result
        arguments = result.task_fields.get("args") or {}
        if not campaign.get("campaign_id") or not arguments.get("broker_password"):
            return
        values: dict[str, Any] = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        values.update({name: arguments[name] for name in values if arguments.get(name) is not None})
        if values["broker_port"] is not None:
            values["broker_port"] = int(values["broker_port"])
        values["broker_timeout"] = float(values["broker_timeout"])
        self._campaign_id = campaign["campaign_id"]
        self._vms = int(campaign.get("selected") or 0)
        self._broker = BrokerOptions.from_arguments(values)

    def _close(self, fallback: list[str]) -> None:
        lines = fallback
        if self._follower is not None:
            problem = self._follower.finish()
            if problem:
                self._warn(problem)
            elif self._follower.complete or not fallback:
                lines = self._follower.table()
            self._follower = None
        if lines:
            self._display.display("\n".join(["", *lines]))

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            self._display.warning(f"upgrade_results shows no live results: {problem}")


class Live:
    """What is shown of the VMs while the campaign runs: ``all`` changes, or the ``outcomes``."""

    def __init__(self, mode: str, show: Callable[[str], None]) -> None:
        self._mode = mode
        self._show = show
        self._shown: dict[str, State] = {}
        self._began = time.monotonic()

    def changed(self, campaign: Campaign, vms: set[str]) -> None:
        """Show what there is to show of the upgrades that changed."""
        for vm in sorted(vms, key=lambda uuid: campaign.upgrades[uuid].name):
            upgrade = campaign.upgrades[vm]
            if self._shown.get(vm) is not upgrade.state and (upgrade.final or self._mode == "all"):
                self._shown[vm] = upgrade.state
                self._show(f"[{time.monotonic() - self._began:6.1f} s] {line(result_of(upgrade))}")


def _name(task: Any) -> str:
    """The full name of a task's action, also where the play uses a short one."""
    return str(task.resolved_action or task.action)


def _table(result: Any) -> list[str]:
    """The closing table that the coordinator returned.

    Its result is read as Ansible holds it, where it can be: the property ``result`` first makes plain values of what thousands of upgrades
    came to, which takes longer than all else that is done here.
    """
    returned = getattr(result, "_return_data", None)
    if returned is None:
        returned = result.result
    return [str(line) for line in returned.get("table") or []]


class Follower:
    """Reads one campaign's journal in a thread of its own."""

    def __init__(self, options: BrokerOptions, campaign_id: str, live: Live) -> None:
        self._options = options
        self._campaign_id = campaign_id
        self._campaign = Campaign(campaign_id)
        self._journal = journal(campaign_id)
        self._live = live
        self._problem = ""
        self._finish_by = float("inf")
        self._thread = threading.Thread(target=self._run, name="upgrade_results", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def finish(self) -> str:
        """Read to the campaign's end, but not for long; return what went wrong, if anything."""
        self._finish_by = time.monotonic() + FINISH_S
        self._thread.join(FINISH_S + self._options.timeout)
        return self._problem

    @property
    def complete(self) -> bool:
        """Whether the campaign was read to its end."""
        return self._campaign.closed

    def table(self) -> list[str]:
        """The closing table."""
        return closing_lines(summary_of(self._campaign))

    def _run(self) -> None:
        while not self._campaign.closed and time.monotonic() < self._finish_by:
            try:
                self._read()
            except BrokerLost as error:
                self._problem = str(error)
                time.sleep(RETRY_S)  # the coordinator says that the broker is away
            except (BrokerError, ValueError) as error:
                self._problem = str(error)
                return

    def _read(self) -> None:
        """Read the journal from its first record, until the campaign is closed or the connection is lost."""
        with Broker(self._options) as broker:
            broker.read(self._journal)
            self._campaign, self._problem = Campaign(self._campaign_id), ""
            while not self._campaign.closed and time.monotonic() < self._finish_by:
                self._take(broker)

    def _take(self, broker: Broker) -> None:
        changed: set[str] = set()
        for delivery in broker.poll(1.0):
            try:
                message = decode(delivery.body, RECORDS)
            except WireError:
                continue  # counted and reported by the coordinator
            upgrade = self._campaign.apply(message)
            if upgrade is not None:
                changed.add(upgrade.vm)
        self._live.changed(self._campaign, changed)
