"""Who may enter next: the rules alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ssh import line as lines
from agent.ssh import turnstile as rules
from agent.ssh.turnstile import (
    FIRST_PENALTY,
    FORGIVEN,
    FREE_FAILURES,
    LARGEST_PENALTY,
    LINGERING,
    PATIENCE,
    SILENCE,
    Turnstile,
    Visitor,
    source_of,
)


def turnstile(*, most: int = 100, each: int = 10, room: int = 1_000) -> Turnstile:
    return Turnstile(most=most, most_per_source=each, room=room)


def arrive(turnstile: Turnstile, source: str, *, now: float = 0.0, speaks: bool = True) -> Visitor:
    visitor, surplus = turnstile.arrive(source, now=now)
    assert surplus is None
    if speaks:
        turnstile.speak(visitor)
    return visitor


def test_whoever_speaks_enters_at_once() -> None:
    stile = turnstile()
    visitor = arrive(stile, "a")
    assert list(stile.enter(now=0.0)) == [visitor]
    assert (stile.inside, stile.waiting) == (1, 0)


def test_past_the_cap_of_a_source_visitors_wait_for_their_turn() -> None:
    stile = turnstile(each=2)
    first, second, third = (arrive(stile, "a") for _ in range(3))
    assert list(stile.enter(now=0.0)) == [first, second]
    stile.leave(first, now=1.0)
    assert list(stile.enter(now=1.0)) == [third]


def test_a_full_source_does_not_keep_out_another() -> None:
    stile = turnstile(each=1)
    for _ in range(50):
        arrive(stile, "a")
    other = arrive(stile, "b")
    assert other in list(stile.enter(now=0.0))


def test_sources_take_turns_for_the_last_places() -> None:
    stile = turnstile(most=4, each=10)
    crowd = [arrive(stile, "a") for _ in range(10)]
    single = arrive(stile, "b")
    assert list(stile.enter(now=0.0)) == [crowd[0], single, crowd[1], crowd[2]]


def test_a_silent_visitor_enters_after_a_while_and_takes_at_most_half_of_the_places() -> None:
    stile = turnstile(each=10)
    for _ in range(5_00):
        arrive(stile, "a", speaks=False)
    assert list(stile.enter(now=SILENCE / 2)) == []
    assert len(list(stile.enter(now=SILENCE))) == 5
    speaker = arrive(stile, "a", now=SILENCE)
    assert list(stile.enter(now=SILENCE)) == [speaker]


def test_who_waited_too_long_is_sent_away() -> None:
    stile = turnstile(each=1)
    inside, waiting = arrive(stile, "a"), arrive(stile, "a", now=1.0)
    list(stile.enter(now=1.0))
    assert stile.expired(now=1.0 + PATIENCE - 0.001) == []
    assert stile.expired(now=1.0 + PATIENCE) == [waiting]
    assert inside.is_inside and stile.waiting == 0


def test_a_full_room_sends_away_the_longest_silent_of_the_largest_crowd() -> None:
    stile = turnstile(room=3)
    first = arrive(stile, "a", speaks=False)
    arrive(stile, "a", speaks=False)
    other = arrive(stile, "b", speaks=False)
    visitor, surplus = stile.arrive("c", now=0.0)
    assert surplus is first
    stile.leave(first, now=0.0)
    assert stile.waiting == 3
    stile.speak(other)
    stile.speak(visitor)
    assert list(stile.enter(now=0.0)) == [other, visitor]


def test_who_lingers_keeps_its_place_from_others_of_its_own_source() -> None:
    """They may be fifty pushes from one busy machine, none of which would get on with its login otherwise."""
    stile = turnstile(each=2)
    arrive(stile, "a")
    arrive(stile, "a")
    list(stile.enter(now=0.0))
    arrive(stile, "a", now=1.0)
    assert list(stile.enter(now=1.0)) == []
    assert stile.displace(now=1.0 + LINGERING) is None


def test_who_lingers_keeps_its_place_while_nobody_that_spoke_wants_it() -> None:
    stile = turnstile(each=1)
    arrive(stile, "a")
    list(stile.enter(now=0.0))
    arrive(stile, "a", now=1.0, speaks=False)
    arrive(stile, "b", now=1.0, speaks=False)
    assert stile.displace(now=3.0) is None


def test_of_all_sources_the_one_with_most_places_gives_one_to_a_newcomer() -> None:
    stile = turnstile(most=4, each=3)
    greedy = [arrive(stile, "a") for _ in range(3)]
    arrive(stile, "b")
    list(stile.enter(now=0.0))
    newcomer = arrive(stile, "c", now=1.0)
    assert stile.displace(now=1.0) is None and stile.next_change(now=1.0) == LINGERING
    assert stile.displace(now=LINGERING) is greedy[0]
    assert stile.displace(now=LINGERING) is None
    stile.leave(greedy[0], now=LINGERING, has_failed=True)
    assert list(stile.enter(now=LINGERING)) == [newcomer]
    assert stile._sources["a"].failures == 0, "it was sent away"


def test_a_source_takes_no_place_from_one_that_has_as_few() -> None:
    stile = turnstile(most=2, each=2)
    arrive(stile, "a")
    arrive(stile, "b")
    list(stile.enter(now=0.0))
    arrive(stile, "b", now=1.0)
    assert stile.displace(now=LINGERING) is None
    arrive(stile, "c", now=LINGERING)
    assert stile.displace(now=LINGERING) is None, "the one whose turn it is comes first"


def test_failed_logins_slow_a_source_and_never_lock_it_out() -> None:
    stile = turnstile()
    now, waits = 0.0, []
    for _ in range(FREE_FAILURES + 10):
        visitor = arrive(stile, "a", now=now)
        entered = list(stile.enter(now=now))
        start = now
        while not entered:
            due = stile.next_change(now=now)
            assert due is not None and due > now
            now = due
            entered = list(stile.enter(now=now))
        waits.append(now - start)
        assert entered == [visitor]
        stile.leave(visitor, now=now, has_failed=True)
    assert waits[: FREE_FAILURES + 1] == [0.0] * (FREE_FAILURES + 1)
    assert waits[FREE_FAILURES + 1] == pytest.approx(FIRST_PENALTY)
    assert waits[FREE_FAILURES + 2] == pytest.approx(2 * FIRST_PENALTY)
    assert max(waits) == pytest.approx(LARGEST_PENALTY) and max(waits) < PATIENCE
    assert arrive(stile, "b", now=now) in list(stile.enter(now=now))


def test_failures_are_forgiven_after_a_while() -> None:
    stile = turnstile()
    for _ in range(FREE_FAILURES + 1):
        visitor = arrive(stile, "a")
        list(stile.enter(now=0.0))
        stile.leave(visitor, now=0.0, has_failed=True)
    later = FORGIVEN + 1
    visitor = arrive(stile, "a", now=later)
    list(stile.enter(now=later))
    stile.leave(visitor, now=later, has_failed=True)
    visitor = arrive(stile, "a", now=later)
    assert list(stile.enter(now=later)) == [visitor]


def test_nothing_is_due_while_nobody_waits() -> None:
    stile = turnstile()
    visitor = arrive(stile, "a")
    list(stile.enter(now=0.0))
    assert stile.next_change(now=0.0) is None
    stile.leave(visitor, now=0.0)
    stile.leave(visitor, now=0.0)
    assert (stile.inside, stile.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_one_source_is_an_ipv4_address_or_an_ipv6_subnet(address: str, source: str) -> None:
    assert source_of(address) == source


@contextmanager
def counted_lines() -> Iterator[list[int]]:
    """Count the lines of the rules that are run."""
    count = [0]

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code.co_filename not in (rules.__file__, lines.__file__):
            return None
        count[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield count
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("is_full", [False, True], ids=["a half empty room", "a full room"])
def test_an_arrival_costs_the_same_however_many_addresses_a_flood_has(is_full: bool) -> None:
    def cost(sources: int) -> int:
        stile = turnstile(room=2_000 if is_full else 4_000)
        for number in range(2_000):
            arrive(stile, str(number % sources), speaks=False)
        with counted_lines() as count:
            for number in range(100):
                _, surplus = stile.arrive(str(number % sources), now=0.1)
                assert (surplus is not None) == is_full
                if surplus is not None:
                    stile.leave(surplus, now=0.1)
                stile.expired(now=0.1)
                assert list(stile.enter(now=0.1)) == []
                stile.next_change(now=0.1)
        return count[0]

    assert cost(2_000) < 2 * cost(2)


def test_those_who_came_and_went_leave_nothing_in_the_lines() -> None:
    stile = turnstile(most=1)
    arrive(stile, "inside")
    list(stile.enter(now=0.0))
    for number in range(1_000):
        stile.leave(arrive(stile, str(number), now=0.0), now=0.0)
    assert len(stile._sources) == 1
    assert len(stile._speaking._later) + len(stile._hushed._later) < 200


Step = tuple[str, int, float]
steps = st.lists(
    st.tuples(st.sampled_from(["arrive", "speak", "leave", "fail", "wait"]), st.integers(0, 9), st.floats(0, 3)),
    max_size=120,
)


@given(steps)
def test_caps_hold_and_nobody_is_lost_whatever_happens(steps: list[Step]) -> None:
    stile = Turnstile(most=4, most_per_source=2, room=6)
    now = 0.0
    present: list[Visitor] = []
    for action, choice, seconds in steps:
        now += seconds
        if action == "arrive":
            visitor, surplus = stile.arrive("abc"[choice % 3], now=now)
            present.append(visitor)
            if surplus is not None:
                stile.leave(surplus, now=now)
                present.remove(surplus)
        elif present and action in ("leave", "fail"):
            stile.leave(present.pop(choice % len(present)), now=now, has_failed=action == "fail")
        elif present and action == "speak":
            stile.speak(present[choice % len(present)])
        for visitor in stile.expired(now=now):
            present.remove(visitor)
        list(stile.enter(now=now))
        displace_all(stile, present, now=now)
        inside = [visitor for visitor in present if visitor.is_inside]
        assert stile.inside == len(inside) <= 4
        assert all(sum(v.source == s for v in inside) <= 2 for s in "abc")
        assert stile.waiting == len(present) - len(inside) <= 6
        due = stile.next_change(now=now)
        assert (due is None) == (stile.waiting == 0)
        may_enter = earliest(stile, [visitor for visitor in present if not visitor.is_inside])
        if may_enter is not None:
            assert due is not None and now < may_enter and due <= may_enter


def displace_all(stile: Turnstile, present: list[Visitor], *, now: float) -> None:
    """Send away who has to make place, and make sure that it had to, and that nobody else has to."""
    while (guest := stile.displace(now=now)) is not None:
        assert guest.is_inside and now - guest.entered >= LINGERING
        assert any(rival.has_spoken and not rival.is_inside for rival in present)
        stile.leave(guest, now=now)
        present.remove(guest)
        assert len(list(stile.enter(now=now))) <= 1
    assert stile._leaving == 0


def earliest(stile: Turnstile, waiting: list[Visitor]) -> float | None:
    """Return when the next of those who wait may enter if nothing else happens, found by looking at each."""
    times = []
    for visitor in waiting:
        source = stile._sources[visitor.source]
        is_held = stile.inside >= 4 or source.inside >= 2
        if not visitor.has_spoken:
            is_held |= bool(source.spoken) or source.silent_inside >= 1 or stile._silent_inside >= 2
        if not is_held:
            times.append(max(source.not_before, -1.0 if visitor.has_spoken else visitor.arrived + SILENCE))
    return min(times, default=None)
