"""From tables to slots and maps: pure, so tried with whatever may come."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ports.proxy import Route, Upstream
from agent.proxies.haproxy.binds import parse_binds
from agent.proxies.haproxy.config import Layout, Options, read_maps, read_slots, render_config, render_map
from agent.proxies.haproxy.plan import Plan, make_plan, read_back
from agent.proxies.haproxy.slots import Slot, assign
from proto.names import AppId
from tests.proxies.front import route, table

ONE = Upstream("r1", "10.0.0.1", 5000)
TWO = Upstream("r2", "10.0.0.2", 5000)
LAYOUT = Layout(Path("/srv/proxy"))
OPTIONS = Options(binds=parse_binds(["0.0.0.0:80"]))


def replaced(base: Route, **changes: object) -> Route:
    return msgspec.structs.replace(base, **changes)


def slots_by_app(slots: tuple[Slot, ...]) -> dict[str, str]:
    return {slot.app: slot.name for slot in slots if slot.app}


HOSTILE = [
    replaced(route("evil"), domains=("a.test slot0001",)),
    replaced(route("evil"), domains=("a.test\nb.test",)),
    replaced(route("evil"), domains=("A.test",)),
    replaced(route("evil"), domains=("",)),
    replaced(route("evil"), domains=("*",)),
    replaced(route("evil"), domains=("*.*.test",)),
    replaced(route("evil"), domains=("bücher.test",)),
    replaced(route("evil"), domains=("a.test;show",)),
    replaced(route("evil"), upstreams=(Upstream("r 1", "10.0.0.1", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1\n", "10.0.0.1", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1;x", "10.0.0.1", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "host.test", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "10.0.0.1 backup", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "fe80::1%eth0 x", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "fd00:0::1", 80),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "10.0.0.1", 0),)),
    replaced(route("evil"), upstreams=(Upstream("r1", "10.0.0.1", 70_000),)),
    replaced(route("evil"), upstreams=(ONE, ONE)),
    replaced(route("evil"), balance="source"),
    replaced(route("evil"), app=AppId("another")),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_an_unfit_route_is_refused_alone(hostile: Route) -> None:
    good = route("good", TWO)

    plan = make_plan({AppId("app-evil"): hostile, good.app: good}, Plan(), spares=1)

    assert list(plan.refusals) == ["app-evil"]
    assert list(plan.routes) == [good.app]
    assert plan.maps.exact == {"good.test": "slot0001"}


def test_a_refused_route_leaves_the_former_one() -> None:
    former = make_plan(table(route("blog", ONE)), Plan(), spares=1)

    plan = make_plan(table(route("blog", TWO, domains=("two words",))), former, spares=1)

    assert plan.routes == former.routes
    assert plan.slots == former.slots


def test_who_had_a_domain_keeps_it_against_one_that_claims_it_too() -> None:
    former = make_plan(table(route("zoo", ONE, domains=("a.test",))), Plan(), spares=2)

    plan = make_plan(
        table(route("zoo", ONE, domains=("a.test",)), route("blog", TWO, domains=("a.test",))), former, spares=2
    )

    assert plan.refusals == {"app-blog": "The domain a.test belongs to another app."}
    assert plan.maps.exact == {"a.test": slots_by_app(plan.slots)["app-zoo"]}


def test_a_refused_app_loses_what_another_has_rightly_taken() -> None:
    former = make_plan(table(route("blog", ONE, domains=("a.test", "b.test"))), Plan(), spares=2)
    broken = replaced(route("blog", ONE), domains=("not a domain",))

    plan = make_plan(table(broken, route("shop", TWO, domains=("b.test",))), former, spares=2)

    assert plan.maps.exact == {"a.test": "slot0001", "b.test": "slot0002"}


def test_two_apps_cannot_have_one_replica() -> None:
    plan = make_plan(table(route("blog", ONE), route("shop", ONE)), Plan(), spares=2)

    assert plan.refusals == {"app-shop": "The replica r1 belongs to another app."}


def test_an_app_keeps_its_slot_while_others_come_and_go() -> None:
    plan = make_plan(table(route("a"), route("keep", ONE)), Plan(), spares=4)
    for others in (["b"], ["b", "c"], ["c", "a"], [], ["x", "y", "z"]):
        plan = make_plan(table(route("keep", ONE), *(route(name) for name in others)), plan, spares=4)
        assert slots_by_app(plan.slots)["app-keep"] == "slot0002"


def test_a_slot_is_not_given_away_by_the_table_that_frees_it() -> None:
    former = make_plan(table(route("blog", ONE)), Plan(), spares=1)

    plan = make_plan(table(route("shop", TWO)), former, spares=1)

    assert slots_by_app(former.slots) == {"app-blog": "slot0001"}
    assert slots_by_app(plan.slots)["app-shop"] != "slot0001"


def test_slots_about_double_when_they_run_out() -> None:
    four = assign((), {}, spares=4)
    assert len(four) == 4
    five = {AppId(f"app-{n}"): route(str(n)) for n in range(5)}
    assert len(assign(four, five, spares=4)) == 9
    many = {AppId(f"app-{n}"): route(str(n)) for n in range(100)}
    assert len(assign(four, many, spares=4)) == 104


def test_a_free_slot_that_balances_as_wanted_is_preferred() -> None:
    slots = (Slot(name="slot0001"), Slot(name="slot0002", balance="leastconn"))

    taken = assign(slots, table(route("blog", balance="leastconn")), spares=1)

    assert slots_by_app(taken) == {"app-blog": "slot0002"}


def test_longer_wildcards_come_first() -> None:
    wide, narrow = route("a", domains=("*.test", "*.shop.test")), route("b", domains=("*.x.shop.test",))

    plan = make_plan(table(wide, narrow), Plan(), spares=2)

    assert [suffix for suffix, _ in plan.maps.wildcards] == [".x.shop.test", ".shop.test", ".test"]


NAMES = st.sampled_from("abcdef")
ROUTES = st.builds(
    lambda name, replicas, domains, deployed, balance: Route(
        app=AppId(f"app-{name}"),
        app_name=name,
        domains=tuple(sorted({f"{prefix}{name}{n}.test" for prefix, n in domains})),
        upstreams=tuple(Upstream(f"{name}{n}", f"10.0.0.{n}", 5000 + n) for n in sorted(replicas)) if deployed else (),
        is_deployed=deployed,
        balance=balance,
    ),
    NAMES,
    st.sets(st.integers(1, 9), max_size=3),
    st.sets(st.tuples(st.sampled_from(["", "*."]), st.integers(1, 3)), max_size=3),
    st.booleans(),
    st.sampled_from(["roundrobin", "leastconn"]),
)


@pytest.mark.slow
@given(st.lists(st.lists(ROUTES, max_size=6), min_size=1, max_size=5))
def test_whatever_tables_follow_each_other_everything_is_served_and_can_be_read_back(tables: list[list[Route]]) -> None:
    plan = Plan()
    for routes in tables:
        wanted = table(*routes)
        plan = make_plan(wanted, plan, spares=2)

        assert not plan.refusals
        homes = slots_by_app(plan.slots)
        assert homes.keys() == {app for app, route in wanted.items() if route.is_deployed}
        assert len(set(homes.values())) == len(homes)
        for app, one in wanted.items():
            targets = {plan.maps.exact.get(d) or dict(plan.maps.wildcards)[d[1:]] for d in one.domains}
            assert targets <= {homes.get(app, "no-release")}
        text = render_config(OPTIONS, LAYOUT, plan.slots)
        maps = read_maps(render_map(plan.maps.exact.items()), render_map(plan.maps.wildcards))
        again = read_back(read_slots(text), maps)
        assert (again.slots, again.maps) == (plan.slots, plan.maps)
        assert {app: set(one.domains) for app, one in again.routes.items()} == {
            app: set(one.domains) for app, one in wanted.items() if one.is_deployed
        }
