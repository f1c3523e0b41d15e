# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Ansible on the lab as an operator would: deploy our roles, build an ISO, run a playbook."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import paths, settings
from .errors import LabError
from .progress import Progress

_COLLECTION = paths.COLLECTIONS / "ansible_collections" / "isolift" / "vm"
_DEPLOYED = paths.RUN / "deployed"
QUIET_S = 4.0
"""Seconds after which a deployment says what it is doing."""

SOME_FAILED = 2
"""Exit status of a playbook in which a task failed: upgrade.yml does so at its end if upgrades did."""


@dataclass(frozen=True)
class Run:
    """How a playbook ended: its exit status and all that it printed."""

    status: int
    output: str


def ansible(
    *arguments: str,
    command: str = "ansible-playbook",
    inventory: Path = paths.INVENTORY,
    variables: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    show: Callable[[str], None] | None = None,
) -> Run:
    """Run an Ansible command on the lab, from the checkout; ``show`` is called with each line as it comes."""
    lines: list[str] = []
    words = [command, "-i", str(inventory), *arguments, *_extra_variables(variables or {})]
    with subprocess.Popen(
        words,
        cwd=paths.REPOSITORY,
        env=_environment(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if show is not None:
                show(line.rstrip("\n"))
    return Run(process.returncode, "".join(lines))


def begin(
    playbook: str,
    log: Path,
    *,
    variables: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Begin to run a playbook on the lab, in a session of its own; what it prints is added to ``log``."""
    words = ["ansible-playbook", "-i", str(paths.INVENTORY), playbook, *_extra_variables(variables or {})]
    with log.open("ab") as output:
        return subprocess.Popen(
            words,
            cwd=paths.REPOSITORY,
            env=_environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _extra_variables(variables: Mapping[str, Any]) -> list[str]:
    return [
        word for name, value in variables.items() for word in ("-e", settings.extra_variable(name, value))
    ]


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", **own}


def require(run: Run, what: str, status: int = 0) -> None:
    """Go on only if ``run`` ended with ``status``.

    :raise LabError: it did not; the end of its output is in the text.
    """
    if run.status != status:
        raise LabError(f"{what} failed with status {run.status}:\n{run.output[-6000:]}")


def deploy(progress: Progress) -> None:
    """Put broker and relays on the nodes, with our own roles; not again until the installed collection changes.

    :raise LabError: the play fails.
    """
    installed = hashlib.sha256((_COLLECTION / "FILES.json").read_bytes()).hexdigest()
    if _DEPLOYED.exists() and _DEPLOYED.read_text() == installed:
        progress.say("broker and relays: already deployed")
        return
    progress.say("broker and relays: deploying (playbooks/site.yml)")

    said_at = progress.elapsed

    def show(line: str) -> None:
        nonlocal said_at
        if line.startswith("PLAY [") or (line.startswith("TASK [") and progress.elapsed - said_at > QUIET_S):
            said_at = progress.elapsed
            progress.say(f"  {line.strip(' *')}")

    require(ansible("playbooks/site.yml", show=show), "deploying broker and relays")
    _DEPLOYED.write_text(installed)
    progress.say("broker and relays: deployed")


def build_iso(version: str, *arguments: str) -> Path:
    """Build the ISO of the demo's component with our own module.

    :raise LabError: the module fails.
    """
    target = paths.CACHE / "iso" / f"guest-tools-{version}.iso"
    target.parent.mkdir(exist_ok=True)
    variables = {"component_version": version, "component_iso": str(target)}
    require(ansible("tests/lab/component.yml", *arguments, variables=variables), "building the ISO")
    return target
