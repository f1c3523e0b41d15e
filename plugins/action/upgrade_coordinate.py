# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of upgrade_coordinate: runs the coordinator on the control node."""

from __future__ import annotations

import gc
import socket
import time
from typing import Any, Callable

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    Broker,
    BrokerError,
    BrokerOptions,
    Connector,
    NoSuchStream,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import no_campaign
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import CampaignError, NeverSealed
from ansible_collections.isolift.vm.plugins.module_utils.command import playbook_command
from ansible_collections.isolift.vm.plugins.module_utils.conditions import ConditionError, Conditions
from ansible_collections.isolift.vm.plugins.module_utils.conductor import Conductor
from ansible_collections.isolift.vm.plugins.module_utils.history import fold
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_time
from ansible_collections.isolift.vm.plugins.module_utils.report import (
    closing_lines,
    sum_line,
    summary_of,
)
from ansible_collections.isolift.vm.plugins.module_utils.text import printable
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal

SPEC: dict[str, dict[str, Any]] = {**ARGUMENT_SPEC, "campaign_id": {"type": "str", "required": True}}

SHOW_EVERY_S = 10.0
SHOW_UNCHANGED_EVERY_S = 60.0


class ActionModule(ActionBase):  # type: ignore[misc]
    """Conducts one campaign and returns its summary."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run until every upgrade has an outcome.

        :raises AnsibleActionFail: the broker fails or the campaign cannot be conducted; it can be resumed.
        """
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(SPEC)
        if PIKA_ERROR is not None:
            raise AnsibleActionFail(
                "upgrade_coordinate needs the Python library pika on the control node: pip install pika"
            )
        campaign_id = arguments["campaign_id"]
        try:
            campaign_time(campaign_id)
        except ValueError as error:
            raise AnsibleActionFail(f"campaign_id: {error}.") from error
        sources = (task_vars or {}).get("ansible_inventory_sources") or []
        resume = playbook_command("upgrade", sources, C.DEFAULT_HOST_LIST, {"campaign_id": campaign_id})
        self._display.display(f"Should this be stopped, go on with: {resume}")
        options = BrokerOptions.from_arguments(arguments)
        try:
            if self._task.check_mode:
                campaign = _look(options, campaign_id)
            else:
                campaign = self._conduct(options, campaign_id)
        except NoSuchStream as error:
            raise AnsibleActionFail(f"There is nothing to conduct: {no_campaign(campaign_id)}.") from error
        except NeverSealed as error:
            raise AnsibleActionFail(
                f"There is nothing to conduct: {error}. isolift.vm.cleanup ejects the discs that it left, once its deadline has passed."
            ) from error
        except (BrokerError, CampaignError, ConditionError, ValueError) as error:
            raise AnsibleActionFail(
                f"Campaign {campaign_id} is not conducted here any more: {error}. Nothing is lost. Unless another run "
                f"conducts it: {resume}"
            ) from error
        summary = summary_of(campaign, every_log=False)  # of thousands it would be copied again and again
        return {"changed": not self._task.check_mode, "table": closing_lines(summary), **summary}

    def _conduct(self, options: BrokerOptions, campaign_id: str) -> Campaign:
        def say(text: str) -> None:
            self._display.display(printable(text, 1000))

        conductor = Conductor(
            connect=Connector(options, say),
            campaign_id=campaign_id,
            host=socket.gethostname(),
            judge_of=lambda opened: Conditions(opened.conditions).judge,
            watch=self._watch(),
            say=say,
        )
        gc.freeze()  # this worker's inheritance from Ansible need not be looked through, and so copied, with every collection
        return conductor.run()

    def _watch(self) -> Callable[[Campaign], None]:
        """Show the counts now and then: often while they change, else seldom."""
        shown, shown_at = "", time.monotonic()

        def watch(campaign: Campaign) -> None:
            nonlocal shown, shown_at
            silent = time.monotonic() - shown_at
            if silent < SHOW_EVERY_S:
                return
            counts = sum_line(campaign.counts())
            if counts != shown or silent >= SHOW_UNCHANGED_EVERY_S:
                shown, shown_at = counts, time.monotonic()
                self._display.display(counts)

        return watch


def _look(options: BrokerOptions, campaign_id: str) -> Campaign:
    with Broker(options) as broker:
        campaign = fold(broker.read_all(journal(campaign_id)))
    if campaign.campaign_id != campaign_id:
        raise no_campaign(campaign_id)
    return campaign
