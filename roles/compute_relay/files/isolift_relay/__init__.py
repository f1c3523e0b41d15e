# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay of a compute node: messages between the broker and the guest agents of its virtual machines.

core.py decides, and is free of I/O; channel.py, broker.py and domains.py each hold one thing outside; shell.py joins them.
"""
