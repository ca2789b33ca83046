"""`yunxi matters`: the lists of enforcement powers, by which intake decides what a department may record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    anchor_json,
    answering,
    counted,
    err,
    open_node,
    print_json,
    say,
    show_anchors,
)
from ledger.errors import CouldNotRun, MattersRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from adapters.source import Page, Source
    from ledger.matter_lists import Change, Delivered, ListRow, Matter
    from ledger.matters import Draft, Origin
    from ledger.node import Node
    from ledger.submission import Acknowledged

matters_app = typer.Typer(help="Lists of enforcement powers (事项清单).", no_args_is_help=True)

DepartmentOption = Annotated[str | None, typer.Option(metavar="ID", help="Only this department's.")]

_TITLE_ROWS = 10
_MAX_EXACT = 10**15  # a workbook keeps 15 digits of a number
_MAX_SHOWN_FAULTS = 200


@matters_app.command("import")
@answering
def matters_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The list: .xlsx or .csv (docs/matters.md).")],
    department: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose list it is; without, every row names its department.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DAY", help="The day from which it rules; today by default.")
    ] = None,
    first_day: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day in force of rows that give none.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ID", help="What the list calls a department; may be repeated.")
    ] = None,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="Days in the past may be taken back; the record names the matters.")
    ] = False,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="A matter may rest for some days.")] = False,
    sheet: Annotated[str | None, typer.Option(help="The sheet of the workbook; the first by default.")] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV file, such as gb18030.")] = "utf-8",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change; write nothing.")] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Publish a new version of a department's list, or of several; all rows are right, or nothing is published."""
    from adapters.state import natural_order
    from ledger.anchor import Anchorer
    from ledger.matter_lists import read_list
    from ledger.matters import Origin, draft, publish

    today = datetime.fromtimestamp(_now()).astimezone().date()
    headings, rows, broken = _read_file(file, sheet, encoding)
    with open_node(node_dir) as node:
        delivered = read_list(
            headings,
            rows,
            department=department,
            departments=_names(node, headings, rows, alias or []),
            effective_from=_day("--from", first_day) if first_day else None,
        )
        try:
            if broken or delivered.faults:
                faults = [*broken, *delivered.faults]
                raise MattersRefused(sorted(faults, key=lambda fault: natural_order(fault.split(": ")[0])))
            drafts = draft(
                node.database,
                delivered,
                as_of=_day("--as-of", as_of) if as_of else today,
                today=today,
                retroactive=retroactive,
                allow_gaps=allow_gaps,
            )
        except MattersRefused as error:
            return _show_faults(error, as_json)
        origin = Origin(file.name, hashlib.sha256(file.read_bytes()).digest())
        needed = [made for made in drafts if made.merged.changes or made.before is None]
        sealed = {} if dry_run else _publish(node, needed, origin, publish)
        anchored = [o for o in Anchorer(node).round() if o.department in sealed] if sealed else []
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "lists": [_draft_json(made, sealed.get(made.list.department), made in needed) for made in drafts],
                "unused_headings": delivered.unused,
                "anchors": [anchor_json(outcome) for outcome in anchored],
            }
        )
        return 0
    _show_import(drafts, needed, delivered, dry_run=dry_run)
    show_anchors(anchored)
    return 0


def _publish(node: Node, needed: list[Draft], origin: Origin, publish: Any) -> dict[str, Acknowledged]:
    # die between two: the same import again finds the first unchanged and goes on with the second
    return {made.list.department: publish(node.intake, made, origin, node.clock()) for made in needed}


def _show_faults(error: MattersRefused, as_json: bool) -> int:
    if as_json:
        print_json({"error": {"code": error.code, "message": str(error), "faults": error.faults}})
        return error.exit_code
    for fault in error.faults[:_MAX_SHOWN_FAULTS]:
        err.print(fault, markup=False)
    if len(error.faults) > _MAX_SHOWN_FAULTS:
        err.print(f"… and {len(error.faults) - _MAX_SHOWN_FAULTS:,} more (--json names them all)", markup=False)
    err.print(f"yunxi: nothing was published: {counted(len(error.faults), 'fault')} in the list", markup=False)
    return error.exit_code


