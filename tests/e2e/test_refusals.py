# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook refuses: a clear error that names the thing, and nothing was changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from e2e import discs, inventories

from ansible_collections.isolift.vm.plugins.module_utils.iso import MANIFEST_PATH, SIGNATURE_PATH
from lab import campaigns, drives, keys, paths, plays, settings, ssh
from lab.cast import NODES
from lab.shell import run

DRIVES = "grep '<source ' /etc/libvirt/qemu/*.xml /run/libvirt/qemu/*.xml"  # what libvirt would start them with, and what they have now
STAGED = "find /var/lib/isolift/media | sort"


def _campaigns_and_discs() -> tuple[list[str], dict[str, str]]:
    """What a refused run must leave as it was: the campaigns, and on each node every drive and all that is staged."""
    return campaigns.known(), {node.name: ssh.run_on(node, f"{DRIVES}; {STAGED}") for node in NODES}


@pytest.fixture(scope="class")
def last_seen() -> list[Any]:
    """What was there before the first test; after each test, what is there then."""
    return [_campaigns_and_discs()]


@pytest.fixture
def untouched(last_seen: list[Any]) -> Iterator[None]:
    yield
    before, last_seen[0] = last_seen[0], _campaigns_and_discs()
    assert last_seen[0] == before


def refused(
    *expected: str,
    inventory: Path = paths.INVENTORY,
    playbook: str = "upgrade",
    options: Sequence[str] = (),
    **variables: Any,
) -> None:
    """Run the playbook and expect that it fails, saying every one of ``expected``."""
    run = plays.ansible(f"playbooks/{playbook}.yml", *options, variables=variables, inventory=inventory)
    said = " ".join(run.output.split())
    assert run.status != 0, run.output
    for text in expected:
        assert text in said, run.output


