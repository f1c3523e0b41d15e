# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role of the guest agent writes into a guest, played on directories of the test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ROLE = Path(__file__).resolve().parents[2] / "roles/guest_agent"
TASKS = ROLE / "tasks/configure.yml"
PLAY = """\
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: {python}
    __guest_agent_config: {{media: [/dev/sr0], prompt: null}}
    guest_agent_public_keys: {keys}
  tasks:
    - ansible.builtin.import_tasks: {tasks}
  handlers:
    - name: Restart the guest agent
      ansible.builtin.meta: noop
"""


PREFLIGHT = """\
- hosts: localhost
  gather_facts: false
  vars_files: [{role}/defaults/main.yml, {role}/vars/main.yml]
  tasks:
    - ansible.builtin.import_tasks: {role}/tasks/preflight.yml
"""


def run_play(play: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Play it on this machine."""
    ansible = str(Path(sys.executable).parent / "ansible-playbook")
    command = [ansible, "-i", "localhost,", "-c", "local", str(play), *options]
    return subprocess.run(command, cwd=play.parent, capture_output=True, text=True, timeout=60, check=False)


def configure(root: Path, *keys: str, check: bool = False) -> None:
    """Run the role's tasks with these public keys; the guest's /etc is in ``root``."""
    for key in keys:
        (root / key).write_text(f"public key {key}\n")
    tasks = root / "configure.yml"
    tasks.write_text(TASKS.read_text().replace("/etc/isolift", f"{root}/etc/isolift"))
    (root / "etc").mkdir(exist_ok=True)
    play = root / "play.yml"
    play.write_text(
        PLAY.format(python=sys.executable, keys=json.dumps([str(root / key) for key in keys]), tasks=tasks)
    )
    done = run_play(play, *(["--check"] if check else []))
    assert done.returncode == 0, done.stdout + done.stderr


def pinned(root: Path) -> list[str]:
    """The keys that the guest trusts."""
    return sorted(path.name for path in (root / "etc/isolift/keys").glob("*"))


def test_key_that_is_no_longer_listed_is_removed_even_if_the_directory_is_put_right(tmp_path: Path) -> None:
    configure(tmp_path, "old.pem", "new.pem")
    assert pinned(tmp_path) == ["new.pem", "old.pem"]
    (tmp_path / "etc/isolift/keys").chmod(0o700)
    configure(tmp_path, "new.pem")
    assert pinned(tmp_path) == ["new.pem"]


def test_check_mode_on_a_new_guest(tmp_path: Path) -> None:
    configure(tmp_path, "new.pem", check=True)
    assert not (tmp_path / "etc/isolift").exists()


@pytest.mark.parametrize("name", ["guest_agent_media", "guest_agent_prompt", "guest_agent_public_keys"])
def test_text_instead_of_a_list_is_refused_by_name(tmp_path: Path, name: str) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PREFLIGHT.format(role=ROLE))
    variables = {"guest_agent_public_keys": [], name: "/usr/bin/ask"}
    done = run_play(play, "--extra-vars", json.dumps(variables))
    assert done.returncode == 2
    assert f'{name} is the text "/usr/bin/ask", but must be a list: ["/usr/bin/ask"]' in done.stdout.replace(
        '\\"', '"'
    )


@pytest.mark.parametrize("media", [[], ["sr0"]])
def test_drives_that_the_agent_would_refuse_are_refused(tmp_path: Path, media: list[str]) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PREFLIGHT.format(role=ROLE))
    variables = {"guest_agent_public_keys": [], "guest_agent_media": media}
    done = run_play(play, "--extra-vars", json.dumps(variables))
    assert done.returncode == 2
    assert "Give the drives by their absolute paths" in " ".join(done.stdout.split())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """What `openssl pkey -pubout` writes for it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The key itself."""
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (public_pem(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key"),
        (public_pem(RSA_KEY) * 2, "is not one PEM block"),
        (public_pem(RSA_KEY) + private_pem(RSA_KEY), "is not one PEM block"),  # it would be in every guest
        (b"\xff\xfe", "is not one PEM block"),
    ],
)
def test_key_that_the_agent_would_refuse_is_refused_by_name(tmp_path: Path, pem: bytes, reason: str) -> None:
    play, key = tmp_path / "play.yml", tmp_path / "new.pem"
    play.write_text(PREFLIGHT.format(role=ROLE))
    key.write_bytes(pem)
    done = run_play(play, "--extra-vars", json.dumps({"guest_agent_public_keys": [str(key)]}))
    assert done.returncode == 2
    assert f"key {key}: {reason}" in done.stdout
