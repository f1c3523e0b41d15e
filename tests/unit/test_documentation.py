# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is documented of the plugins is what their code takes and gives, where no sanity test compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import yaml
from unit.campaign_rig import REQUEST, Rig

from ansible_collections.isolift.vm.plugins.action import upgrade_coordinate, upgrade_start
from ansible_collections.isolift.vm.plugins.doc_fragments.broker import ModuleDocFragment
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of, history_of
from ansible_collections.isolift.vm.plugins.module_utils.report import result_of, summary_of
from ansible_collections.isolift.vm.plugins.module_utils.wire import encode
from ansible_collections.isolift.vm.plugins.modules import upgrade_coordinate as coordinate_documentation
from ansible_collections.isolift.vm.plugins.modules import upgrade_info
from ansible_collections.isolift.vm.plugins.modules import upgrade_start as start_documentation

ACTIONS = [(upgrade_start, start_documentation), (upgrade_coordinate, coordinate_documentation)]
"""Actions, and the modules that hold nothing but their documentation."""

UNSAID = {"type": "str", "default": None, "choices": None, "required": False, "elements": None}
"""What counts where an option says nothing of it."""


def in_full(options: Mapping[str, Any], nested: str) -> dict[str, Any]:
    """Of each option all that matters to who gives it; those within it stand under ``nested``."""
    return {
        name: {
            **{key: option.get(key, unsaid) for key, unsaid in UNSAID.items()},
            "options": in_full(option.get(nested, {}), nested),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize(("action", "documentation"), ACTIONS, ids=lambda module: module.__name__)
def test_an_action_takes_the_options_that_are_documented(
    action: ModuleType, documentation: ModuleType
) -> None:
    own = yaml.safe_load(documentation.DOCUMENTATION)
    assert own["extends_documentation_fragment"] == ["isolift.vm.broker"]
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)
    documented = {**shared["options"], **own["options"]}
    assert in_full(action.SPEC, "options") == in_full(documented, "suboptions")


@pytest.mark.parametrize("action", [upgrade_start, upgrade_coordinate], ids=lambda module: module.__name__)
def test_an_action_keeps_the_password_and_nothing_else_out_of_the_logs(action: ModuleType) -> None:
    assert [name for name, option in action.SPEC.items() if option.get("no_log")] == ["broker_password"]


def test_upgrade_info_returns_what_is_documented() -> None:
    returned = yaml.safe_load(upgrade_info.RETURN)
    rig = Rig()
    rig.agent(REQUEST)
    journal = [encode(record) for record in rig.journal]
    given = {
        "campaigns": campaigns_of(journal)[0],
        "campaign": summary_of(rig.campaign),
        "upgrade": result_of(rig.upgrade()),
        "history": history_of(journal, rig.upgrade().upgrade_id)[0],
    }
    documented = {name: set(value["contains"]) for name, value in returned.items() if name != "table"}
    assert documented == {name: set(value) for name, value in given.items()}


def test_upgrade_coordinate_returns_what_is_documented() -> None:
    returned = yaml.safe_load(coordinate_documentation.RETURN)
    rig = Rig()
    assert set(returned) == {*summary_of(rig.campaign), "table"}
    assert set(returned["results"]["contains"]) == set(result_of(rig.upgrade()))
