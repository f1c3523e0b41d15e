# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Component ISOs that something is wrong with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible_collections.isolift.vm.plugins.module_utils.disc import new_disc, open_disc
from ansible_collections.isolift.vm.plugins.module_utils.iso import MANIFEST_PATH, SIGNATURE_PATH
from ansible_collections.isolift.vm.plugins.module_utils.manifest import parse


def contents(iso: Path) -> dict[str, bytes]:
    """Every file of a component ISO, by its path on the disc."""
    with open_disc(str(iso)) as disc:

        def read(name: str) -> bytes:
            with disc.open(name) as stream:
                return stream.read()

        manifest = read(MANIFEST_PATH)
        names = [MANIFEST_PATH, SIGNATURE_PATH, *(entry.path for entry in parse(manifest).files)]
        return {name: read(name) for name in names}


def write(target: Path, files: Mapping[str, bytes]) -> Path:
    """An ISO of exactly these files, at ``target``."""
    with new_disc() as disc, target.open("wb") as stream:
        for name, data in files.items():
            disc.add_bytes(name, data)
        disc.write(stream)
    return target
