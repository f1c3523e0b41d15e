# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules component_iso and component_iso_info, run as programs, the way Ansible runs them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.isolift.vm.plugins.modules import component_iso, component_iso_info

SCRIPT = "#!/bin/sh\necho installing\n"
PLATFORMS = [
    {
        "os": "linux",
        "match": {"id": ["debian"]},
        "detect": {"file": "/var/lib/guest-tools/version"},
        "install": ["/bin/sh", "payload/install.sh"],
    }
]


def run_module(
    name: str, arguments: dict[str, Any], *first_on_path: Path, **internal: bool
) -> dict[str, Any]:
    """What the module says; ``failed`` tells whether it exited with an error."""
    everything = {**arguments, **{f"_ansible_{key}": value for key, value in internal.items()}}
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.isolift.vm.plugins.modules.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": everything}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, first_on_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode != 0) == bool(answer.get("failed"))
    return answer


@dataclass(frozen=True)
class Workshop:
    """A directory with a component's files and a pair of keys."""

    root: Path

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "src": str(self.root / "guest-tools"),
            "dest": str(self.iso),
            "component": "guest-tools",
            "version": "2.0.0",
            "platforms": PLATFORMS,
            "private_key_path": str(self.root / "signing.key"),
        }

    @property
    def iso(self) -> Path:
        return self.root / "guest-tools.iso"

    def build(self, *internal: str, **options: Any) -> dict[str, Any]:
        arguments = {key: value for key, value in {**self.arguments, **options}.items() if value is not None}
        return run_module("component_iso", arguments, **dict.fromkeys(internal, True))

    def inspect(self, **options: Any) -> dict[str, Any]:
        keys = [str(self.root / "signing.pem")]
        return run_module("component_iso_info", {"path": str(self.iso), "public_keys": keys, **options})