@pytest.mark.harmless
@pytest.mark.usefixtures("untouched", "iso")
class TestRefusals:
    """Each of these is an operator's mistake, or a part that is down."""

    def test_no_target_version(self) -> None:
        refused("Say which version to upgrade to", "target_version")

    def test_a_version_that_the_iso_does_not_carry(self, iso: Path) -> None:
        refused(
            "but target_version is 9.9.9: set target_version to 2.0.0",
            target_version="9.9.9",
            upgrade_iso=str(iso),
        )

    def test_another_component(self) -> None:
        refused(
            "carries guest-tools, but component is other-tools: set component to guest-tools",
            target_version="2.0.0",
            component="other-tools",
        )

    def test_an_iso_that_is_missing(self) -> None:
        refused(
            "/srv/nowhere.iso does not exist: check the path",
            target_version="2.0.0",
            upgrade_iso="/srv/nowhere.iso",
        )

    @pytest.mark.deep
    def test_an_iso_that_is_empty(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty.iso"
        empty.touch()
        refused(
            "empty.iso has zero bytes: copy or build it again", target_version="2.0.0", upgrade_iso=str(empty)
        )

    @pytest.mark.deep
    def test_an_iso_that_is_none(self, tmp_path: Path) -> None:
        archive = tmp_path / "archive.iso"
        archive.write_bytes(b"PK" * 40_000)
        refused(
            "archive.iso (80000 bytes) is not an ISO 9660 image: check the path",
            target_version="2.0.0",
            upgrade_iso=str(archive),
        )

    @pytest.mark.deep
    def test_an_iso_that_was_cut_off(self, iso: Path, tmp_path: Path) -> None:
        whole = iso.stat().st_size
        cut = tmp_path / "cut.iso"
        shutil.copyfile(iso, cut)
        with cut.open("r+b") as file:
            file.truncate(whole // 2)
        refused(
            f"cut.iso has {whole // 2} bytes, but its volume needs {whole}: copy or build it again",
            target_version="2.0.0",
            upgrade_iso=str(cut),
        )

    def test_an_iso_that_another_key_signed(self, tmp_path: Path) -> None:
        other_key, other_public = tmp_path / "other.key", tmp_path / "other.pem"
        run(["openssl", "genrsa", "-out", other_key, "3072"])
        run(["openssl", "rsa", "-in", other_key, "-pubout", "-out", other_public])
        refused(
            "the signature of its manifest was not made over this data by any of the keys: other.pem",
            "give the public key of the key that signed it",
            target_version="2.0.0",
            isolift_public_keys=[str(other_public)],
        )

    @pytest.mark.deep
    @pytest.mark.parametrize(
        ("lost", "expected"),
        [
            (MANIFEST_PATH, "has no isolift/manifest.json"),
            (SIGNATURE_PATH, "has no isolift/manifest.sig"),
            ("payload/install.sh", "names payload/install.sh, which is not on the disc"),
        ],
        ids=["manifest", "signature", "payload"],
    )
    def test_an_iso_that_lacks_a_file(self, iso: Path, tmp_path: Path, lost: str, expected: str) -> None:
        files = discs.contents(iso)
        del files[lost]
        changed = discs.write(tmp_path / "lacking.iso", files)
        refused("lacking.iso", expected, target_version="2.0.0", upgrade_iso=str(changed))

    @pytest.mark.deep
    def test_an_iso_with_a_file_that_was_changed(self, iso: Path, tmp_path: Path) -> None:
        files = discs.contents(iso)
        files["payload/install.sh"] = files["payload/install.sh"].swapcase()
        changed = discs.write(tmp_path / "changed.iso", files)
        refused("payload/install.sh has digest", target_version="2.0.0", upgrade_iso=str(changed))

    def test_a_name_that_matches_nothing(self) -> None:
        refused("matches 'desk-99'", target_version="2.0.0", upgrade_vms=["desk-01", "desk-99"])

    @pytest.mark.parametrize("empty", ["", []], ids=["text", "list"])
    def test_a_selection_that_is_given_but_empty(self, empty: Any) -> None:
        refused("upgrade_vms is set, but empty", "say '*' for all", target_version="2.0.0", upgrade_vms=empty)

    @pytest.mark.parametrize("empty", [" , ", []], ids=["text", "list"])
    def test_vms_to_cancel_that_are_given_but_empty(self, empty: Any) -> None:
        refused(
            "control_vms is set, but empty",
            "say '*' for all",
            playbook="control",
            control_action="cancel",
            campaign_id="0192f0e0-1111-7abc-8def-0123456789ab",
            control_vms=empty,
        )

    def test_an_exclude_that_matches_nothing(self) -> None:
        refused("matches the exclude 'desk-99'", target_version="2.0.0", upgrade_exclude=["desk-99"])

    def test_a_prompt_that_is_too_long(self) -> None:
        refused(
            "opened.prompt: expected at most 500 characters", target_version="2.0.0", upgrade_prompt="x" * 501
        )

    def test_nothing_left_to_upgrade(self) -> None:
        refused("nothing to upgrade", "exclude fewer of them", target_version="2.0.0", upgrade_exclude=["*"])

    def test_a_condition_that_is_no_expression(self) -> None:
        refused("is not a valid expression", target_version="2.0.0", upgrade_conditions=["free_bytes >"])

    def test_a_condition_on_a_fact_that_no_agent_sends(self) -> None:
        refused(
            "looks at free_byte, which no agent sends",
            "free_bytes",
            target_version="2.0.0",
            upgrade_conditions="sessions == 0\nfree_byte > 5",
        )

    @pytest.mark.deep
    @pytest.mark.parametrize("name", ["upgrade_vms", "upgrade_conditions", "isolift_public_keys"])
    def test_a_list_that_is_none(self, name: str) -> None:
        wrong: dict[str, Any] = {name: 5}
        refused(f"{name} is 5: give a list, or text", target_version="2.0.0", **wrong)

    @pytest.mark.parametrize("playbook", ["upgrade", "status", "cleanup"])
    def test_a_setting_that_is_missing(self, playbook: str) -> None:
        refused(
            "isolift_broker_host is not set, or empty",
            playbook=playbook,
            target_version="2.0.0",
            isolift_broker_host="",
        )

    @pytest.mark.parametrize("name", ["campaign_id", "upgrade_id"])
    def test_an_id_to_show_that_is_given_but_empty(self, name: str) -> None:
        refused(f"{name} is not set, or empty", playbook="status", options=["-e", f"{name}="])

    @pytest.mark.deep
    @pytest.mark.parametrize(
        ("name", "wrong"),
        [("cleanup_after_days", "-1"), ("cleanup_after_days", "nan"), ("cleanup_grace_s", "")],
    )
    def test_an_age_that_is_none(self, name: str, wrong: str) -> None:
        refused(f"{name} must be a number, 0 or more", playbook="cleanup", options=["-e", f"{name}={wrong}"])

    def test_the_broker_is_down(self) -> None:
        refused(
            "cannot use RabbitMQ",
            "check broker_host and broker_port (isolift_broker_host and isolift_broker_port",
            target_version="2.0.0",
            isolift_broker_port=5999,
        )

    def test_a_wrong_password(self) -> None:
        refused(
            "refused the user name or the password", target_version="2.0.0", isolift_broker_password="wrong"
        )

    def test_a_missing_vhost(self) -> None:
        refused("check broker_vhost", target_version="2.0.0", isolift_broker_vhost="nowhere")

    def test_a_campaign_that_nobody_began(self) -> None:
        unknown = "0192f0e0-1111-7abc-8def-0123456789ab"
        refused(f"knows no campaign of the ID {unknown}; isolift.vm.status lists", campaign_id=unknown)

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ("", "campaign_id is set, but empty"),
            ("desk-01", "'desk-01' is not the ID of a campaign or an upgrade"),
            ("0192f0e0-1111-8abc-8def-0123456789ab", "is an upgrade ID, not a campaign ID"),
        ],
    )
    def test_what_is_no_campaign_id(self, wrong: str, why: str) -> None:
        refused(why, campaign_id=wrong)

    @pytest.mark.parametrize("playbook", ["upgrade", "status", "control", "cleanup"])
    def test_a_limit_that_leaves_localhost_out(self, playbook: str) -> None:
        refused(
            "The plays on localhost did not run, so nothing was done",
            playbook=playbook,
            options=["--limit", "node1"],
            target_version="2.0.0",
        )

    @pytest.mark.parametrize("playbook", ["site", "upgrade"])
    def test_an_inventory_without_compute_nodes(self, playbook: str, tmp_path: Path) -> None:
        refused(
            "The group compute_nodes has no hosts",
            inventory=inventories.without("compute_nodes", tmp_path),
            playbook=playbook,
            target_version="2.0.0",
        )

    def test_a_compute_node_that_is_unreachable(self, lost_node: Path) -> None:
        refused(
            "Compute nodes that did not answer: node2. Nothing was changed.",
            "upgrade_allow_unreachable_nodes",
            inventory=lost_node,
            target_version="2.0.0",
        )


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("options", [[], ["--check"]], ids=["run", "check"])
class TestIsoOnNodes:
    """An ISO that is to be taken from the nodes' storage is not what was checked on the control node."""

    def test_it_is_missing(self, iso: Path, options: Sequence[str]) -> None:
        refused(
            f"/srv/nowhere.iso (upgrade_iso_on_nodes) is missing, or not the same as {iso}, on node1, node2. Nothing was changed.",
            "Put the same ISO there",
            options=options,
            target_version="2.0.0",
            upgrade_iso_on_nodes="/srv/nowhere.iso",
        )

    def test_it_is_another_one_on_one_node(
        self, iso: Path, shared_iso: Path, tmp_path: Path, options: Sequence[str]
    ) -> None:
        other = shared_iso.with_name("other.iso")
        other.write_bytes(iso.read_bytes()[:-1])
        right, wrong = str(paths.on_node(shared_iso)), str(paths.on_node(other))
        refused(
            f"{wrong} (upgrade_iso_on_nodes) is missing, or not the same as {iso}, on node2. Nothing was changed.",
            inventory=inventories.with_variables(
                tmp_path, node1={"upgrade_iso_on_nodes": right}, node2={"upgrade_iso_on_nodes": wrong}
            ),
            options=options,
            target_version="2.0.0",
        )


