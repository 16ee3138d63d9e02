"""The order of a Dockerfile's ports."""

from __future__ import annotations

import pytest

from agent.builders.exposed import in_order


@pytest.mark.parametrize(
    ("lines", "ports", "wanted"),
    [
        ("EXPOSE 9000\nEXPOSE 8080", (8080, 9000), (9000, 8080)),
        ("expose 9000/tcp 53/udp 8080/TCP", (8080, 9000), (9000, 8080)),
        ("EXPOSE 9000 \\\n  8080", (8080, 9000), (9000, 8080)),
        ("EXPOSE $PORT 9000", (8080, 9000), (9000, 8080)),
        ("FROM a\nEXPOSE 9000\nFROM b\nEXPOSE 8080", (8080, 9000), (8080, 9000)),
        ("EXPOSE 9000-9002", (80, 9000, 9001, 9002), (9000, 80, 9001, 9002)),
        ("# EXPOSE 9000\nRUN echo EXPOSE 9000", (8080, 9000), (8080, 9000)),
        ("EXPOSE 9000 9000 70000", (9000,), (9000,)),
        ("EXPOSE", (), ()),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), (80,), (80,)),
    ],
)
def test_the_ports_that_it_names_come_first(lines: str, ports: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert in_order(ports, lines.encode()) == wanted