def openssl(root: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("keys")
    for name, bits in (("signing", "3072"), ("stranger", "3072"), ("weak", "2048")):
        openssl(root, "genrsa", "-out", f"{name}.key", bits)
        openssl(root, "pkey", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pem")
    openssl(root, "pkey", "-in", "signing.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    return root


@pytest.fixture
def workshop(tmp_path: Path, keys: Path) -> Workshop:
    for path in keys.iterdir():
        (tmp_path / path.name).symlink_to(path)
    source = tmp_path / "guest-tools"
    (source / "data").mkdir(parents=True)
    (source / "install.sh").write_text(SCRIPT)
    (source / "install.sh").chmod(0o755)
    (source / "data" / "notes.txt").write_text("first\n")
    return Workshop(tmp_path)


def test_a_disc_is_built_once_and_then_left_alone(workshop: Workshop) -> None:
    first = workshop.build()
    assert first["changed"]
    data = workshop.iso.read_bytes()
    expected = {
        "path": str(workshop.iso),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "component": "guest-tools",
        "version": "2.0.0",
        "files": 2,
    }
    assert {key: first[key] for key in expected} == expected
    before = workshop.iso.stat()
    again = workshop.build()
    assert not again["changed"]
    assert {key: again[key] for key in (*expected, "manifest_sha256")} == {
        key: first[key] for key in (*expected, "manifest_sha256")
    }
    assert workshop.iso.stat() == before


def test_check_mode_foretells_what_a_run_does(workshop: Workshop) -> None:
    planned = workshop.build("check_mode")
    assert planned["changed"]
    assert not workshop.iso.exists()
    done = workshop.build()
    assert done["sha256"] == planned["sha256"]
    assert not workshop.build("check_mode")["changed"]
    before = workshop.iso.read_bytes()
    assert workshop.build("check_mode", version="2.0.1")["changed"]
    assert workshop.iso.read_bytes() == before


def test_the_difference_shows_version_and_files(workshop: Workshop) -> None:
    fresh = workshop.build("diff")["diff"]
    assert fresh["before"] == ""
    (workshop.root / "guest-tools" / "data" / "notes.txt").write_text("second\n")
    difference = workshop.build("check_mode", "diff", version="2.0.1")["diff"]
    assert difference["before"] == fresh["after"]
    old, new = (set(difference[side].splitlines()) for side in ("before", "after"))
    first, second, script = (
        hashlib.sha256(text).hexdigest() for text in (b"first\n", b"second\n", SCRIPT.encode())
    )
    assert {"version 2.0.0", f"- {first} 6 payload/data/notes.txt"} <= old - new
    assert {"version 2.0.1", f"- {second} 7 payload/data/notes.txt"} <= new - old
    assert {"component guest-tools", f"x {script} {len(SCRIPT)} payload/install.sh"} <= old & new
    workshop.iso.write_text("something else")
    assert workshop.build("diff")["diff"]["before"] == "(not_iso)\n"


def test_the_mode_of_the_disc_can_be_set(workshop: Workshop) -> None:
    assert workshop.build("check_mode", mode="0640")["changed"]
    assert workshop.build(mode="0640")["changed"]
    assert workshop.iso.stat().st_mode & 0o777 == 0o640
    assert not workshop.build(mode="0640")["changed"]
    assert workshop.build("check_mode", mode="0600")["changed"]
    assert workshop.iso.stat().st_mode & 0o777 == 0o640
    assert workshop.build(mode="0600")["changed"]
    assert workshop.iso.stat().st_mode & 0o777 == 0o600


def test_a_key_can_come_as_text_and_with_a_passphrase(workshop: Workshop) -> None:
    expected = workshop.build()["sha256"]
    content = (workshop.root / "signing.key").read_text()
    plain = workshop.build(private_key_path=None, private_key_content=content)
    assert (plain["changed"], plain["sha256"]) == (False, expected)
    locked = (workshop.root / "locked.key").read_text()
    with_passphrase = workshop.build(
        private_key_path=None, private_key_content=locked, private_key_passphrase="secret"
    )
    assert (with_passphrase["changed"], with_passphrase["sha256"]) == (False, expected)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"src": "/nonexistent"}, "bad_source", ["/nonexistent", "give the directory"]),
        ({"dest": "/nonexistent/x.iso"}, "bad_dest", ["/nonexistent", "create it first"]),
        ({"private_key_path": "/nonexistent"}, "bad_key", ["/nonexistent", "No such file"]),
        ({"private_key_path": "{root}/weak.key"}, "bad_key", ["2048 bits", "openssl genrsa -out KEY 3072"]),
        ({"private_key_path": "{root}/signing.pem"}, "bad_key", ["cannot load the private key"]),
        ({"private_key_path": "{root}/locked.key"}, "bad_key", ["cannot load the private key"]),
        ({"component": "guest tools"}, "bad_description", ["component", "guest tools"]),
        ({"platforms": []}, "bad_description", ["platforms"]),
        ({"platforms": [{**PLATFORMS[0], "timeout_s": 0}]}, "bad_description", ["platforms[0].timeout_s"]),
        (
            {"platforms": [{**PLATFORMS[0], "install": ["payload/x.sh"]}]},
            "bad_description",
            ["payload/x.sh", "no such file"],
        ),
        (
            {"platforms": [{**PLATFORMS[0], "detect": {"file": "/v", "regex": "v"}}]},
            "bad_description",
            ["platforms[0].detect.regex", "group"],
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(
    options: dict[str, Any], code: str, words: list[str], workshop: Workshop
) -> None:
    given = {
        key: value.format(root=workshop.root) if isinstance(value, str) else value
        for key, value in options.items()
    }
    answer = workshop.build(**given)
    assert (answer.get("code"), answer["failed"]) == (code, True)
    assert [word for word in words if word not in answer["msg"]] == []
    assert not workshop.iso.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"private_key_path": None},
        {"private_key_content": "x"},
        {"platforms": [{**PLATFORMS[0], "detect": {}}]},
        {"platforms": [{**PLATFORMS[0], "detect": {"file": "/v", "package": "p"}}]},
        {"platforms": [{**PLATFORMS[0], "verify": {}}]},
        {"platforms": [{**PLATFORMS[0], "os": "plan9"}]},
    ],
)
def test_options_that_contradict_are_refused_by_ansible(options: dict[str, Any], workshop: Workshop) -> None:
    answer = workshop.build(**options)
    assert answer["failed"]
    assert "code" not in answer
    assert not workshop.iso.exists()


def test_a_good_disc_is_described(workshop: Workshop) -> None:
    built = workshop.build()
    answer = workshop.inspect(target_version="2.0.0")
    assert not answer["changed"]
    for name in ("path", "sha256", "manifest_sha256", "size", "component", "version", "files"):
        assert answer[name] == built[name]
    assert (answer["key_name"], answer["signature_valid"]) == ("signing.pem", True)
    assert answer["platforms"] == [
        {
            "os": "linux",
            "match": {"id": ["debian"]},
            "install": ["/bin/sh", "payload/install.sh"],
            "timeout_s": 600,
        }
    ]


