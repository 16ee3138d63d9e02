"""Who may enter next: the rules alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ssh.turnstile import (
    FIRST_PENALTY,
    FORGIVEN,
    FREE_FAILURES,
    LARGEST_PENALTY,
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
    assert stile.expired(now=PATIENCE) == []
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
        inside = [visitor for visitor in present if visitor.is_inside]
        assert stile.inside == len(inside) <= 4
        assert all(sum(v.source == s for v in inside) <= 2 for s in "abc")
        assert stile.waiting == len(present) - len(inside) <= 6
        due = stile.next_change(now=now)
        assert (due is not None) == (stile.waiting > 0) or due is not None
