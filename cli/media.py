"""`yunxi media`: what photos and videos say of themselves, copies made from them, and whether such a copy fits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    officer_of,
    open_node,
    print_json,
    say,
    write_pieces,
)
from ledger.errors import CouldNotRun, Malformed

if TYPE_CHECKING:
    from adapters.media_derive import Derived
    from ledger.media import Link
    from ledger.node import Node
    from ledger.submission import Acknowledged, Submission

media_app = typer.Typer(help="Photos and videos: facts, thumbnails, derived copies.", no_args_is_help=True)

RecordArgument = Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record of the original.")]
NumberOption = Annotated[int, typer.Option("--attachment", help="Which of its attachments, from 1.", min=1, max=50)]
ByOption = Annotated[str, typer.Option(help="Who makes the copy: certificate number and name, as ID:NAME.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it stands in the record.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the copy there.", show_default=False)
]


@media_app.command()
@answering
def facts(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A photo or a video.")], as_json: JsonOption = False
) -> None:
    """Show what a file says of itself: time, camera, place, duration. Unproven, and nothing is guessed."""
    media_facts = _library("adapters.media_facts")
    found = media_facts.read_facts(_readable(file))
    if as_json:
        print_json({"facts": found.facts, "place": found.place})
        return
    for name, value in [*found.facts.items(), *(found.place or {}).items()]:
        say(f"{name:15} {', '.join(value) if isinstance(value, list) else value}")
    if found.place is None:
        say("The file names no place.")


@media_app.command()
@answering
def seal(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A photo or a video.")],
    record: Annotated[
        Path, typer.Argument(metavar="RECORD.json", help="Members of media.captured: occurred_at, officers, caption …")
    ],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Seal a photo or a video with its facts, each disclosable on its own, and a thumbnail of a photo."""
    from cli.frame import read_bounded
    from ledger.formats.strictjson import loads_object
    from ledger.record_types import MAX_RECORD_BYTES

    media_records = _library("adapters.media_records")
    data = read_bounded(record, MAX_RECORD_BYTES)
    content = loads_object(data, what=f"record {record}", max_bytes=MAX_RECORD_BYTES)
    key = f"media/{_sha256(_readable(file))}"
    with open_node(node_dir) as node:
        outcome = _submit(node, media_records.capture_submission(key, content, file))
    _answer_sealed(outcome, as_json=as_json)


