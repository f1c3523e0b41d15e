# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook and learn how long each of its tasks took."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from integration.compute_host import ComputeHost

from lab import plays


def seconds_of_tasks(
    host: ComputeHost, playbook: Path, variables: Mapping[str, Any]
) -> dict[str, list[float]]:
    """The seconds that the tasks of ``playbook`` took on ``host``, by their names, as Ansible's own report has them.

    :raise LabError: the playbook failed.
    """
    with tempfile.TemporaryDirectory() as reports:
        environment = {
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit",
            "JUNIT_OUTPUT_DIR": reports,
            "JUNIT_HIDE_TASK_ARGUMENTS": "true",
        }
        done = plays.ansible(
            str(playbook), inventory=host.inventory, variables=variables, environment=environment
        )
        plays.require(done, playbook.name)
        [report] = Path(reports).glob("*.xml")
        found: dict[str, list[float]] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            name = case.get("name", "").rpartition(": ")[2]
            found.setdefault(name, []).append(float(case.get("time", "")))
        return found