@pytest.fixture
def onlooker() -> Iterator[dict[str, str]]:
    """The settings of a broker's user who may read campaigns but not begin one."""
    user, password = "isolift_onlooker", "lab-onlooker"
    may_read = r"^isolift\.(campaigns$|campaign\.)"
    ssh.run_on(
        NODES[0],
        f"rabbitmqctl -q add_user {user} {password} && "
        f"rabbitmqctl -q set_permissions -p isolift {user} '^$' '^$' '{may_read}'",
    )
    yield {"isolift_broker_username": user, "isolift_broker_password": password}
    ssh.run_on(NODES[0], f"rabbitmqctl -q delete_user {user}")


@pytest.mark.usefixtures("iso")
def test_what_a_refused_start_leaves_is_named_and_cleanup_clears_it(onlooker: dict[str, str]) -> None:
    before = campaigns.known()
    options = {"target_version": "2.0.0", "upgrade_vms": ["desk-01", "desk-05"], **onlooker}
    run = plays.ansible("playbooks/upgrade.yml", variables=options)
    said = " ".join(run.output.split())
    for node in NODES:  # it was in the drives
        assert f"changed: [localhost -> {node.name}({node.address})]" in said
    assert "The campaign was not begun, and no VM was told to start: RabbitMQ at" in said
    found = re.search(r"What the run leaves: its ISO in (/var/lib/isolift/media/\S+) on node1, node2\.", said)
    assert found is not None, run.output
    left = found.group(1)
    assert drives.discs() == "" and campaigns.known() == before
    assert all(left in ssh.run_on(node, STAGED) for node in NODES)
    plays.require(plays.ansible("playbooks/cleanup.yml", variables={"cleanup_grace_s": 0}), "cleaning up")
    assert not any(left in ssh.run_on(node, STAGED) for node in NODES)


