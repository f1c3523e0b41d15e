# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the user by the configured command. Its exit status 0 means yes and 1 no; any other leaves the question open."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Sequence

from . import log
from .events import Answered
from .memory import Upgrade

if TYPE_CHECKING:
    import subprocess


class Prompt:
    """At most one question. ``post`` is called in another thread with the user's answer.

    ``note`` is a file that names the running command, so that an agent that begins after a crash can take the question away.
    """

    def __init__(self, argv: Sequence[str] | None, note: Path, post: Callable[[Answered], None]) -> None:
        self._argv = argv
        self._note = note
        self._post = post
        self._process: subprocess.Popen[bytes] | None = None

    def recover(self) -> None:
        """Take away a question that an agent which was killed left behind."""
        if self._note.exists():
            from . import process  # here, because there is mostly nothing to end

            try:
                process.end_noted(self._note)
            except OSError as error:
                log.error(f"cannot end the prompt command of an earlier agent: {error}")

    def ask(self, upgrade: Upgrade) -> None:
        """Run the command for an upgrade, if one is configured."""
        self.stop()
        if self._argv is None:
            return
        from . import process  # here, because an idle agent asks nobody

        try:
            self._process = process.start(
                self._argv,
                ISOLIFT_COMPONENT=upgrade.start.component,
                ISOLIFT_VERSION=upgrade.start.target_version,
                ISOLIFT_PROMPT=_sayable(upgrade.start.prompt),
                ISOLIFT_DEADLINE=str(int(upgrade.start.deadline)),
            )
            process.note(self._process.pid, self._note)
        except (OSError, ValueError) as error:  # ValueError: this guest's locale has no letters for it
            log.error(f"cannot run the prompt command: {error}")
        if self._process:
            waiting = threading.Thread(
                target=self._wait, args=(self._process, upgrade.upgrade_id), name="prompt", daemon=True
            )
            waiting.start()

    def stop(self) -> None:
        """Take the question away."""
        asking, self._process = self._process, None
        if asking is None or asking.poll() is not None:
            return
        try:
            os.killpg(asking.pid, signal.SIGTERM)
        except ProcessLookupError:
            return  # it has just ended
        from . import process  # here, because an idle agent asks nobody

        # If it does not heed that, it is killed; nobody waits meanwhile.
        threading.Thread(target=process.end_group, args=(asking,), name="prompt's end", daemon=True).start()

    def _wait(self, asking: subprocess.Popen[bytes], upgrade_id: str) -> None:
        status = asking.wait()
        if self._process is not asking:
            return  # the question was taken away
        if status in (0, 1):
            self._post(Answered(upgrade_id, confirmed=status == 0))
        else:
            log.warning(f"the prompt command gave no answer (status {status}); the question stays open")


def _sayable(text: str) -> str:
    """``text`` as an environment can hold it: without NUL, and with a question mark for what this guest's locale has no letters for."""
    encoding = sys.getfilesystemencoding()
    return text.replace("\0", " ").encode(encoding, "replace").decode(encoding)