def _show_import(drafts: list[Draft], needed: list[Draft], delivered: Delivered, *, dry_run: bool) -> None:
    for made in drafts:
        name, version = made.list.department, made.list.version
        if made not in needed:
            say(f"{name}: nothing changed since version {version - 1}; nothing is published.")
            continue
        verb = "would be" if dry_run else "is"
        what = ", ".join(f"{count:,} {word}" for word, count in _counts(made.merged.changes).items() if count)
        say(f"{name}: version {version} {verb} published, {counted(_codes(made), 'matter')}: {what}.")
        for word, codes in (("retracted", made.merged.retracted), ("backdated", made.merged.backdated)):
            if codes:
                shown = ", ".join(codes[:5]) + (", …" if len(codes) > 5 else "")
                say(f"  {word}, {counted(len(codes), 'matter')}: {shown}")
    if delivered.unused:
        say(f"Headings that are not used: {', '.join(delivered.unused)}")


def _draft_json(made: Draft, sealed: Acknowledged | None, is_needed: bool) -> dict[str, Any]:
    return {
        "department": made.list.department,
        "version": made.list.version if is_needed else made.list.version - 1,
        "changed": is_needed,
        "record_id": sealed.record_id if sealed else None,
        "matters": _codes(made),
        "changes": _counts(made.merged.changes),
        "retracted": made.merged.retracted,
        "backdated": made.merged.backdated,
    }


def _codes(made: Draft) -> int:
    return len({matter.code for matter in made.list.matters})


def _counts(changes: tuple[Change, ...]) -> dict[str, int]:
    words = [change.what for change in changes]
    return {what: words.count(what) for what in ("added", "changed", "ended", "removed")}


# ---- the delivered file ------------------------------------------------------------------------------------------


def _read_file(file: Path, sheet: str | None, encoding: str) -> tuple[tuple[str, ...], list[ListRow], list[str]]:
    """Headings, rows, and what could not be read as a row. In a workbook, titles may stand above the headings."""
    from ledger.matter_lists import column_of

    if not file.is_file():
        raise CouldNotRun(f"there is no file {file}; name the list, a workbook (.xlsx) or a CSV file")
    first = None
    for header_row in range(1, _TITLE_ROWS + 1) if file.suffix.lower() == ".xlsx" else (1,):
        with closing(_source(file, sheet, encoding, header_row).pages({}, 10_000)) as pages:
            page = next(pages, None)
            columns = {column_of(heading) for heading in (page.columns or () if page else ())}
            if {"code", "name"} <= columns and page is not None:
                return _rows_of([page, *pages], encoding)
            first = first or page
    return _rows_of([first] if first else [], encoding)


def _source(file: Path, sheet: str | None, encoding: str, header_row: int) -> Source:
    from adapters.csv_files import CsvFiles, CsvOptions
    from adapters.files import FileOptions, Header, is_ascii_compatible
    from adapters.source import Limits
    from adapters.xlsx_files import XlsxFiles, XlsxOptions

    nowhere = FileOptions(None, None, None)
    if file.suffix.lower() == ".xlsx":
        options = XlsxOptions(nowhere, sheet, Header(header_row), cached=True, fill_merged=False, skip={})
        return XlsxFiles(options, [(file.name, file)], frozenset(), Limits())
    if not is_ascii_compatible(encoding):
        raise CouldNotRun(f"--encoding {encoding} cannot be read; save the file as UTF-8 or gb18030")
    return CsvFiles(
        CsvOptions(nowhere, encoding, ",", None, Header(header_row), {}, excel_text=False),
        [(file.name, file)],
        frozenset(),
        Limits(),
    )


def _rows_of(pages: list[Page], encoding: str) -> tuple[tuple[str, ...], list[ListRow], list[str]]:
    from adapters.source import BadRow

    headings = next((page.columns for page in pages if page.columns), ())
    rows: list[ListRow] = []
    broken: list[str] = []
    for row in (row for page in pages for row in page.rows):
        if isinstance(row, BadRow):
            hint = (
                "; try --encoding gb18030" if encoding == "utf-8" and row.reason in ("encoding", "bad-header") else ""
            )
            broken.append(f"{row.position}: {row.detail}{hint}")
        else:
            rows.extend(_row_of(row.position, row.values, broken))
    return headings, rows, broken