@media_app.command()
@answering
def blur(
    record_id: RecordArgument,
    region: Annotated[
        list[str], typer.Option(help="left,top,width,height in pixels of the upright image; repeatable.")
    ],
    by: ByOption,
    reason: ReasonOption,
    number: NumberOption = 1,
    fill: Annotated[bool, typer.Option("--fill", help="Black instead of blurred: tells nothing at all.")] = False,
    output: OutputOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a copy of a photo with faces or plates made unrecognisable, and seal it with its derivation."""
    derive_ = _library("adapters.media_derive")
    regions = [derive_.Region.parse(text) for text in region]

    def make(original: Path, directory: Path) -> Derived:
        copy: Derived = derive_.derive_blurred(original, regions, directory / "blurred", fill=fill)
        return copy

    outcome = _derive(node_dir, record_id, number, make, by, reason, output)
    _answer_sealed(outcome, as_json=as_json)


@media_app.command()
@answering
def derive(
    record_id: RecordArgument,
    by: ByOption,
    reason: ReasonOption,
    number: NumberOption = 1,
    clean: Annotated[bool, typer.Option("--clean", help="The same picture without metadata.")] = False,
    clip: Annotated[str | None, typer.Option(help="A part of a video: START-END in seconds, e.g. 12.5-20.")] = None,
    copy: Annotated[Path | None, typer.Option(help="A copy that another tool has made.", show_default=False)] = None,
    tool: Annotated[str | None, typer.Option(help="With --copy: the tool, as NAME/VERSION.")] = None,
    done: Annotated[list[str] | None, typer.Option(help="With --copy: what was done; repeatable.")] = None,
    output: OutputOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a clean copy of a photo, cut a clip of a video, or take in a copy that another tool made; and seal it."""
    if [clean, clip is not None, copy is not None].count(True) != 1:
        raise CouldNotRun("say one of --clean, --clip START-END and --copy FILE")
    if (copy is None) != (tool is None) or (copy is None) != (not done):
        raise CouldNotRun("--copy needs --tool NAME/VERSION and --done TEXT, and nothing else takes them")
    library = _library("adapters.media_derive")
    span = _span(clip) if clip is not None else (0, 0)

    def make(original: Path, directory: Path) -> Derived:
        made: Derived
        if clean:
            made = library.derive_clean(original, directory / "clean")
        elif copy is not None:
            made = library.derived_elsewhere(_readable(copy), tool or "", done or [])
        else:
            made = library.derive_clip(original, *span, directory / "clip.mp4")
        return made

    outcome = _derive(node_dir, record_id, number, make, by, reason, output)
    _answer_sealed(outcome, as_json=as_json)


@media_app.command()
@answering
def check(
    record_id: Annotated[str, typer.Argument(metavar="RECORD_ID", help="A media.derived record.")],
    original: Annotated[
        Path | None, typer.Option(help="The original, if not as this node holds it.", show_default=False)
    ] = None,
    derivative: Annotated[
        Path | None, typer.Option(help="The copy, if not as this node holds it.", show_default=False)
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Check that an original, its derivation record and the derived copy fit together."""
    from ledger.media import check_link, original_of

    media_check = _library("adapters.media_check")
    with open_node(node_dir) as node, node.database.reading() as connection, _workspace() as directory:
        derivation = node.reader.open(connection, record_id).record()
        first, number = original_of(derivation)
        link = check_link(derivation, node.reader.open(connection, first).record())
        if original is None:
            original = directory / "original"
            write_pieces(original, node.reader.attachment(connection, first, number))
        if derivative is None:
            derivative = directory / "derivative"
            write_pieces(derivative, node.reader.attachment(connection, record_id, 1))
        _check_digest(original, link.original_sha256, "the original")
        _check_digest(derivative, link.derivative_sha256, "the copy")
        difference = None
        if media_check.is_comparable(link.operations):
            regions = media_check.regions_of(link.operations)
            difference = media_check.compare_outside(original, derivative, regions)
    if as_json:
        print_json({**asdict(link), "largest_difference": difference})
    else:
        _show_link(link, difference)


def _show_link(link: Link, difference: int | None) -> None:
    place = f"attachment {link.original_attachment} of record {link.original_record}"
    say(f"The copy in record {link.record} was made from {place}.")
    say(f"Original   SHA-256 {link.original_sha256}")
    say(f"Copy       SHA-256 {link.derivative_sha256}")
    for number, done in enumerate(link.operations, 1):
        regions = f", {counted(done['regions'], 'region')}" if "regions" in done else ""
        more = "".join(f"; {line}" for line in done.get("parameters", ()))
        say(f"  {number}. {done['operation']}{regions}{more}")
    if difference is None:
        say("What was done leaves nothing to compare pixel by pixel: that it was only this is the record's word.")
    else:
        say(f"Outside the regions both pictures show the same (largest mean difference {difference} of 255).")


# -- parts --


def _derive(
    node_dir: Path,
    record_id: str,
    number: int,
    make: Callable[[Path, Path], Derived],
    by: str,
    reason: str,
    output: Path | None,
) -> Acknowledged:
    media_records = _library("adapters.media_records")
    officer = officer_of(by)
    with open_node(node_dir) as node, _workspace() as directory:
        with node.database.reading() as connection:
            record = node.reader.open(connection, record_id).record()
            original = directory / "original"
            write_pieces(original, node.reader.attachment(connection, record_id, number))
        derived = make(original, directory)
        at = datetime.now().astimezone().isoformat(timespec="seconds")
        submission = media_records.derivation_submission(derived, record, number, made_by=officer, reason=reason, at=at)
        outcome = _submit(node, submission)
        if output is not None:
            with derived.path.open("rb") as file:
                write_pieces(output, iter(lambda: file.read(1 << 20), b""))
    return outcome


def _submit(node: Node, submission: Submission) -> Acknowledged:
    from cli.records import department_of
    from ledger.submission import Refused

    outcome = node.intake.submit(department_of(node, submission.record), [submission])[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


def _answer_sealed(outcome: Acknowledged, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(outcome))
    else:
        verb = "Sealed" if outcome.new else "Known already:"
        say(f"{verb} record {outcome.record_id}, entry {outcome.index:,}. Anchor it with `yunxi anchor`.")


@contextmanager
def _workspace() -> Iterator[Path]:
    # decrypted for as long as the command runs, in a directory that nobody else may read
    with tempfile.TemporaryDirectory(prefix="yunxi-media-") as directory:
        yield Path(directory)


def _span(text: str) -> tuple[int, int]:
    try:
        start, end = (round(float(part) * 1000) for part in text.split("-"))
    except (ValueError, OverflowError) as error:
        raise Malformed("--clip", f"{text[:40]!r} is not START-END in seconds, like 12.5-20") from error
    return start, end


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise CouldNotRun(f"{path} is no file: name a photo or a video")
    return path


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, expected: str, what: str) -> None:
    from ledger.errors import NotProven

    if _sha256(_readable(path)) != expected:
        raise NotProven(f"{what} is not the file that its record names")


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CouldNotRun('photos need Pillow; install it with: pip install "yunxi[media]"') from error