def test_another_version_than_wanted_is_refused_and_both_are_named(workshop: Workshop) -> None:
    workshop.build()
    answer = workshop.inspect(target_version="2.4.0")
    assert (answer["failed"], answer["code"]) == (True, "wrong_version")
    assert "carries guest-tools 2.0.0, but target_version is 2.4.0" in answer["msg"]


def break_disc(workshop: Workshop, damage: str) -> None:
    data = workshop.iso.read_bytes()
    if damage == "missing":
        workshop.iso.unlink()
    elif damage == "empty":
        workshop.iso.write_bytes(b"")
    elif damage == "truncated":
        workshop.iso.write_bytes(data[:-4096])
    elif damage == "not_iso":
        workshop.iso.write_text("This is no disc.\n" * 5000)
    elif damage == "no_manifest":
        command = ["bsdtar", "--create", "--format=iso9660", f"--file={workshop.iso}", "guest-tools"]
        subprocess.run(command, cwd=workshop.root, check=True)
    elif damage == "unsigned":
        workshop.iso.write_bytes(data.replace(b"manifest.sig", b"manifest.txt"))
    elif damage == "file_absent":
        workshop.iso.write_bytes(data.replace(b"NM\x0e\x01\x00notes.txt", b"NM\x0e\x01\x00n0tes.txt"))
    elif damage == "file_differs":
        workshop.iso.write_bytes(data.replace(b"first\n", b"f1rst\n"))
    else:
        raise ValueError(damage)


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "truncated", "not_iso", "no_manifest", "unsigned", "file_absent", "file_differs"],
)
def test_a_bad_disc_is_refused_with_its_name_and_what_to_do(damage: str, workshop: Workshop) -> None:
    workshop.build()
    break_disc(workshop, damage)
    answer = workshop.inspect()
    assert (answer["failed"], answer["code"]) == (True, damage)
    assert str(workshop.iso) in answer["msg"]
    assert "build" in answer["msg"]


def test_a_disc_signed_with_another_key_is_refused(workshop: Workshop) -> None:
    workshop.build()
    trusted = [str(workshop.root / name) for name in ("stranger.pem", "weak.pem")]
    answer = workshop.inspect(public_keys=trusted)
    assert (answer["failed"], answer["code"]) == (True, "wrong_key")
    assert all(word in answer["msg"] for word in (str(workshop.iso), "stranger.pem", "weak.pem"))
    both = workshop.inspect(public_keys=[*trusted, str(workshop.root / "signing.pem")])
    assert both["key_name"] == "signing.pem"


def test_a_trusted_key_that_cannot_be_used_is_named(workshop: Workshop) -> None:
    workshop.build()
    for name in ("signing.key", "nonexistent.pem"):
        answer = workshop.inspect(public_keys=[str(workshop.root / name)])
        assert (answer["failed"], answer["code"]) == (True, "bad_key")
        assert str(workshop.root / name) in answer["msg"]


def test_without_a_library_the_modules_say_which(workshop: Workshop) -> None:
    for name in ("pycdlib", "cryptography"):
        hidden = workshop.root / f"without-{name}"
        hidden.mkdir()
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')\n")
        answer = run_module("component_iso", workshop.arguments, hidden)
        assert answer["failed"]
        assert name in answer["msg"]
    keys = [str(workshop.root / "signing.pem")]
    inspection = {"path": str(workshop.iso), "public_keys": keys}
    assert "pycdlib" in run_module("component_iso_info", inspection, workshop.root / "without-pycdlib")["msg"]


def test_the_examples_of_the_documentation_run(workshop: Workshop) -> None:
    """Every example of both modules, in their order, with files and keys where the examples expect them."""
    keys = workshop.root / "keys"
    keys.mkdir()
    (keys / "signing.key").symlink_to(workshop.root / "signing.key")
    (workshop.root / "guest-tools" / "guest-tools.deb").write_bytes(b"!<arch>\n")
    tasks = yaml.safe_load(component_iso.EXAMPLES) + yaml.safe_load(component_iso_info.EXAMPLES)
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "component_private_key": (workshop.root / "locked.key").read_text(),
            "component_private_key_passphrase": "secret",
        },
        "tasks": tasks,
    }
    (workshop.root / "play.yml").write_text(yaml.safe_dump([play]))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        "-c",
        "local",
        "play.yml",
    ]
    environment = {
        **os.environ,
        "HOME": str(workshop.root),
        "ANSIBLE_COLLECTIONS_PATH": str(Path(component_iso.__file__).parents[5]),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        command, cwd=workshop.root, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "guest-tools 2.0.0, signed with signing.pem" in done.stdout