def _row_of(position: str, values: Any, broken: list[str]) -> Iterator[ListRow]:
    from adapters.conversions import Invalid, to_text
    from ledger.matter_lists import ListRow, column_of

    cells = {}
    for heading, value in values.items():
        if column_of(heading) is None or value is None:
            continue
        try:
            if isinstance(value, int | float) and abs(value) >= _MAX_EXACT:
                raise Invalid("too-long", "is a number whose last digits the workbook lost; make the cell text")
            cells[heading] = to_text(value).strip()
        except Invalid as error:
            broken.append(f'{position}: "{heading}" {error}')
            return
    if any(cells.values()):
        yield ListRow(position, cells)


def _names(node: Node, headings: tuple[str, ...], rows: list[ListRow], aliases: list[str]) -> dict[str, str]:
    """Ids of the node's departments by every word that names one; the chain is asked only where ids do not suffice."""
    from ledger.matter_lists import column_of
    from ledger.store.reading import read_logs

    with node.database.reading() as connection:
        here = {log.department for log in read_logs(connection)}
    names = {name: name for name in here}
    for text in aliases:
        name, separator, found = text.rpartition("=")
        if not separator or found not in here:
            raise CouldNotRun(f"--alias {text!r} must be NAME=ID; this node has: {', '.join(sorted(here))}")
        names[name.strip()] = found
    heading = next((heading for heading in headings if column_of(heading) == "department"), None)
    if heading is None or all(row.cells.get(heading, "") in {"", *names} for row in rows):
        return names
    registered = [d for d in node.connect().consortium.departments() if d.id in here]
    words = [(word.strip(), d.id) for d in registered for word in (d.name, *d.name.split("|"))]
    # a word that two departments go by names neither
    clear = {word: found for word, found in words if {other for w, other in words if w == word} == {found}}
    return clear | names


def _day(option: str, text: str) -> date:
    from ledger.matter_lists import parse_day

    try:
        return parse_day(text)
    except ValueError as error:
        raise CouldNotRun(f"{option}: {error}") from None


def _now() -> float:
    import time

    return time.time()


# ---- looking -----------------------------------------------------------------------------------------------------


@matters_app.command("list")
@answering
def matters_list(
    department: DepartmentOption = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as penalty or 行政处罚.")] = None,
    on: Annotated[str | None, typer.Option(metavar="DAY", help="Only what was held on this day.")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1)] = 100,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the newest list of each department."""
    from ledger.matter_lists import KINDS

    kinds = {title: name for name, title in KINDS.items()} | {name: name for name in KINDS}
    if kind is not None and kind not in kinds:
        raise CouldNotRun(f"--kind {kind!r} is none of: {', '.join(kinds)}")
    day = _day("--on", on) if on else None
    with open_node(node_dir) as node, node.database.reading() as connection:
        found = [
            (name, version, matter)
            for name, version, matters in _newest(connection, department)
            for matter in matters
            if (kind is None or matter.kind == kinds[kind])
            and (day is None or matter.effective_from <= day <= matter.effective_to)
        ]
    if as_json:
        print_json({"count": len(found), "matters": [_matter_json(*entry) for entry in found[:limit]]})
        return
    for name, _, matter in found[:limit]:
        say(f"{name}  {matter.code}  {KINDS[matter.kind]}  {_days(matter)}  {matter.name}")
    if not found:
        say("No such matter; a list is published with `yunxi matters import`.")
    elif len(found) > limit:
        say(f"… and {len(found) - limit:,} more; see --limit, --kind and --on.")


@matters_app.command("show")
@answering
def matters_show(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The matter's code.")],
    department: DepartmentOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Show one matter: its days, its legal basis, who held it."""
    from ledger.matter_lists import KINDS

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = [
            (name, version, matter)
            for name, version, matters in _newest(connection, department, code)
            for matter in matters
        ]
    if as_json:
        print_json({"matters": [_matter_json(*entry) for entry in found]})
        return 0 if found else 1
    for name, version, matter in found:
        say(f"{matter.code}  {matter.name}")
        say(f"  {KINDS[matter.kind]} ({matter.kind}), {name}{', ' + matter.level if matter.level else ''}")
        say(f"  {_days(matter)}, by version {version} of the list")
        say(f"  {matter.legal_basis}")
    if not found:
        err.print(f"yunxi: no department of this node has matter {code} in its list", markup=False)
    return 0 if found else 1


