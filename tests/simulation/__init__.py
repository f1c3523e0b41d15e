# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of isolift.vm in one thread: the real cores under a simulated network, clock, disk and broker.

`plan.py` draws from a seed what a run consists of and what goes wrong in it; `world.py` builds the parts and runs them;
`invariants.py` watches every step. The cores are the production code: the campaign, the relay, the agent's lifecycle with its
journal, link and session. What touches the world is simulated: `broker.py`, `port.py`, `disk.py`, `domain.py`, `tasks.py`.
"""