def test_a_campaign_whose_beginning_was_broken_off_is_not_conducted_and_says_so() -> None:
    unsealed = campaigns.begin_without_seal()
    refused(
        f"There is nothing to conduct: campaign {unsealed} was never sealed",
        "before any VM was told to start, and none will be; begin it anew",
        campaign_id=unsealed,
    )
    shown = plays.ansible("playbooks/status.yml", variables={"campaign_id": unsealed})
    plays.require(shown, "showing the campaign")
    assert "the campaign was never sealed: no VM was told to start" in " ".join(shown.output.split())


@pytest.mark.harmless
def test_relays_are_deployed_without_a_broker_of_our_own(tmp_path: Path) -> None:
    run = plays.ansible("playbooks/site.yml", "--check", inventory=inventories.without("broker", tmp_path))
    plays.require(run, "check mode without the group broker")
    assert "TASK [isolift.vm.compute_relay : " in run.output
    assert "TASK [isolift.vm.broker : " not in run.output


@pytest.mark.harmless
@pytest.mark.usefixtures("untouched", "iso")
def test_by_option_the_vms_of_the_other_nodes_go_on(lost_node: Path) -> None:
    variables = {"target_version": "2.0.0", "upgrade_allow_unreachable_nodes": True}
    run = plays.ansible("playbooks/upgrade.yml", "--check", inventory=lost_node, variables=variables)
    plays.require(run, "check mode without node2")
    said = " ".join(run.output.split())
    assert "for 4 virtual machines on 1 compute nodes: desk-01, desk-02, desk-03, desk-04" in said


@pytest.mark.harmless
@pytest.mark.usefixtures("untouched", "iso")
def test_check_mode_says_what_it_would_do_and_does_nothing() -> None:
    run = plays.ansible("playbooks/upgrade.yml", "--check", variables={"target_version": "2.0.0"})
    plays.require(run, "check mode")
    assert "guest-tools 2.0.0 for 8 virtual machines on 2 compute nodes" in " ".join(run.output.split())
    assert "Check mode: nothing is changed" in run.output
    assert settings.CONTROLLER_PASSWORD not in run.output


@pytest.mark.harmless
@pytest.mark.usefixtures("untouched", "iso")
def test_the_lists_of_a_survey_are_lines_of_text() -> None:
    variables = {
        "target_version": "2.0.0",
        "upgrade_vms": "desk-0[1-3]\ndesk-05, desk-06",
        "upgrade_exclude": "desk-02",
        "upgrade_conditions": "sessions == 0 or installed_version is version('1.5', '<')\nfree_bytes > 5\n",
        "isolift_public_keys": f"{keys.SIGNING_PUBLIC}\n",
    }
    run = plays.ansible("playbooks/upgrade.yml", "--check", variables=variables)
    plays.require(run, "check mode")
    said = " ".join(run.output.split())
    assert "for 4 virtual machines on 2 compute nodes: desk-01, desk-03, desk-05, desk-06" in said
    assert "version('1.5', '<') and free_bytes > 5" in said.replace("''", "'")
