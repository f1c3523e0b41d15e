# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback: writes when each task began and ended, a line of JSON each, into the file named by ``SCALE_TASK_TIMES``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_times
type: aggregate
short_description: Write when each task began and ended
description: For the benchmarks.
requirements:
  - enable in configuration
"""

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes times in Unix seconds."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task began."""
        self._write(str(task.action), "began")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended."""
        self._write(str(result.task.action), "ended")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """All is over."""
        self._write("end", "ended")

    @staticmethod
    def _write(action: str, event: str) -> None:
        with open(os.environ["SCALE_TASK_TIMES"], "a", encoding="utf-8") as file:
            file.write(json.dumps([action, event, time.time()]) + "\n")
