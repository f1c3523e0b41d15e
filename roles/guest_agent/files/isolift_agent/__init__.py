# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent: upgrades a component from the ISO in the VM's drive, on the word of the controller."""

from __future__ import annotations

__version__ = "0.1.0"
