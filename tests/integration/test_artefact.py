# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as users get it: built, installed into an empty directory, and asked what it has."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import paths
from lab.shell import run

PROGRAMS = Path(sys.executable).parent
PLAYBOOKS = sorted(path.stem for path in (paths.REPOSITORY / "playbooks").glob("*.yml"))

Words = list[str | Path]


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing but the installed artefact."""
    directory = tmp_path_factory.mktemp("artefact")
    galaxy: Words = [PROGRAMS / "ansible-galaxy", "collection"]
    run([*galaxy, "build", "--output-path", directory, paths.REPOSITORY], cwd=directory)
    (artefact,) = directory.glob("*.tar.gz")
    # Nothing else is to be found, or galaxy would take the collection for installed.
    alone = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(directory)}
    run(
        [*galaxy, "install", "--offline", "--collections-path", directory, artefact], cwd=directory, env=alone
    )
    return directory


def documented(collections: Path, kind: str) -> dict[str, Any]:
    """What ``ansible-doc`` knows of the collection's plugins of one kind."""
    command: Words = [
        PROGRAMS / "ansible-doc",
        "--type",
        kind,
        "--json",
        "--metadata-dump",
        "--no-fail-on-errors",
        "isolift.vm",
    ]
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(collections), "HOME": str(collections)}
    found = json.loads(run(command, cwd=collections, env={**os.environ, **environment}))
    plugins: dict[str, Any] = found["all"][kind]
    return plugins


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "module",
            "cdrom_media component_iso component_iso_info upgrade_cleanup upgrade_control upgrade_coordinate upgrade_info upgrade_start vm_info",
        ),
        ("callback", "upgrade_results"),
        ("filter", "as_list by_node campaigns_over discs_left key_problem select_vms with_media_results"),
        ("lookup", "campaign_id playbook_command"),
        ("role", "broker compute_relay guest_agent"),
    ],
)
def test_everything_is_documented(collections: Path, kind: str, names: str) -> None:
    plugins = documented(collections, kind)
    assert sorted(plugins) == [f"isolift.vm.{name}" for name in names.split()]
    assert not [name for name, text in plugins.items() if "error" in text]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_is_found_by_its_full_name(collections: Path, name: str) -> None:
    command: Words = [
        PROGRAMS / "ansible-playbook",
        "--syntax-check",
        "-i",
        "localhost,",
        f"isolift.vm.{name}",
    ]
    run(command, cwd=collections, env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections)})


def test_tests_and_tools_stay_at_home(collections: Path) -> None:
    installed = collections / "ansible_collections" / "isolift" / "vm"
    assert (installed / "roles/guest_agent/files/isolift_agent/wire.py").exists()
    for absent in ("tests", "Makefile", ".ci", "pyproject.toml", "ansible.cfg"):
        assert not (installed / absent).exists()
