"""Whose time zone moments are shown in: what was asked for, else what programs here use, else the machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import ssh
from cli.places import Place

PLACE = Place("example.com", 2222)


@pytest.fixture
def localtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is there in place of /etc/localtime: nothing so far."""
    monkeypatch.setattr(ssh, "LOCALTIME", str(tmp_path / "localtime"))
    return tmp_path / "localtime"


@pytest.mark.parametrize(
    ("target", "zone"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
        ("../usr/share/zoneinfo/America/Argentina/Ushuaia", "America/Argentina/Ushuaia"),
        ("/usr/share/zoneinfo/UTC", "UTC"),
        ("/var/db/timezone/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("/etc/somewhere/Berlin", ""),
    ],
    ids=["Debian", "relative", "UTC", "macOS", "no zone"],
)
def test_the_machines_zone_is_what_localtime_leads_to(localtime: Path, target: str, zone: str) -> None:
    localtime.symlink_to(target)
    assert ssh.zone_of_machine() == zone


def test_a_machine_that_names_no_zone_has_none(localtime: Path) -> None:
    """A copy in place of a link has the zone's rules, and not its name."""
    assert ssh.zone_of_machine() == ""
    localtime.write_bytes(b"TZif2")
    assert ssh.zone_of_machine() == ""


def test_what_was_asked_for_comes_before_the_machines_zone(localtime: Path) -> None:
    def sent(environment: dict[str, str]) -> str | None:
        return ssh.environment_for(PLACE, environment).get("PUSHBOAT_TZ")

    assert sent({}) is None, "the server shows its own, then"
    localtime.symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert sent({}) == sent({"TZ": ""}) == sent({"TZ": ":"}) == "Europe/Berlin"
    assert sent({"TZ": ":Asia/Tokyo"}) == sent({"TZ": "Asia/Tokyo"}) == "Asia/Tokyo"
    assert sent({"TZ": "Asia/Tokyo", "PUSHBOAT_TZ": "UTC"}) == "UTC"
