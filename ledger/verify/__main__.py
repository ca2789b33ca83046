"""The court's verifier as a command: `python yunxi-verify.pyz FILE … --trust trust.json`. Offline, nothing is written.

Exit 0: every file is verified. 1: a finding. 2: could not run. Errors are one sentence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from ledger.errors import CouldNotRun, YunxiError
from ledger.formats.trust import MAX_TRUST_BYTES, Trust
from ledger.verify.bundle import HEAD_BYTES, MAX_KEPT_BYTES, Given, examine, kind_of
from ledger.verify.layout import Layout
from ledger.verify.refusals import explain, refusal
from ledger.verify.report import Report, TrustFile, to_json, to_text
from ledger.verify.verifier import Verifier, digest_of
from ledger.verify.words import LANGUAGES, clean

MAX_COLUMNS = 100


def run(argv: Sequence[str], out: TextIO, err: TextIO | None = None) -> int:
    """Verifies the files that `argv` names; the report goes to `out`, what kept it from running to `err` (standard
    error), or with --json to `out` as well. Returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except CouldNotRun as error:
        # argparse gave up before it could tell these two
        return _fail(error, "--json" in argv, _lang_of(argv), out, err)
    except SystemExit:
        return 0
    try:
        report = _examine(arguments.files, arguments.trust, arguments.allow_unlogged)
    except CouldNotRun as error:
        return _fail(error, arguments.json, arguments.lang, out, err)
    if arguments.json:
        print(json.dumps(to_json(report, arguments.lang), ensure_ascii=False, indent=2), file=out)
    else:
        out.write(to_text(report, arguments.lang, _layout(out)))
    return report.exit_code


def main() -> NoReturn:
    """Entry point of the zipapp."""
    # what a library thinks of a certificate that somebody handed in is no part of the report
    warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character must not stop the report
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if sys.stdout is None:
            raise refusal("unwritable", cause="standard output is closed")
        code = run(sys.argv[1:], sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read it went away, and knows
        code = _give_up(None)
    except OSError as error:
        code = _give_up(refusal("unwritable", cause=error.strerror or type(error).__name__))
    except KeyboardInterrupt:
        code = _give_up(refusal("interrupted"))
    except MemoryError:
        code = _give_up(refusal("memory"))
    except CouldNotRun as error:
        code = _give_up(error)
    sys.exit(code)


def _give_up(error: YunxiError | None) -> int:
    """Says why on standard error, where there is one. What was not written yet never will be."""
    if sys.stdout is not None:
        # without this Python tries, and complains, once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error is not None and sys.stderr is not None:
        sys.stderr.write(clean(explain(error, _lang_of(sys.argv))) + "\n")
    return CouldNotRun.exit_code


def _lang_of(argv: Sequence[str]) -> str:
    return "zh" if "zh" in argv or "--lang=zh" in argv else "en"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise refusal("usage", cause=message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="yunxi-verify",
        allow_abbrev=False,
        description="Verify evidence records offline: what is proven, by whom, since when, and what is not proven.",
        epilog="Exit status: 0 every file is verified, 1 a finding, 2 could not run.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="case files (.zip), or records (.sd-jwt), receipts (.tlog-proof), anchor evidence (.anchor.json), "
        "time stamps (.tst), their "
        "renewals (.renewals.json) and attachments, in any order; recognised by their content",
    )
    parser.add_argument("--trust", required=True, metavar="FILE", help="the trust file: whose keys are to be believed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the sentences (en)")
    parser.add_argument(
        "--allow-unlogged", action="store_true", help="accept records without a receipt, and say that it is missing"
    )
    return parser


def _fail(error: CouldNotRun, as_json: bool, lang: str, out: TextIO, err: TextIO | None) -> int:
    report = Report(trust=None, error=error)
    if as_json:
        print(json.dumps(to_json(report, lang), ensure_ascii=False, indent=2), file=out)
    else:
        print(clean(explain(error, lang)), file=err or sys.stderr)
    return error.exit_code


def _examine(names: Sequence[str], trust_name: str, allow_unlogged: bool) -> Report:
    files = [_read(name) for name in names]
    data = _bytes_of(trust_name, MAX_TRUST_BYTES + 1)
    try:
        trust = Trust.parse(data)
        verifier = Verifier(trust)
    except YunxiError as error:
        return Report(trust=None, error=error)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        findings = examine(verifier, files, allow_unlogged=allow_unlogged, trust_sha256=sha256)
    except OSError as error:
        raise refusal("unreadable", file=names[0], cause=error.strerror or type(error).__name__) from error
    source = TrustFile(file=trust_name, sha256=sha256, consortium=trust.consortium)
    return Report(trust=source, findings=tuple(findings))


def _read(name: str) -> Given:
    path = _regular(name)
    try:
        with _opened(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            kind = kind_of(stream.read(HEAD_BYTES), size)
            stream.seek(0)
            if kind == "sealed-case-file":
                raise refusal("case-file-sealed")
            if kind == "case-file":
                return Given(name, kind, open=lambda: _opened(path))
            if kind != "file":
                return Given(name, kind, data=stream.read(MAX_KEPT_BYTES + 1))
            sha256, size = digest_of(stream)
            return Given(name, kind, size=size, sha256=sha256)
    except OSError as error:
        raise refusal("unreadable", file=name, cause=error.strerror or type(error).__name__) from error


def _bytes_of(name: str, limit: int) -> bytes:
    path = _regular(name)
    try:
        with _opened(path) as stream:
            return stream.read(limit)
    except OSError as error:
        raise refusal("unreadable", file=name, cause=error.strerror or type(error).__name__) from error


def _regular(name: str) -> Path:
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise refusal("no-file", file=name) from error
    if not stat.S_ISREG(mode):
        raise refusal("not-a-file", file=name)
    return path


def _opened(path: Path) -> BinaryIO:
    """The file, which may have become another since it was looked at: a pipe, too, is opened without waiting."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise refusal("not-a-file", file=str(path))
    return os.fdopen(number, "rb")


def _layout(out: TextIO) -> Layout:
    if not out.isatty():
        return Layout()
    colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Layout(width=min(shutil.get_terminal_size().columns, MAX_COLUMNS), colour=colour)


if __name__ == "__main__":
    main()
