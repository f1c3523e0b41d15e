# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's list of mounts, with names in it that a guest's users chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from isolift_agent import mounts

REST = b"rw,relatime shared:1 - fuse.x x rw\n"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the kernel's list."""
    place = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "_LIST", place)
    return place


def test_a_mount_is_found_by_its_whole_path(listed: Path) -> None:
    listed.write_bytes(b"22 1 8:1 / / " + REST + b"36 22 0:47 / /run/isolift/media\\040two " + REST)
    assert mounted("/") and mounted("/run/isolift/media two")
    assert not mounted("/run/isolift/media")


@pytest.mark.parametrize("separator", ["\r", "\v", "\f", "\x1c"])
def test_no_name_of_a_mount_is_taken_for_another_mount(listed: Path, separator: str) -> None:
    faked = separator.join(("/home/user/a", "b", "c", "d", "e", "/run/isolift/media"))
    listed.write_bytes(b"22 1 8:1 / / " + REST + f"36 22 0:47 / {faked} ".encode() + REST)
    assert not mounted("/run/isolift/media")
    assert mounts.below(Path("/run")) == []
    assert mounts.below(Path("/home")) == [faked]


def mounted(path: str) -> bool:
    return mounts.mounted(Path(path))