@matters_app.command("diff")
@answering
def matters_diff(
    department: Annotated[str, typer.Option(metavar="ID", help="Whose list.")],
    versions: Annotated[
        list[int] | None, typer.Argument(metavar="[FROM [TO]]", help="Two versions; the newest two by default.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two versions, as they were sealed."""
    from ledger.matters import changes_between

    with open_node(node_dir) as node, node.database.reading() as connection:
        newest = next((version for _, version, _ in _newest(connection, department)), 0)
        earlier, later = _versions(versions or [], department, newest)
        changes = changes_between(connection, node.reader, department, earlier, later)
    if as_json:
        print_json(
            {
                "department": department,
                "from": earlier,
                "to": later,
                "changes": [
                    {
                        "code": change.code,
                        "what": change.what,
                        "before": [_matter_json(department, earlier, matter) for matter in change.before],
                        "after": [_matter_json(department, later, matter) for matter in change.after],
                    }
                    for change in changes
                ],
            }
        )
        return
    for change in changes:
        say(f"{change.what}  {change.code}  {(change.after or change.before)[-1].name}")
        for sign, matters in (("-", change.before), ("+", change.after)):
            for matter in matters if change.what in ("changed", "ended") else ():
                say(f"    {sign} {_days(matter)}  {matter.name}  {matter.legal_basis[:80]}")
    say(f"{department}, version {earlier} to {later}: {counted(len(changes), 'change')}.")


def _versions(given: list[int], department: str, newest: int) -> tuple[int, int]:
    if not newest:
        raise CouldNotRun(f"{department} has published no list yet: run `yunxi matters import`")
    if len(given) > 2:
        raise CouldNotRun("give at most two versions: FROM and TO")
    earlier = given[0] if given else newest - 1
    later = given[1] if len(given) == 2 else newest
    if not 0 <= earlier < later <= newest:
        raise CouldNotRun(f"versions go from 0 (before the first) to {newest}, FROM before TO")
    return earlier, later


@matters_app.command("rebuild")
@answering
def matters_rebuild(
    department: DepartmentOption = None, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Make the tables by which intake decides anew from the sealed lists."""
    from ledger.matters import rebuild
    from ledger.store.reading import read_logs

    with open_node(node_dir) as node:
        with node.database.reading() as connection:
            names = [log.department for log in read_logs(connection) if department in (None, log.department)]
        if not names:
            raise CouldNotRun(f"this node has no department {department}; `yunxi status` names them")
        found = [rebuild(node.database, node.reader, name) for name in names]
    if as_json:
        print_json({"departments": [asdict(made) for made in found]})
        return
    for made in found:
        what = "they had held something else" if made.differed else "nothing differed"
        say(f"{made.department}: {counted(made.versions, 'version')}, {counted(made.matters, 'matter')}; {what}.")


def _newest(
    connection: Connection, department: str | None, code: str | None = None
) -> Iterator[tuple[str, int, list[Matter]]]:
    from ledger.matters import held_matters, newest_list
    from ledger.store.reading import read_logs

    for log in read_logs(connection, department):
        head = newest_list(connection, log.number)
        if head is not None:
            yield log.department, head.version, held_matters(connection, log.number, code)


def _days(matter: Matter) -> str:
    from ledger.matter_lists import OPEN

    return f"from {matter.effective_from}" + ("" if matter.effective_to == OPEN else f" to {matter.effective_to}")


def _matter_json(department: str, version: int, matter: Matter) -> dict[str, Any]:
    from ledger.matter_lists import OPEN

    end = None if matter.effective_to == OPEN else f"{matter.effective_to}"
    days = {"effective_from": f"{matter.effective_from}", "effective_to": end}
    return {"department": department, "version": version, **asdict(matter), **days}
