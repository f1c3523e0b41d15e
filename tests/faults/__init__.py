# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real faults: kill a part of the running lab at a chosen moment of an upgrade, and see that the upgrade ends as it should."""

from __future__ import annotations
