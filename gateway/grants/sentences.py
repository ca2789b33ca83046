"""A grant in plain language: what it allows in one sentence, and how it stands now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from gateway.grants.purposes import purposes
from ledger.chain.sharing_grants import Grant, Terms
from ledger.record_types import RecordTypes

Language = Literal["zh", "en"]

PENDING, IN_FORCE, EXPIRED, REVOKED = "pending", "in-force", "expired", "revoked"


def state_of(grant: Grant, now: float) -> str:
    """`pending`, `in-force`, `expired` or `revoked` at `now`, seconds since 1970."""
    if grant.revoked_at is not None and now >= grant.revoked_at:
        return REVOKED
    if now >= grant.valid_to:
        return EXPIRED
    return IN_FORCE if now >= grant.valid_from else PENDING


def sentence(grant: Grant, language: Language, types: RecordTypes, names: Mapping[str, str]) -> str:
    """What the grant allows. `names`: department id to `中文` or `中文 | English`, as the registry has it."""
    owner, grantee = (_department(names, each, language) for each in (grant.owner, grant.grantee))
    listed = {name: list(words) for name, words in _words(grant, language, types).items()}
    start, end = _time(grant.valid_from), _time(grant.valid_to)
    if language == "zh":
        what = f"提取“{'”“'.join(listed['types'])}”中的：{'、'.join(listed['units'])}"
        kinds = "、".join(grant.case_kinds)
        return (
            f"{owner}允许{grantee}{what}。用途：{'、'.join(listed['purposes'])}；限案件或检查类型：{kinds}；"
            f"每日最多{grant.per_day:,}条；{start} 起，{end} 止。"
        )
    return (
        f"{owner} lets {grantee} extract from {_and(listed['types'])}: {', '.join(listed['units'])}. "
        f"For {_or(listed['purposes'])} only, in cases or inspections of kind {_or(grant.case_kinds)}, "
        f"at most {grant.per_day:,} a day, from {start} until {end}."
    )


def standing(grant: Grant, language: Language, now: float) -> str:
    """How the grant stands at `now`."""
    words = {
        PENDING: ("尚未生效，{start} 起生效", "Not in force before {start}"),
        IN_FORCE: ("有效，{end} 到期", "In force; it ends at {end}"),
        EXPIRED: ("已于 {end} 到期", "Expired at {end}"),
        REVOKED: ("已于 {revoked} 撤销", "Revoked at {revoked}"),
    }[state_of(grant, now)]
    revoked = _time(grant.revoked_at) if grant.revoked_at is not None else ""
    text = words[0] if language == "zh" else words[1]
    return text.format(start=_time(grant.valid_from), end=_time(grant.valid_to), revoked=revoked)


def _words(grant: Terms, language: Language, types: RecordTypes) -> dict[str, Iterable[str]]:
    known = [each for each in types if each.name in grant.record_types]
    titles = {each.name: each.title[language] for each in known}
    units = {unit: title[language] for each in known for unit, title in each.unit_titles.items()}
    listed = purposes()
    return {
        "types": [titles.get(name, name) for name in grant.record_types],
        "units": [units.get(name, name) for name in grant.units],
        "purposes": [listed[name][language] if name in listed else name for name in grant.purposes],
    }


def _department(names: Mapping[str, str], department: str, language: Language) -> str:
    zh, _, en = names.get(department, department).partition(" | ")
    return zh if language == "zh" else en or zh


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %z")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"  # a time that no calendar has


def _and(words: Iterable[str]) -> str:
    return " and ".join(f"“{word}”" for word in words)


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)
