"""`yunxi grant`: which department may extract what of whose records, for what, until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import HERE, JsonOption, NodeOption, answering, counted, open_node, print_json, say
from ledger.errors import CouldNotRun, Refusal

if TYPE_CHECKING:
    from gateway.grants.service import Grants
    from ledger.chain.sharing_grants import Grant
    from ledger.node import ChainLink, Node

grant_app = typer.Typer(help="Which department may extract what of whose records.", no_args_is_help=True)

AsOption = Annotated[str, typer.Option("--as", metavar="DEPARTMENT", help="The department of this node that owns.")]
NumberArgument = Annotated[int, typer.Argument(metavar="N", help="The grant's number.", min=0)]
LangOption = Annotated[str, typer.Option(help="Language of the sentences, zh or en.")]


@grant_app.command("give")
@answering
def give(
    owner: AsOption,
    grantee: Annotated[str, typer.Option("--to", metavar="DEPARTMENT", help="Who may extract.")],
    record_types: Annotated[list[str], typer.Option("--type", help="A record type; may be repeated.")],
    units: Annotated[list[str], typer.Option("--unit", help="A unit that is shown; may be repeated.")],
    purposes: Annotated[list[str], typer.Option("--purpose", help="A code of docs/grants.md; may be repeated.")],
    case_kinds: Annotated[list[str], typer.Option("--kind", help="A kind of case or inspection; may be repeated.")],
    until: Annotated[str, typer.Option(metavar="TIME", help="When it ends: 2027-01-31, or with time and offset.")],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="When it begins; by default now.")] = None,
    per_day: Annotated[int, typer.Option(help="How many records a day at the most.", min=1)] = 1_000,
    legal_basis: Annotated[
        str | None, typer.Option(help="The law that allows it, for records that are restricted by law.")
    ] = None,
    lang: LangOption = "en",
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Give a grant in the name of a department of this node."""
    from ledger.chain.sharing_grants import Terms

    with _grants(node_dir) as (grants, node, link):
        terms = Terms(
            grantee=grantee,
            valid_from=int(node.clock()) if since is None else _moment(since, end=False),
            valid_to=_moment(until, end=True),
            per_day=per_day,
            record_types=tuple(record_types),
            units=tuple(units),
            purposes=tuple(purposes),
            case_kinds=tuple(case_kinds),
        )
        grant = grants.give(owner, terms, by="command-line", legal_basis=legal_basis)
        _answer(grant, node, link, lang, as_json)


@grant_app.command("list")
@answering
def list_grants(
    department: Annotated[str, typer.Argument(metavar="DEPARTMENT", help="Who gave them, or got them.")],
    received: Annotated[bool, typer.Option("--received", help="Those it got, not those it gave.")] = False,
    lang: LangOption = "en",
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List every grant that a department ever gave or got, newest first."""
    with _grants(node_dir) as (grants, node, link):
        found = grants.received_by(department) if received else grants.given_by(department)
        shown = [_shown(grant, node, link) for grant in reversed(found)]
    if as_json:
        print_json({"grants": shown})
        return
    for each in shown:
        _say(each, lang)
    say(f"{counted(len(shown), 'grant')}.")


@grant_app.command("show")
@answering
def show(
    number: NumberArgument,
    lang: LangOption = "en",
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a grant in plain language."""
    with _grants(node_dir) as (grants, node, link):
        _answer(grants.find(number), node, link, lang, as_json)


@grant_app.command("revoke")
@answering
def revoke(
    number: NumberArgument,
    lang: LangOption = "en",
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End a grant of a department of this node now, for ever."""
    with _grants(node_dir) as (grants, node, link):
        _answer(grants.revoke(grants.find(number).owner, number), node, link, lang, as_json)


@contextmanager
def _grants(node_dir: Path) -> Iterator[tuple[Grants, Node, ChainLink]]:
    from gateway.grants.service import Grants

    with open_node(node_dir) as node:
        link = node.connect()
        yield Grants(node, lambda: link, node.intake.submit), node, link


def _shown(grant: Grant, node: Node, link: ChainLink) -> dict[str, Any]:
    from gateway.grants.sentences import sentence, standing, state_of
    from gateway.grants.service import grant_json

    names = {found.id: found.name for found in link.consortium.departments()}
    now, types = node.clock(), node.types
    return grant_json(grant) | {
        "state": state_of(grant, now),
        "sentence": {"zh": sentence(grant, "zh", types, names), "en": sentence(grant, "en", types, names)},
        "standing": {"zh": standing(grant, "zh", now), "en": standing(grant, "en", now)},
    }


def _answer(grant: Grant, node: Node, link: ChainLink, lang: str, as_json: bool) -> None:
    shown = _shown(grant, node, link)
    if as_json:
        print_json(shown)
    else:
        _say(shown, lang)


def _say(shown: dict[str, Any], lang: str) -> None:
    if lang not in ("zh", "en"):
        raise CouldNotRun(f"--lang must be zh or en, not {lang!r}")
    say(f"{shown['id']}: {shown['sentence'][lang]}")
    say(f"   {shown['standing'][lang]}")


def _moment(text: str, *, end: bool) -> int:
    """Seconds since 1970. A day alone is this machine's day: its beginning, or with `end` the beginning of the next."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refusal(f"{text[:40]!r} is no time: like 2027-01-31 or 2027-01-31T18:00:00+08:00") from error
    if len(text) == len("2027-01-31") and end:
        found += timedelta(days=1)
    return int(found.timestamp())
