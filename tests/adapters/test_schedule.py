"""Feeds that are read at times of the day."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.schedule import Schedule, parse_times

SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-01 01:59:59", 1),
        ("2026-03-01 02:00:00", 11.5 * 3600),  # that one is being read
        ("2026-03-01 13:29", 60),
        ("2026-03-01 13:30", 12.5 * 3600),
        ("2026-12-31 23:00", 3 * 3600),
    ],
)
def test_the_next_time(now: str, until: float) -> None:
    schedule = Schedule(parse_times(["13:30", "02:00"]), SHANGHAI)
    assert schedule.seconds_until_next(at(now, SHANGHAI)) == until


def test_a_time_that_the_clocks_leave_out_comes_an_hour_later() -> None:
    schedule = Schedule((time(2, 30),), BERLIN)  # on 29 March 2026 there is no 02:30 in Berlin
    assert schedule.seconds_until_next(at("2026-03-29 01:30", BERLIN)) == 3600
    assert schedule.seconds_until_next(at("2026-03-29 03:30", BERLIN)) == 23 * 3600


def test_a_time_that_the_clocks_repeat_comes_once() -> None:
    schedule = Schedule((time(2, 30),), BERLIN)  # on 25 October 2026 there are two
    assert schedule.seconds_until_next(at("2026-10-25 02:30", BERLIN)) == 25 * 3600


@given(
    st.floats(0, 4e9), st.lists(st.times().map(lambda t: t.replace(second=0, microsecond=0)), min_size=1, max_size=5)
)
def test_the_next_time_always_comes_within_a_day_and_an_hour(now: float, times: list[time]) -> None:
    assert 0 < Schedule(tuple(sorted(set(times))), BERLIN).seconds_until_next(now) <= 25 * 3600


@pytest.mark.parametrize(
    "texts", [[], ["24:00"], ["2:00"], ["02:60"], ["02:00:00"], [2], [None], ["02:00"] * 5 + ["x"]]
)
def test_what_is_no_time(texts: list[object]) -> None:
    with pytest.raises(ValueError):
        parse_times(texts)
