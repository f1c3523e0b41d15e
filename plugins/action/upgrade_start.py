# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of upgrade_start: begins a campaign from the control node.

It is no module because thousands of VMs would have to be handed to one as text, and it would load anew what is loaded here.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.isolift.vm.plugins.module_utils.beginning import start
from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    BrokerError,
)
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import CampaignError, HalfBegun
from ansible_collections.isolift.vm.plugins.module_utils.conditions import ConditionError
from ansible_collections.isolift.vm.plugins.module_utils.records import FAILURES

SPEC: dict[str, dict[str, Any]] = {
    **ARGUMENT_SPEC,
    "campaign_id": {"type": "str", "required": True},
    "component": {"type": "str", "required": True},
    "target_version": {"type": "str", "required": True},
    "iso_sha256": {"type": "str", "required": True},
    "manifest_sha256": {"type": "str", "required": True},
    "media_path": {"type": "str", "required": True},
    "vms": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "vm": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
            "reason": {"type": "str", "default": ""},
        },
    },
    "deadline_s": {"type": "float", "default": 3600},
    "permit_s": {"type": "float", "default": 900},
    "request_s": {"type": "float", "default": 900},
    "verify_s": {"type": "float", "default": 1800},
    "install_s": {"type": "float", "default": 7200},
    "at_once": {"type": "int", "default": 0},
    "failures": {
        "type": "list",
        "elements": "str",
        "choices": [
            "failed",
            "declined",
            "expired",
            "ineligible",
            "unreachable",
            "timed_out",
            "cancelled",
            "interrupted",
        ],
        "default": list(FAILURES),
    },
    "overlap": {"type": "str", "choices": ["refuse", "queue"], "default": "refuse"},
    "consent": {"type": "str", "choices": ["auto", "ask"], "default": "ask"},
    "prompt": {"type": "str", "default": ""},
    "conditions": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Begins one campaign."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begin it; in check mode, find out whether it could be.

        :raises AnsibleActionFail: an argument or the control node lacks something.
        """
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(SPEC)
        if PIKA_ERROR is not None:
            raise AnsibleActionFail(
                "upgrade_start needs the Python library pika on the control node: pip install pika"
            )
        try:
            result = start(arguments, self._task.check_mode)
        except HalfBegun as error:
            return {"failed": True, "msg": str(error)}
        except (BrokerError, CampaignError, ConditionError, ValueError) as error:
            return {
                "failed": True,
                "msg": f"The campaign was not begun, and no VM was told to start: {error}",
            }
        for warning in result.pop("warnings"):
            self._display.warning(warning)
        return result
