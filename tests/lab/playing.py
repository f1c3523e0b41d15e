# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run our playbooks on the lab as an operator would, and read what came of it from the broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of, fold
from ansible_collections.isolift.vm.plugins.module_utils.report import summary_of
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal

from . import paths, settings
from .errors import LabError


@dataclass(frozen=True)
class Run:
    """How a playbook ended: its exit status and all that it printed."""

    status: int
    output: str


def ansible(
    *arguments: str,
    command: str = "ansible-playbook",
    show: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> Run:
    """Run an Ansible command on the lab's inventory, from the checkout; with ``show`` its output is shown as it comes."""
    words = [command, "-i", str(paths.INVENTORY), *arguments]
    for name, value in (variables or {}).items():
        words += ["-e", settings.extra_variable(name, value)]
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        words,
        cwd=paths.REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if show:
            print(line, end="", flush=True)
    return Run(process.wait(), "".join(lines))


def require(run: Run, what: str) -> None:
    """Go on only if ``run`` succeeded.

    :raise LabError: it did not; the end of its output is in the text.
    """
    if run.status != 0:
        raise LabError(f"{what} failed with status {run.status}:\n{run.output[-6000:]}")


def deploy(show: bool = False) -> None:
    """Put broker and relays on the nodes, with our own roles.

    :raise LabError: the play fails.
    """
    require(ansible("playbooks/site.yml", show=show), "deploying broker and relays")


def build_iso(version: str, *arguments: str) -> Path:
    """Build the ISO of the demo's component with our own module.

    :raise LabError: the module fails.
    """
    target = paths.CACHE / "iso" / f"guest-tools-{version}.iso"
    target.parent.mkdir(exist_ok=True)
    variables = {"component_version": version, "component_iso": str(target)}
    require(ansible("tests/lab/component.yml", *arguments, variables=variables), "building the ISO")
    return target


def broker_options() -> BrokerOptions:
    """The lab's broker, as the controller sees it."""
    return BrokerOptions(
        host=settings.BROKER_HOST,
        port=5672,
        vhost="isolift",
        username="isolift_controller",
        password=settings.CONTROLLER_PASSWORD,
    )


def newest_campaign() -> str:
    """The ID of the campaign that was begun last.

    :raise LabError: there is none.
    """
    with Broker(broker_options()) as broker:
        campaigns = campaigns_of(broker.campaigns())
    if not campaigns:
        raise LabError("the broker has no campaign")
    return str(campaigns[0]["campaign_id"])


def summary(campaign_id: str) -> dict[str, Any]:
    """The campaign as its journal tells it: the same data as upgrade_info returns."""
    with Broker(broker_options()) as broker:
        return summary_of(fold(broker.read_all(journal(campaign_id))))
