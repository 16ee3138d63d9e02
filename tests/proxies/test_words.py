"""What is written for HAProxy, and what it answers, word by word."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from agent.errors import Misconfigured
from agent.ports.proxy import Upstream
from agent.proxies.haproxy import HaproxyProxy
from agent.proxies.haproxy.binds import Bind, parse_binds, parse_networks
from agent.proxies.haproxy.config import Layout, Options, frame_of, render_config, server_words
from agent.proxies.haproxy.control import Process, Processes, parse_processes
from agent.proxies.haproxy.drain import Look, OldWorker, is_drained, replaced_ago
from agent.proxies.haproxy.held import (
    HANDED_OVER,
    Held,
    Server,
    differing_backends,
    orders_to_add,
    orders_to_hand_over,
    orders_to_map,
    orders_to_withdraw,
    parse_handover,
    parse_map,
    parse_servers,
    parse_sessions,
)
from agent.proxies.haproxy.pages import load_pages
from agent.proxies.haproxy.plan import Maps
from agent.proxies.haproxy.slots import Slot
from agent.proxies.haproxy.sockets import drop_ins

ONE = Upstream("r1", "10.0.0.1", 5000)
SERVING = Server(host="10.0.0.1", port=5000, is_serving=True, is_withdrawn=False)
WITHDRAWN = msgspec.structs.replace(SERVING, is_serving=False, is_withdrawn=True)
EMPTY = Held(pid=1, frame="", servers={}, handover=HANDED_OVER, exact={}, wildcards=())
LAYOUT = Layout(Path("/srv/proxy"))
OPTIONS = Options(binds=parse_binds(["0.0.0.0:80"]))

SHOW_PROC = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
1162            master          5 [failed: 1]   0d00h02m07s     2.6.12-1+deb12u4
# workers
1271            worker          1               1d02h03m04s     2.6.12-1+deb12u4
# old workers
1233            worker          3               1d02h03m43s     2.6.12-1+deb12u4
1200            worker          4               2d00h00m00s     2.6.12-1+deb12u4
# programs

"""
SHOW_SERVERS_STATE = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 handover 1 current - 2 0 1 1 4 1 0 2 0 0 0 0 - 0 - 0 0 - - 0
4 slot0001 1 r1 127.0.0.1 2 0 1 1 0 1 0 0 0 0 0 0 - 19001 - 0 0 - - 0
4 slot0001 2 r2 127.0.0.2 2 8 1 1 0 1 0 0 0 0 0 0 - 19002 - 0 0 - - 0
5 slot0002 1 r3 127.0.0.3 0 1 1 1 0 1 0 0 0 0 0 0 - 19003 - 0 0 - - 0
5 slot0002 2 r4 127.0.0.4 2 0 0 1 0 1 0 0 0 0 0 0 - 19004 - 0 0 - - 0
"""
SHOW_SERVERS_CONN = """\
# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur
slot0001/r1 4/1 127.0.0.1 19001 - 200 3 4 1 0 0 -1 7 0 0
slot0001/r2 4/2 127.0.0.1 19002 - 200 0 1 1 1 0 -1 1 0 1
"""


def test_processes_are_read_and_the_current_worker_is_the_one_with_the_fewest_reloads() -> None:
    processes = parse_processes(SHOW_PROC)

    assert processes is not None
    assert (processes.master, processes.reloads, processes.failed) == (1162, 5, 1)
    assert processes.current == Process(1271, 1, 93_784)
    assert [worker.pid for worker in processes.old] == [1233, 1200]


@pytest.mark.parametrize("text", ["", "Unknown command\n", SHOW_PROC.split("# workers")[0]])
def test_an_answer_without_master_or_worker_is_none(text: str) -> None:
    assert parse_processes(text) is None


def test_an_old_worker_was_replaced_when_the_next_one_started() -> None:
    processes = Processes(
        master=1, reloads=2, failed=0, current=Process(3, 0, 5), old=(Process(2, 1, 60), Process(1, 2, 900))
    )

    assert replaced_ago(processes.old[0], processes) == 5
    assert replaced_ago(processes.old[1], processes) == 60


def test_servers_are_read() -> None:
    servers = parse_servers(SHOW_SERVERS_STATE)

    assert [name for _, name in servers] == ["r1", "r2", "r3", "r4"]
    assert servers["slot0001", "r1"] == Server(host="127.0.0.1", port=19001, is_serving=True, is_withdrawn=False)
    assert servers["slot0001", "r2"].is_withdrawn
    assert servers["slot0002", "r3"].is_withdrawn
    assert not servers["slot0002", "r4"].is_serving
    assert not servers["slot0002", "r4"].is_withdrawn


def test_the_handover_is_read_and_left_alone_while_it_is_as_it_should_be() -> None:
    handover = parse_handover(SHOW_SERVERS_STATE)

    assert handover == HANDED_OVER
    assert orders_to_hand_over(EMPTY, "words") == []


def test_connections_in_use_are_counted_and_idle_ones_are_not() -> None:
    assert parse_sessions(SHOW_SERVERS_CONN) == {("slot0001", "r1"): 3, ("slot0001", "r2"): 0}


def test_maps_are_read_in_their_order() -> None:
    assert parse_map("0x55 b.test slot0002\n0x56 a.test slot0001\n") == [("b.test", "slot0002"), ("a.test", "slot0001")]


def test_the_same_words_make_the_line_of_the_file_and_the_order_at_run_time() -> None:
    words = server_words(ONE)
    slot = Slot(name="slot0001", upstreams=(ONE,))

    assert words == "r1 10.0.0.1:5000 pool-max-conn -1 pool-purge-delay 200ms"
    assert f"    server {words}\n" in render_config(OPTIONS, LAYOUT, (slot,))
    assert orders_to_add(EMPTY, {("slot0001", "r1"): ONE}) == [
        f"add server slot0001/{words}",
        "enable server slot0001/r1",
    ]


def test_an_ipv6_replica_is_written_in_brackets() -> None:
    assert server_words(Upstream("r1", "fd00::1", 80)).startswith("r1 [fd00::1]:80 ")


@pytest.mark.parametrize(
    ("binds", "lines"),
    [
        (["[::]:80"], ['"${PUSHBOAT_AT______80-[::]:80}"']),
        (
            ["0.0.0.0:80", "[::]:80"],
            ['"${PUSHBOAT_AT_0_0_0_0_80-0.0.0.0:80}"', '"${PUSHBOAT_AT______80-[::]:80}" v6only'],
        ),
        (
            ["[::]:443", "127.0.0.1:80", "[::1]:80"],
            [
                '"${PUSHBOAT_AT______443-[::]:443}"',
                '"${PUSHBOAT_AT_127_0_0_1_80-127.0.0.1:80}"',
                '"${PUSHBOAT_AT____1__80-[::1]:80}"',
            ],
        ),
    ],
)
def test_all_addresses_of_ipv6_leave_ipv4s_port_to_its_own_line(binds: list[str], lines: list[str]) -> None:
    text = render_config(Options(binds=parse_binds(binds)), LAYOUT, ())

    assert [line.removeprefix("    bind ") for line in text.splitlines() if line.startswith("    bind ")] == [
        *lines,
        "unix@/srv/proxy/sockets/handover.sock mode 600 accept-proxy",
    ]


def test_systemd_is_told_which_addresses_to_hold_and_haproxy_which_socket_is_which() -> None:
    assert drop_ins(parse_binds(["0.0.0.0:80", "[::]:80"])) == {
        "pushboat-proxy.socket.d/addresses.conf": (
            "[Socket]\nBindIPv6Only=ipv6-only\nListenStream=\nListenStream=0.0.0.0:80\nListenStream=[::]:80\n"
        ),
        "pushboat-proxy.service.d/addresses.conf": (
            "[Service]\nEnvironment=PUSHBOAT_AT_0_0_0_0_80=fd@3\nEnvironment=PUSHBOAT_AT______80=fd@4\n"
        ),
    }
    assert "BindIPv6Only=both\n" in drop_ins(parse_binds(["[::]:80"]))["pushboat-proxy.socket.d/addresses.conf"]
    with pytest.raises(Misconfigured, match="beside"):
        drop_ins(parse_binds(["[::]:80", "0.0.0.0:80", "[::]:443"]))


def test_no_pattern_is_used_that_haproxy_would_compile_to_machine_code() -> None:
    text = render_config(
        Options(binds=parse_binds(["*:80"]), trusted=("10.0.0.0/8",)), LAYOUT, (Slot(name="slot0001"),)
    )

    assert not {"reg", "rsub", "map_reg", "map_regm", "regsub"} & set(re.split(r"[^a-z_]+", text))


def test_servers_and_apps_do_not_change_the_frame_and_balance_does() -> None:
    def frame(slot: Slot) -> str:
        return frame_of(render_config(OPTIONS, LAYOUT, (slot,)))

    empty = frame(Slot(name="slot0001"))
    assert len(empty) == 32
    assert frame(Slot(name="slot0001", upstreams=(ONE,))) == empty
    assert frame(Slot(name="slot0001", balance="leastconn")) != empty
    assert frame_of(f"Name: HAProxy\ndescription: pushboat-frame={empty}\n") == empty
    assert frame_of("description: something else") == ""


def test_a_server_that_is_as_wanted_needs_no_order() -> None:
    held = msgspec.structs.replace(EMPTY, servers={("slot0001", "r1"): SERVING})

    assert orders_to_add(held, {("slot0001", "r1"): ONE}) == []
    assert orders_to_withdraw(held, {("slot0001", "r1"): ONE}) == []


def test_a_server_comes_back_from_its_drain_and_to_its_own_address() -> None:
    drained = msgspec.structs.replace(EMPTY, servers={("slot0001", "r1"): WITHDRAWN})
    moved = msgspec.structs.replace(
        EMPTY, servers={("slot0001", "r1"): msgspec.structs.replace(SERVING, host="10.9.9.9")}
    )

    assert orders_to_add(drained, {("slot0001", "r1"): ONE}) == [
        "set server slot0001/r1 state ready",
        "set weight slot0001/r1 1",
    ]
    assert orders_to_add(moved, {("slot0001", "r1"): ONE}) == ["set server slot0001/r1 addr 10.0.0.1 port 5000"]


def test_only_a_server_that_still_gets_requests_is_withdrawn() -> None:
    held = msgspec.structs.replace(EMPTY, servers={("slot0001", "r1"): SERVING, ("slot0001", "r2"): WITHDRAWN})

    assert orders_to_withdraw(held, {}) == ["set server slot0001/r1 state drain"]


def test_the_map_is_changed_only_where_it_differs() -> None:
    exact = {"same.test": ["slot0001"], "moved.test": ["slot0001"], "gone.test": ["slot0001"], "twice.test": ["a", "b"]}
    wanted = Maps({"same.test": "slot0001", "moved.test": "slot0002", "new.test": "slot0003", "twice.test": "a"})

    assert orders_to_map(msgspec.structs.replace(EMPTY, exact=exact), wanted, "/m") == [
        "set map /m moved.test slot0002",
        "add map /m new.test slot0003",
        "del map /m twice.test",
        "add map /m twice.test a",
        "del map /m gone.test",
    ]


def test_a_difference_is_told_by_its_backends() -> None:
    slots = (Slot(name="slot0001", upstreams=(ONE,)), Slot(name="slot0002"))
    maps = Maps({"a.test": "slot0001"}, ((".b.test", "slot0002"), (".test", "slot0001")))
    same = msgspec.structs.replace(
        EMPTY, servers={("slot0001", "r1"): SERVING}, exact={"a.test": ["slot0001"]}, wildcards=maps.wildcards
    )

    def differing(**changes: object) -> set[str]:
        return differing_backends(msgspec.structs.replace(same, **changes), slots, maps)

    assert differing() == set()
    assert differing(servers={}) == {"slot0001"}
    assert differing(servers={("slot0001", "r1"): WITHDRAWN}) == {"slot0001"}
    assert differing(servers={("slot0001", "r1"): SERVING, ("slot0002", "x"): SERVING}) == {"slot0002"}
    assert differing(servers={("slot0001", "r1"): SERVING, ("slot0002", "x"): WITHDRAWN}) == set()
    assert differing(exact={"a.test": ["slot0002"]}) == {"slot0001", "slot0002"}
    assert differing(wildcards=maps.wildcards[::-1]) == {"slot0001", "slot0002"}


NOTHING = Look(servers={}, sessions={}, old=())
KEY = ("slot0001", "r1")


def look(*, server: Server | None = None, sessions: int = 0, old: tuple[OldWorker, ...] = ()) -> Look:
    return Look(servers={KEY: server} if server else {}, sessions={KEY: sessions} if server else {}, old=old)


def old_worker(sessions: int | None, ago: int) -> OldWorker:
    return OldWorker(replaced_ago=ago, sessions=None if sessions is None else {KEY: sessions})


@pytest.mark.parametrize(
    ("seen", "is_done"),
    [
        (look(), True),
        (look(server=SERVING), False),
        (look(server=WITHDRAWN), True),
        (look(server=WITHDRAWN, sessions=1), False),
        (look(old=(old_worker(0, 17),)), True),
        (look(old=(old_worker(0, 16),)), False),
        (look(old=(old_worker(1, 1000),)), False),
        (look(old=(old_worker(None, 1000),)), False),
        (look(old=(old_worker(0, 1000), old_worker(0, 3))), False),
        (look(old=(OldWorker(replaced_ago=0, sessions={("slot0009", "r9"): 5}),)), True),
    ],
)
def test_a_replica_is_drained_when_no_worker_can_still_send_to_it(seen: Look, is_done: bool) -> None:
    assert is_drained(seen, "r1", idle_seconds=15.0) is is_done


def test_every_page_is_a_whole_response() -> None:
    for name, page in load_pages().items():
        head, body = page.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 "), name
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n"), name
        assert b"\n" not in head.replace(b"\r\n", b""), name


def test_addresses_are_read() -> None:
    assert parse_binds(["*:80", "127.0.0.1:8080", "[::]:443"]) == (
        Bind("0.0.0.0", 80),
        Bind("127.0.0.1", 8080),
        Bind("::", 443),
    )
    assert str(Bind("::", 443)) == "[::]:443"
    assert parse_networks(["10.0.0.0/8", "10.1.2.3", "fd00::/8"]) == ("10.0.0.0/8", "10.1.2.3/32", "fd00::/8")


WRONG = ["80", ":80", "host:80", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:70000", "::1:80", "*:80 ssl", "[fe80::1%x]:80"]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_address_stops_the_start(text: str) -> None:
    with pytest.raises(Misconfigured, match="cannot listen on"):
        parse_binds([text])


@pytest.mark.parametrize("text", ["everyone", "10.0.0.0/40", "10.0.0.1 or all", "fe80::1%eth0 x"])
def test_a_wrong_network_stops_the_start(text: str) -> None:
    with pytest.raises(Misconfigured, match="not a network"):
        parse_networks([text])


@pytest.mark.parametrize("folder", ["/srv/with space", '/srv/"quoted"', "/srv/" + "x" * 100, "/srv/$HOME"])
def test_a_folder_that_haproxy_could_not_use_stops_the_start(folder: str) -> None:
    with pytest.raises(Misconfigured, match="cannot work in"):
        HaproxyProxy(Path(folder), binds=["127.0.0.1:80"], is_supervised=True)
