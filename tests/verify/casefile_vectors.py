"""Case files that were tampered with, by name: what both verifiers must say of each.

Three kinds of attackers: who has the file only (`unsigned`, `raw`), and who has the department's key too (`signed`).
Run through the command by test_casefile_attacks.py and through the page by tests/browser.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ledger.formats.casefile import CaseSignature, index_path, manifest_path, receipt_path, record_path, token_path
from ledger.formats.checkpoint import add_signatures
from ledger.formats.encoding import b64url_encode
from ledger.formats.merkle import leaf_hash
from ledger.formats.trust import Trust
from ledger.formats.zipfiles import Entry, ZipReader, ending, order_of
from ledger.verify.words import clean
from tests.fixtures.casefiles import (
    CASE_NUMBER,
    SIGNED_AT,
    Draft,
    World,
    draft,
    good,
    good_files,
    index_of,
    item_of,
    listing,
    world,
    zip_of,
)
from tests.verify.factory import (
    DAY,
    PHOTO,
    START,
    LogState,
    department,
    key,
    log,
    seal,
    signing_key,
)
from tests.verify.sealed import made

BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'>"
    + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><l>&j;</l>"
)


@dataclass(frozen=True)
class CaseVector:
    """One case file for both verifiers. Of an attack the first finding must have this `level`, `code`, `reason` (None:
    not asked), `path` and `item`; `level` None: it is not taken for a case file at all. A `good` one is verified."""

    name: str
    data: bytes
    trust: bytes
    level: str | None
    code: str
    reason: str | None
    path: str | None
    item: int | None
    good: bool = False


@dataclass(frozen=True)
class Attack:
    """How a vector is made. `expected`: level, reason or code, path, item."""

    make: Callable[[], bytes]
    expected: tuple[str | None, str, str | None, int | None]
    trust: Callable[[], Trust]


ATTACKS: dict[str, Attack] = {}
GOOD: dict[str, tuple[Callable[[], bytes], Callable[[], Trust]]] = {}

_CODES = {"malformed", "key-refused", "signature-invalid", "disclosure-invalid", "inclusion-invalid"}
_CODES |= {"checkpoint-invalid", "anchor-invalid", "timestamp-invalid", "trust-refused"}
_CODE_OF_REASON = {
    "signature-time": "key-refused",
    "key-of-another": "key-refused",
    "key-not-valid": "key-refused",
    "cosignature-wrong": "checkpoint-invalid",
    "quorum": "checkpoint-invalid",
    "evidence-other-state": "anchor-invalid",
    "evidence-other-log": "anchor-invalid",
    "evidence-seal": "anchor-invalid",
    "evidence-threshold": "anchor-invalid",
    "file-unknown": "disclosure-invalid",
    "file-empty": "disclosure-invalid",
}


def vectors() -> Iterator[CaseVector]:
    """The good case files, then all attacks, with names that are unique."""
    yield from (vector(name) for name in (*GOOD, *ATTACKS))


def vector(name: str) -> CaseVector:
    """The one of this name."""
    if name in GOOD:
        make, trust = GOOD[name]
        return CaseVector(name, make(), trust().serialize(), None, "", None, None, None, good=True)
    attack = ATTACKS[name]
    level, reason, path, item = attack.expected
    code = reason if reason in _CODES else _CODE_OF_REASON.get(reason, "case-file-invalid")
    asked = None if reason in _CODES else reason
    return CaseVector(name, attack.make(), attack.trust().serialize(), level, code, asked, path, item)


def _trust() -> Trust:
    return world().trust()


def _attack(
    name: str,
    make: Callable[[], bytes],
    level: str | None,
    reason: str,
    path: str | None = None,
    item: int | None = None,
    trust: Callable[[], Trust] = _trust,
) -> None:
    assert name not in ATTACKS
    numbered = re.fullmatch(r"data/(?:records|receipts|attachments|manifests)/([0-9]{6})[.-].*", path or "")
    item = item or (int(numbered[1]) if numbered else None)
    ATTACKS[name] = Attack(make, (level, reason, path, item), trust)


# --- raw: the zip itself ---


@dataclass(frozen=True)
class Raw:
    """A zip's file as it is to be written; `local`, `central` replace fields of one header, `both` of both."""

    path: bytes
    data: bytes
    both: dict[str, int]
    local: dict[str, Any]
    central: dict[str, Any]
    before: bytes = b""


_FIELDS = {"made": 0x032D, "needed": 20, "flags": 0, "method": 0, "time": 0, "date": 0x21, "mode": 0o100644 << 16}


def _raw(path: str | bytes, data: bytes, **both: int) -> Raw:
    return Raw(path.encode() if isinstance(path, str) else path, data, both, {}, {})


def _raws() -> list[Raw]:
    files = good_files()
    return [_raw(path, files[path]) for path in sorted(files, key=order_of)]


def _assemble(raws: list[Raw], between: bytes = b"") -> bytes:
    """The zip of these files, whatever they say; `between` stands before the directory."""
    body, directory = bytearray(), bytearray()
    for raw in raws:
        body += raw.before
        plain = {"offset": len(body), "crc": zlib.crc32(raw.data), "size": len(raw.data), "path": raw.path}
        values = _FIELDS | plain | {"extra": b"", "comment": b""} | raw.both
        body += _local(values | raw.local) + raw.data
        directory += _central(values | raw.central)
    body += between
    return bytes(body) + directory + ending(len(raws), len(body), len(directory))


def _local(v: dict[str, Any]) -> bytes:
    sizes = (v["crc"], v.get("packed", v["size"]), v["size"], len(v["path"]), len(v["extra"]))
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", v["needed"], v["flags"], v["method"], v["time"], v["date"], *sizes)
    return head + v["path"] + v["extra"]


def _central(v: dict[str, Any]) -> bytes:
    sizes = (v["crc"], v.get("packed", v["size"]), v["size"], len(v["path"]), len(v["extra"]), len(v["comment"]))
    first = (b"PK\x01\x02", v["made"], v["needed"], v["flags"], v["method"], v["time"], v["date"])
    return (
        struct.pack("<4s6H3I5H2I", *first, *sizes, 0, 0, v["mode"], v["offset"]) + v["path"] + v["extra"] + v["comment"]
    )


def _with(path: str, **changes: Any) -> bytes:
    """The good zip with one file's raw description changed."""
    raws = _raws()
    n = next(n for n, raw in enumerate(raws) if raw.path == path.encode())
    raws[n] = replace(raws[n], **changes)
    return _assemble(raws)


def _plus(raw: Raw, at: int) -> bytes:
    raws = _raws()
    raws.insert(at, raw)
    return _assemble(raws)


def _entry(path: str) -> Entry:
    return ZipReader(io.BytesIO(good())).entry(path)


def _zipfile(method: int, names: list[str] | None = None) -> bytes:
    """The files packed by another program."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in names or sorted(good_files(), key=order_of):
            archive.writestr(path, good_files()[path])
    return target.getvalue()


def _flipped(offset: int) -> bytes:
    data = bytearray(good())
    data[offset] ^= 1
    return bytes(data)


PHOTO_PATH, XML_PATH = "data/attachments/000002-01.png", "data/attachments/000003-01.xml"
FIRST = "data/anchors/fire-9.anchor.json"

_attack("the last byte cut off", lambda: good()[:-1], "integrity", "zip-end")
_attack("cut in the middle", lambda: good()[: len(good()) // 2], "integrity", "zip-end")
_attack("the directory cut off", lambda: good()[: _entry("verify.html").end], "integrity", "zip-end")
_attack("a byte added at the end", lambda: good() + b"\n", "integrity", "zip-end")
_attack("a second zip behind the first", lambda: good() + good(), "integrity", "zip-gap")
_attack("a comment in the zip", lambda: good()[:-2] + b"\x05\x00hello", "integrity", "zip-end")
_attack("nothing at all", lambda: b"", None, "file-empty")
_attack("a program put before the zip", lambda: b"#!/bin/sh\nexit\n" + good(), None, "file-unknown")
_attack(
    "a file hidden before the first, not in the directory",
    lambda: _with(FIRST, before=_local(_FIELDS | {"path": b"data/x", "extra": b"", "crc": 0, "size": 0})),
    "integrity",
    "zip-gap",
    FIRST,
)
_attack(
    "bytes hidden between two files", lambda: _with(PHOTO_PATH, before=b"hidden"), "integrity", "zip-gap", PHOTO_PATH
)
_attack("bytes hidden before the directory", lambda: _assemble(_raws(), b"hidden"), "integrity", "zip-gap")
_attack(
    "two entries over the same bytes",
    lambda: _with(XML_PATH, central={"offset": _entry(PHOTO_PATH).offset}),
    "integrity",
    "zip-overlap",
    XML_PATH,
)
_attack(
    "a file that reaches into the directory",
    lambda: _with("verify.html", both={"size": 999_999}),
    "integrity",
    "zip-overlap",
    "verify.html",
)
_attack(
    "the same file twice",
    lambda: _plus(_raw(PHOTO_PATH, b"other"), 3),
    "integrity",
    "zip-duplicate",
    PHOTO_PATH,
)
_attack(
    "the same file once more at the end",
    lambda: _assemble([*_raws(), _raw(PHOTO_PATH, b"other")]),
    "integrity",
    "zip-order",
    PHOTO_PATH,
)
_attack("packed again by another program", lambda: _zipfile(zipfile.ZIP_STORED), "integrity", "zip-kind", FIRST)
_attack("packed again, compressed", lambda: _zipfile(zipfile.ZIP_DEFLATED), "integrity", "zip-method", FIRST)
_attack(
    "packed again, in the order of a directory",
    lambda: _assemble(sorted(_raws(), key=lambda raw: raw.path)),
    "integrity",
    "zip-order",
    FIRST,
)
_attack(
    "a zip bomb: few bytes that say they are a gigabyte",
    lambda: _with(XML_PATH, both={"method": 8, "size": 2**30, "packed": 40}),
    "integrity",
    "zip-method",
    XML_PATH,
)
_attack("a password on one file", lambda: _with(XML_PATH, both={"flags": 1}), "integrity", "zip-encrypted", XML_PATH)
_attack("sizes behind the data", lambda: _with(XML_PATH, both={"flags": 8}), "integrity", "zip-header", XML_PATH)
_attack(
    "a symbolic link",
    lambda: _with(XML_PATH, central={"mode": 0o120777 << 16}),
    "integrity",
    "zip-kind",
    XML_PATH,
)
_attack("an executable", lambda: _with(XML_PATH, central={"mode": 0o100755 << 16}), "integrity", "zip-kind", XML_PATH)
_attack("another time of day", lambda: _with(XML_PATH, both={"time": 1}), "integrity", "zip-header", XML_PATH)
_attack("a comment on a file", lambda: _with(XML_PATH, central={"comment": b"x"}), "integrity", "zip-header", XML_PATH)
_attack(
    "an extra field with another name (Info-ZIP Unicode path)",
    lambda: _with(XML_PATH, both={"extra": struct.pack("<2HBI", 0x7075, 9, 1, 0) + b"x.sh"}),  # type: ignore[dict-item]
    "integrity",
    "zip-header",
    XML_PATH,
)
_attack(
    "another name in the file's own header",
    lambda: _with(XML_PATH, local={"path": b"data/attachments/000003-02.xml"}),
    "integrity",
    "zip-header",
    XML_PATH,
)
_attack(
    "another size in the file's own header",
    lambda: _with(XML_PATH, local={"size": 7}),
    "integrity",
    "zip-header",
    XML_PATH,
)
_attack(
    "a wrong check sum in both headers", lambda: _with(XML_PATH, both={"crc": 7}), "integrity", "zip-crc", XML_PATH, 3
)
_attack(
    "a byte of a photo flipped", lambda: _flipped(_entry(PHOTO_PATH).end - 1), "integrity", "zip-crc", PHOTO_PATH, 2
)
_attack(
    "the end says fewer files",
    lambda: good()[:-22] + struct.pack("<4s4H2IH", *_end_with(count=1), 0),
    "integrity",
    "zip-gap",
)
_attack(
    "the end asks for a directory elsewhere (ZIP64)",
    lambda: good()[:-22] + struct.pack("<4s4H2IH", *_end_with(offset=0xFFFFFFFF), 0),
    "integrity",
    "zip-gap",
)
_NAMES = {
    "a folder": b"data/",
    "a name that climbs": b"data/../../x",
    "an absolute name": b"/etc/passwd",
    "a Windows drive": b"C:\\x",
    "a backslash": b"data\\attachments\\000003-02.xml",
    "a hyphen of another alphabet": "data/attachments/000003‐02.xml".encode(),
    "a name that turns the reading direction": "data/attachments/‮lmx.xml".encode(),
    "a full-width letter": "data/ｘ.xml".encode(),
    "a zero-width space": "data/attachments/000003-02​.xml".encode(),
    "bytes that are not UTF-8": b"data/\xff\xfe",
    "a NUL": b"data/attachments/000003-02.xml\x00.exe",
    "a hidden file": b"data/.htaccess",
    "an empty name": b"",
    "a name of 400 letters": b"data/" + b"x" * 395,
}
for _name, _path in _NAMES.items():
    _attack(
        f"names: {_name}",
        partial(lambda path: _plus(_raw(path, b"x"), 4), _path),
        "integrity",
        "zip-name",
        clean(_path.decode("utf-8", "replace")),
    )


def _end_with(**changes: int) -> tuple[Any, ...]:
    names = ("head", "disk", "start", "here", "count", "length", "offset", "comment")
    found = dict(zip(names, struct.unpack("<4s4H2IH", good()[-22:]), strict=True))
    if "count" in changes:
        found["here"] = changes["count"]
    return tuple((found | changes)[name] for name in names[:-1])


# --- unsigned: the files, packed well, without the department's key ---


def _unsigned(change: Callable[[dict[str, bytes]], Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        files = dict(good_files())
        change(files)
        return zip_of(files)

    return make


def _put(path: str, data: bytes | Callable[[dict[str, bytes]], bytes]) -> Callable[[], bytes]:
    def change(files: dict[str, bytes]) -> None:
        files[path] = data if isinstance(data, bytes) else data(files)

    return _unsigned(change)


def _drop(path: str) -> Callable[[], bytes]:
    return _unsigned(lambda files: files.pop(path))


def _swap(one: str, two: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[one], files[two] = files[two], files[one]

    return change


def _relisted(change: Callable[[dict[str, bytes]], Any]) -> Callable[[], bytes]:
    """Whoever has no key makes the lists fit again, and cannot make the signature fit."""

    def listed(files: dict[str, bytes]) -> None:
        change(files)
        files["manifest-sha256.txt"] = listing({p: d for p, d in files.items() if p.startswith("data/")})
        tags = ("README.txt", "bag-info.txt", "bagit.txt", "case.json", "manifest-sha256.txt", "verify.html")
        files["tagmanifest-sha256.txt"] = listing({path: files[path] for path in tags})

    return _unsigned(listed)


_REC, _TLOG = record_path(2), receipt_path(2)
_attack("a photo replaced", _put(PHOTO_PATH, PHOTO[::-1]), "integrity", "bag-digest", PHOTO_PATH, 2)
_attack("a photo made longer", _put(PHOTO_PATH, PHOTO + b"x"), "integrity", "bag-info", "bag-info.txt")
_attack(
    "two attachments of one size swapped",
    _unsigned(_swap(record_path(2), record_path(3))),
    "integrity",
    "bag-digest",
    record_path(2),
    2,
)
_attack("billion laughs in an XML attachment", _put(XML_PATH, BOMB), "integrity", "bag-info", "bag-info.txt")
_attack("an attachment taken out", _drop(PHOTO_PATH), "integrity", "file-missing", PHOTO_PATH, 2)
_attack("a record taken out", _drop(_REC), "integrity", "file-missing", _REC, 2)
_attack("a receipt taken out", _drop(_TLOG), "integrity", "file-missing", _TLOG, 2)
_attack("case.json taken out", _drop("case.json"), "integrity", "file-missing", "case.json")
_attack("the signature taken out", _drop("signature.jws"), "integrity", "file-missing", "signature.jws")
_attack("the manifest taken out", _drop("manifest-sha256.txt"), "integrity", "file-missing", "manifest-sha256.txt")
_attack(
    "the tag manifest taken out", _drop("tagmanifest-sha256.txt"), "integrity", "file-missing", "tagmanifest-sha256.txt"
)
_attack("the trust file's copy taken out", _drop("data/trust.json"), "integrity", "file-missing", "data/trust.json")
_attack(
    "a record added",
    _put("data/records/000011.sd-jwt", lambda files: files[_REC]),
    "integrity",
    "file-unlisted",
    "data/records/000011.sd-jwt",
    11,
)
_attack(
    "the page that verifies replaced", _put("verify.html", b"<p>good</p>"), "integrity", "bag-digest", "verify.html"
)
_attack("the instructions replaced", _put("README.txt", b"trust me"), "integrity", "bag-digest", "README.txt")
_attack(
    "case.json changed",
    _put("case.json", lambda files: files["case.json"].replace(b"evidence 2", b"evidence 9")),
    "integrity",
    "bag-digest",
    "case.json",
)
_attack(
    "a line of the manifest taken out with its file",
    _unsigned(
        lambda files: files.update(
            {
                "manifest-sha256.txt": listing(
                    {p: d for p, d in files.items() if p.startswith("data/") and p != PHOTO_PATH}
                )
            }
        )
    ),
    "integrity",
    "bag-digest",
    "manifest-sha256.txt",
)
_attack(
    "a photo replaced and listed again",
    _relisted(lambda files: files.update({PHOTO_PATH: PHOTO[::-1]})),
    "authorship",
    "signature-wrong",
    "signature.jws",
)
_attack(
    "case.json changed and listed again",
    _relisted(lambda files: files.update({"case.json": files["case.json"].replace(b"evidence 2", b"evidence 9")})),
    "authorship",
    "signature-wrong",
    "signature.jws",
)


# --- signed: whoever has the department's key, or another one ---


def _signed(change: Callable[[Draft], Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        made_of = draft()
        change(made_of)
        return made_of.pack()

    return make


def _set(**values: Any) -> Callable[[], bytes]:
    def change(made_of: Draft) -> None:
        for name, value in values.items():
            setattr(made_of, name, value)

    return _signed(change)


def _case(**members: Any) -> Callable[[], bytes]:
    return _signed(lambda made_of: made_of.case.update(members))


def _item(n: int, **members: Any) -> Callable[[], bytes]:
    return _signed(lambda made_of: made_of.item(n).update(members))


def _texts(path: str, edit: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """A tag file changed before it was signed."""
    return _signed(lambda made_of: made_of.texts.update({path: edit(good_files()[path])}))


def _payload(path: str, edit: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    return _signed(lambda made_of: made_of.payload.update({path: edit(made_of.payload[path])}))


_MANY = {
    "more values than a case file has": ("case.json", b'{"items":[' + b"0," * 2_500_000 + b"0]}"),
    "a member twice among a hundred thousand": (
        "case.json",
        b"{" + b"".join(b'"%d":0,' % n for n in range(100_000)) + b'"7":0}',
    ),
    "more lines than a case file has files": ("manifest-sha256.txt", b"\n" * 500_001),
}
for _name, (_path, _data) in _MANY.items():
    _attack(f"too much: {_name}", _set(texts={_path: _data}), "integrity", "malformed", _path)


def _ended(at: int) -> Trust:
    keys = (replace(key("fire"), valid_to=at), key("fire", "encryption"), key("fire", "anchor"))
    return world().trust(departments=(replace(department("fire"), keys=keys), department("market")))


def _late_signature(make: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    def change(made_of: Draft) -> None:
        made_of.late["signature.jws"] = make(good_files()["tagmanifest-sha256.txt"])

    return _signed(change)


_SIG = "signature.jws"
_attack("signed by a stranger in the key's name", _set(sign_with="stranger"), "authorship", "signature-wrong", _SIG)
_attack("signed by the log's key", _set(sign_with="fire log"), "authorship", "signature-wrong", _SIG)
_attack(
    "signed by another department",
    _set(sign_with="market statement", kid=key("market").kid),
    "authorship",
    "signature-department",
    _SIG,
)
_attack("signed by a key that nobody knows", _set(kid="A" * 43), "authorship", "signature-key", _SIG)
_attack(
    "signed in the name of an encryption key",
    _set(kid=key("fire", "encryption").kid),
    "authorship",
    "signature-key",
    _SIG,
)
_attack("signed before the key was valid", _set(iat=START - 2 * DAY), "authorship", "signature-time", _SIG)
_attack(
    "signed after the key was revoked",
    good,
    "authorship",
    "signature-time",
    _SIG,
    trust=lambda: _ended(SIGNED_AT - 1),
)
_attack(
    "a record sealed after the key was revoked",
    good,
    "authorship",
    "signature-time",
    _SIG,
    trust=lambda: _ended(START + 3),
)
_attack(
    "the signing time moved",
    _late_signature(
        lambda tags: CaseSignature.make(tags, key("fire").kid, 5, lambda _: _signature_of(tags, SIGNED_AT))
    ),
    "authorship",
    "signature-time",
    _SIG,
)
_attack(
    "the signing time moved within the key's time",
    _late_signature(
        lambda tags: CaseSignature.make(tags, key("fire").kid, SIGNED_AT + 1, lambda _: _signature_of(tags, SIGNED_AT))
    ),
    "authorship",
    "signature-wrong",
    _SIG,
)
_attack(
    "the signature of another case file",
    _late_signature(
        lambda tags: CaseSignature.make(tags[1:], key("fire").kid, SIGNED_AT, signing_key("fire statement").sign)
    ),
    "authorship",
    "signature-wrong",
    _SIG,
)
_attack(
    "a signature without an algorithm",
    _late_signature(
        lambda _: b64url_encode(b'{"alg":"none","iat":1,"kid":"x","typ":"yunxi-case-file+jws"}').encode() + b".."
    ),
    "integrity",
    "malformed",
    "signature.jws",
)


def _under_header(members: dict[str, Any], tags: bytes) -> bytes:
    signature = _sign(tags).partition(b"..")[2]
    said = {"alg": "EdDSA", "iat": SIGNED_AT, "kid": key("fire").kid, "typ": "yunxi-case-file+jws"} | members
    return b64url_encode(json.dumps(said, separators=(",", ":")).encode()).encode() + b".." + signature


for _name, _members in {
    "the right signature under another algorithm": {"alg": "none"},
    "the right signature under another type": {"typ": "yunxi+sd-jwt"},
    "the right signature under something critical": {"crit": ["exp"]},
}.items():
    _attack(_name, _late_signature(partial(_under_header, _members)), "integrity", "malformed", "signature.jws")
_attack(
    "a statement's signature",
    _late_signature(lambda _: b"..".join(world().fire[0].ascii.split(b".")[::2])),
    "integrity",
    "malformed",
    "signature.jws",
)
_attack(
    "a signature that carries its payload",
    _late_signature(lambda t: _whole_jws(t)),
    "integrity",
    "malformed",
    "signature.jws",
)
_attack(
    "a signature with a line feed",
    _late_signature(lambda t: _sign(t) + b"\n"),
    "integrity",
    "malformed",
    "signature.jws",
)
_attack("a huge signature", _late_signature(lambda t: _sign(t) + b"A" * 20_000), "integrity", "file-large", _SIG)


def _signature_of(tags: bytes, iat: int) -> bytes:
    return CaseSignature.parse(
        CaseSignature.make(tags, key("fire").kid, iat, signing_key("fire statement").sign)
    ).signature


def _sign(tags: bytes) -> bytes:
    return CaseSignature.make(tags, key("fire").kid, SIGNED_AT, signing_key("fire statement").sign)


def _whole_jws(tags: bytes) -> bytes:
    head, _, tail = _sign(tags).partition(b"..")
    return head + b"." + b64url_encode(tags).encode() + b"." + tail


# the bag's own files, signed as they are

_MAN, _TAG = "manifest-sha256.txt", "tagmanifest-sha256.txt"


def _lines(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(edit(data.splitlines(keepends=True)))


_attack(
    "manifest: lines in another order",
    _texts(_MAN, _lines(lambda x: x[::-1])),
    "integrity",
    "malformed",
    "manifest-sha256.txt",
)
_attack(
    "manifest: a line twice", _texts(_MAN, _lines(lambda x: x[:1] + x)), "integrity", "malformed", "manifest-sha256.txt"
)
_attack("manifest: a line missing", _texts(_MAN, _lines(lambda x: x[1:])), "integrity", "file-unlisted", FIRST)
_attack(
    "manifest: a file that is not there",
    _texts(_MAN, lambda data: data + b"0" * 64 + b"  data/zzz.txt\n"),
    "integrity",
    "file-missing",
    "data/zzz.txt",
)
_attack(
    "manifest: digests in capitals",
    _texts(_MAN, lambda data: data.replace(data[:64], data[:64].upper())),
    "integrity",
    "malformed",
    "manifest-sha256.txt",
)
_attack(
    "manifest: one space",
    _texts(_MAN, lambda data: data.replace(b"  ", b" ", 1)),
    "integrity",
    "malformed",
    "manifest-sha256.txt",
)
_attack(
    "manifest: Windows line ends",
    _texts(_MAN, lambda data: data.replace(b"\n", b"\r\n")),
    "integrity",
    "malformed",
    "manifest-sha256.txt",
)
_attack("manifest: cut short", _texts(_MAN, lambda data: data[:-1]), "integrity", "malformed", "manifest-sha256.txt")
_attack(
    "manifest: a byte order mark",
    _texts(_MAN, lambda data: b"\xef\xbb\xbf" + data),
    "integrity",
    "malformed",
    "manifest-sha256.txt",
)
_attack("tag manifest: a file missing", _texts(_TAG, _lines(lambda x: x[1:])), "integrity", "bag-tags", _TAG)
_attack(
    "tag manifest: one file too many",
    _texts(_TAG, lambda data: data + b"0" * 64 + b"  zzz.txt\n"),
    "integrity",
    "bag-tags",
    _TAG,
)
_attack(
    "another version of BagIt",
    _texts("bagit.txt", lambda d: d.replace(b"1.0", b"0.97")),
    "integrity",
    "bag-declaration",
    "bagit.txt",
)
_attack(
    "bag-info: another number of bytes",
    _texts("bag-info.txt", lambda d: d.replace(b"Oxum: ", b"Oxum: 1")),
    "integrity",
    "bag-info",
    "bag-info.txt",
)
_attack(
    "bag-info: another case",
    _texts("bag-info.txt", lambda d: d.replace(b"17", b"18")),
    "integrity",
    "bag-info",
    "bag-info.txt",
)
_attack(
    "bag-info: a line too many",
    _texts("bag-info.txt", lambda d: d + b"Bag-Size: 1\n"),
    "integrity",
    "malformed",
    "bag-info.txt",
)
_attack(
    "a program in the payload",
    _signed(lambda d: d.payload.update({"data/setup.exe": b"MZ"})),
    "integrity",
    "file-stranger",
    "data/setup.exe",
)
_attack(
    "a script among the tag files",
    _signed(lambda d: d.late.update({"run.sh": b"rm"})),
    "integrity",
    "file-stranger",
    "run.sh",
)
_attack(
    "another spelling of a folder",
    _signed(lambda d: d.payload.update({"data/Records/000011.sd-jwt": b"x"})),
    "integrity",
    "file-stranger",
    "data/Records/000011.sd-jwt",
)
_attack(
    "a record that no item names",
    _signed(lambda d: d.payload.update({"data/records/000011.sd-jwt": b"x"})),
    "integrity",
    "file-unnamed",
    "data/records/000011.sd-jwt",
    11,
)
_attack(
    "an item whose photo is not there",
    _signed(lambda d: d.payload.pop(PHOTO_PATH)),
    "integrity",
    "file-missing",
    PHOTO_PATH,
    2,
)


# case.json, signed as it is

_FOREIGN = [("market", 2), ("market", 4)]


def _with_items(made_of: Draft, order: list[tuple[str, int]], w: World | None = None) -> None:
    """The items anew, each with its files: these records of these departments' logs, told of rightly."""
    w = w or world()
    for path in [p for p in made_of.payload if p.startswith(("data/records", "data/receipts", "data/attach"))]:
        del made_of.payload[path]
    logs = {"fire": (w.fire_log, w.fire), "market": (w.market_log, w.market)}
    items = []
    for n, (name, index) in enumerate(order, 1):
        state, sealed = logs[name]
        items.append(item_of(n, state, sealed[index], index, made_of.payload))
    made_of.case["items"] = items
    frozen = made_of.payload.pop(manifest_path(6))
    for decision in made_of.case["decisions"]:
        decision["n"] = next(item["n"] for item in items if item["type"] == "decision.made")
        decision["manifest"] = manifest_path(decision["n"])
        made_of.payload[decision["manifest"]] = frozen


def _case_text(edit: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    return _texts("case.json", edit)


def _renumbered(made_of: Draft) -> None:
    made_of.item(1)["n"], made_of.item(2)["n"] = 2, 1


def _reordered(made_of: Draft) -> None:
    items = made_of.case["items"]
    items[7], items[8] = items[8], items[7]


def _deep(data: bytes) -> bytes:
    return data.replace(b'"gaps":[', b'"gaps":[' + b"[" * 5_000 + b"]" * 5_000 + b",")


_attack(
    "case.json: a member twice",
    _case_text(lambda d: d.replace(b'"v":1}', b'"v":1,"v":1}')),
    "integrity",
    "malformed",
    "case.json",
)
_attack("case.json: an unknown member", _case(note="x"), "integrity", "malformed", "case.json")
_attack("case.json: an unknown member of an item", _item(1, weight="high"), "integrity", "malformed", "case.json")
_attack("case.json: a member missing", _signed(lambda d: d.item(1).pop("page")), "integrity", "malformed", "case.json")
_attack(
    "case.json: white space", _case_text(lambda d: d.replace(b'","', b'", "', 1)), "integrity", "malformed", "case.json"
)
_attack("case.json: no line feed", _case_text(lambda d: d[:-1]), "integrity", "malformed", "case.json")
_attack(
    "case.json: escaped letters",
    _case_text(lambda d: d.replace(b"evidence 1", b"\\u0065vidence 1")),
    "integrity",
    "malformed",
    "case.json",
)
_attack("case.json: nested 5,000 deep", _case_text(_deep), "integrity", "malformed", "case.json")
_attack(
    "case.json: a huge number",
    _case_text(lambda d: d.replace(b'"log_size":9', b'"log_size":' + b"9" * 400)),
    "integrity",
    "malformed",
    "case.json",
)
_attack(
    "case.json: a fraction",
    _case_text(lambda d: d.replace(b'"log_size":9', b'"log_size":9.0')),
    "integrity",
    "malformed",
    "case.json",
)
_attack("case.json: true for a number", _case(log_size=True), "integrity", "malformed", "case.json")
_attack(
    "case.json: a lone surrogate",
    _case_text(lambda d: d.replace(b"evidence 1", b"\\ud800")),
    "integrity",
    "malformed",
    "case.json",
)
_attack(
    "case.json: not UTF-8",
    _case_text(lambda d: d.replace(b"evidence 1", b"\xff")),
    "integrity",
    "malformed",
    "case.json",
)
_attack("case.json: a control character", _item(1, name="a\u001b[2Jb"), "integrity", "malformed", "case.json")
_attack("case.json: a name of 3,000 letters", _item(1, name="x" * 3_000), "integrity", "malformed", "case.json")
_attack("case.json: 3,000 attachments", _item(1, attachments=[{}] * 3_000), "integrity", "malformed", "case.json")
_attack("case.json: a version to come", _case(v=2), "integrity", "malformed", "case.json")
_attack("case.json: a list", _case_text(lambda _: b"[]\n"), "integrity", "malformed", "case.json")
_attack("case.json: empty", _case_text(lambda _: b""), "integrity", "malformed", "case.json")
_attack("items renumbered", _signed(_renumbered), "integrity", "malformed", "case.json")
_attack("items in another order", _signed(_reordered), "integrity", "malformed", "case.json")
_attack(
    "items in another order, numbered again",
    _signed(lambda d: _with_items(d, [("fire", n) for n in (0, 1, 3, 4, 5, 6, 8, 7)] + _FOREIGN)),
    "integrity",
    "malformed",
    "case.json",
)
_attack(
    "another department's records first",
    _signed(lambda d: _with_items(d, _FOREIGN + [("fire", n) for n in (0, 1, 3, 4, 5, 6, 7, 8)])),
    "integrity",
    "malformed",
    "case.json",
)
_attack("an item twice", _signed(lambda d: d.case["items"].append(d.item(10))), "integrity", "malformed", "case.json")
_attack(
    "an item that names another item's record", _item(2, record=record_path(3)), "integrity", "malformed", "case.json"
)
_attack(
    "an item that names a file outside", _item(2, record="data/records/../../x"), "integrity", "malformed", "case.json"
)
_attack(
    "an attachment that is another item's file",
    _signed(lambda d: d.item(3)["attachments"][0].update(path=PHOTO_PATH)),
    "integrity",
    "malformed",
    "case.json",
)
_attack("a date that is none", _item(1, date="2026-13-01"), "integrity", "malformed", "case.json")
_attack("another consortium", _case(consortium="other.example"), "authorship", "case-consortium", "case.json")
_attack(
    "a department that nobody knows",
    _case(department="water", items=[], decisions=[]),
    "authorship",
    "case-department",
    "case.json",
)
_attack(
    "another case number", _signed(lambda d: d.case.update(case="another")), "integrity", "item-case", record_path(1), 1
)

# what case.json says of the records

_attack("role: evidence called custody", _item(2, role="custody"), "integrity", "item-role", "case.json", 2)
_attack("role: a step called evidence", _item(1, role="evidence"), "integrity", "item-role", "case.json", 1)
_attack("role: a copy called an original", _item(7, role="evidence"), "integrity", "item-role", "case.json", 7)
_attack("role: that does not exist", _item(2, role="proof"), "integrity", "malformed", "case.json")
_attack(
    "another record id", _item(2, record_id="019ca7d0-0000-7000-8000-0000000000ff"), "integrity", "item-record", _REC, 2
)
_attack("another type", _item(2, type="photo.taken"), "integrity", "item-record", _REC, 2)
_attack("another version of the type", _item(2, v=2), "integrity", "item-record", _REC, 2)
_attack("another leaf", _item(2, leaf="0" * 64), "integrity", "item-leaf", _REC, 2)
_attack("another time of sealing", _item(2, sealed_at=START), "integrity", "item-sealed-at", "case.json", 2)
_attack("another place in the log", _item(3, index=2), "inclusion", "item-index", "case.json", 3)
_attack("a log smaller than its items", _case(log_size=8), "inclusion", "item-index", "case.json", 8)
_attack("case.json: destroyed as a text", _item(2, forgotten="no"), "integrity", "malformed", "case.json")
_attack("content that is said to be destroyed", _item(2, forgotten=True), "integrity", "item-forgotten", "case.json", 2)
_attack(
    "evidence after the decision called before",
    _item(8, before_decision=True),
    "completeness",
    "item-before",
    "case.json",
    8,
)
_attack(
    "evidence before the decision called after",
    _item(2, before_decision=False),
    "completeness",
    "item-before",
    "case.json",
    2,
)
_attack(
    "another department's record called after",
    _item(9, before_decision=False),
    "completeness",
    "item-before",
    "case.json",
    9,
)
_attack(
    "the decision called before itself", _item(6, before_decision=True), "completeness", "item-before", "case.json", 6
)
_attack(
    "nothing said of before and after", _item(2, before_decision=None), "completeness", "item-before", "case.json", 2
)


def _attachment(n: int, **members: Any) -> Callable[[], bytes]:
    return _signed(lambda d: d.item(n)["attachments"][0].update(members))


def _swapped_photos(made_of: Draft) -> None:
    one, two = PHOTO_PATH, "data/attachments/000007-01.png"
    made_of.payload[one], made_of.payload[two] = made_of.payload[two], made_of.payload[one]


_attack(
    "an attachment's name with a look-alike",
    _attachment(2, name="ехit.png"),
    "integrity",
    "item-attachments",
    "case.json",
    2,
)
_attack(
    "an attachment's name turned around",
    _attachment(2, name="exit‮gnp.exe"),
    "integrity",
    "item-attachments",
    "case.json",
    2,
)
_attack("case.json: an attachment with number 0", _attachment(2, ordinal=0), "integrity", "malformed", "case.json")
_attack("case.json: an attachment with number 100", _attachment(2, ordinal=100), "integrity", "malformed", "case.json")
_attack("another size of an attachment", _attachment(2, size=1), "integrity", "item-attachments", "case.json", 2)
_attack(
    "another digest of an attachment", _attachment(2, sha256="0" * 64), "integrity", "item-attachments", "case.json", 2
)
_attack(
    "an attachment not listed",
    _signed(lambda d: (d.item(2).update(attachments=[]), d.payload.pop(PHOTO_PATH))),
    "integrity",
    "item-attachments",
    "case.json",
    2,
)
_attack("attachments swapped and signed", _signed(_swapped_photos), "integrity", "attachment-differs", PHOTO_PATH, 2)
_attack(
    "a photo replaced and signed",
    _payload(PHOTO_PATH, lambda d: d[::-1]),
    "integrity",
    "attachment-differs",
    PHOTO_PATH,
    2,
)
_attack("billion laughs, signed", _payload(XML_PATH, lambda _: BOMB), "integrity", "attachment-differs", XML_PATH, 3)


# the records and their proofs


def _record(n: int, presentation: Callable[[], bytes]) -> Callable[[], bytes]:
    return _payload(record_path(n), lambda _: presentation())


def _refreshed(n: int, sealed: Any) -> Callable[[], bytes]:
    """Another statement in place of item `n`, case.json telling of it rightly."""

    def change(made_of: Draft) -> None:
        made_of.payload[record_path(n)] = sealed().present()
        made_of.item(n)["leaf"] = leaf_hash(sealed().ascii).hex()

    return _signed(change)


def _finding(**changes: Any) -> Any:
    payload = {"type": "inspection.finding", "case": CASE_NUMBER} | changes.pop("payload", {})
    return seal("fire", 1, payload=payload, **changes)


_attack(
    "a record by a stranger",
    _refreshed(2, lambda: _finding(signer="stranger")),
    "authorship",
    "signature-invalid",
    _REC,
    2,
)
_attack(
    "a record by another department's key",
    _refreshed(2, lambda: _finding(header={"kid": key("market").kid}, signer="market statement")),
    "authorship",
    "key-of-another",
    _REC,
    2,
)
_attack(
    "a record dated before its key",
    _refreshed(2, lambda: _finding(payload={"iat": START - 3 * DAY})),
    "authorship",
    "key-not-valid",
    _REC,
    2,
)
_attack(
    "a record that was never in the log",
    _refreshed(2, lambda: _finding(units={"finding": {"result": "pass"}, "attachment-1": _photo()})),
    "inclusion",
    "inclusion-invalid",
    _TLOG,
    2,
)
_attack(
    "a unit of another record",
    _payload(_REC, lambda d: d + world().fire[0].disclosures["filing"].encode() + b"~"),
    "authorship",
    "disclosure-invalid",
    _REC,
    2,
)
_attack(
    "a unit shown twice",
    _payload(_REC, lambda d: d + d.split(b"~")[1] + b"~"),
    "authorship",
    "disclosure-invalid",
    _REC,
    2,
)
_attack("a record cut short", _payload(_REC, lambda d: d[:-5]), "integrity", "malformed", _REC, 2)
_attack(
    "receipts swapped",
    _signed(lambda d: _swap(receipt_path(2), receipt_path(3))(d.payload)),
    "inclusion",
    "inclusion-invalid",
    _TLOG,
    2,
)
_attack("a receipt that is none", _payload(_TLOG, lambda _: b"hello"), "inclusion", "malformed", _TLOG, 2)


def _receipt(n: int, index: int, state: Callable[[], LogState]) -> Callable[[], bytes]:
    """Item `n` with a receipt from another state of the log, and without what belongs to the old one."""

    def change(made_of: Draft) -> None:
        made_of.payload[receipt_path(n)] = state().receipt(index)
        made_of.item(n).update(anchor=None, times=[])

    return _signed(change)


def _old() -> LogState:
    return log([sealed.ascii for sealed in world().fire[:5]])


def _old_for_new() -> bytes:
    """The newest record's path under a checkpoint from before it."""
    proof = replace(world().fire_log.proof(8), checkpoint=_old().checkpoint, extra=None)
    return proof.serialize()


def _fork() -> LogState:
    entries = [sealed.ascii for sealed in world().fire]
    entries[2] = seal("fire", 77).ascii
    return log(entries, anchored=False)


def _alone() -> LogState:
    return log([sealed.ascii for sealed in world().fire], witnesses=(), anchored=False)


def _forged_checkpoint() -> LogState:
    state = log([sealed.ascii for sealed in world().fire], anchored=False)
    return replace(state, checkpoint=state.checkpoint.replace(b"\n9\n", b"\n8\n"))


def _forged_witness() -> LogState:
    state = _alone()
    lines = [line for line in world().fire_log.checkpoint.decode().splitlines(keepends=True) if "court" in line]
    other = log([sealed.ascii for sealed in world().fire[:8]], anchored=False).checkpoint.decode()
    court = next(line for line in other.splitlines(keepends=True) if "court" in line)
    assert lines
    return replace(state, checkpoint=add_signatures(state.checkpoint, [court.encode()]))


_attack(
    "an old checkpoint replayed over the newest record",
    _signed(lambda d: (d.payload.update({receipt_path(8): _old_for_new()}), d.item(8).update(anchor=None, times=[]))),
    "inclusion",
    "inclusion-invalid",
    receipt_path(8),
    8,
)
_attack("a second version of the log", _receipt(1, 0, _fork), "inclusion", "log-forked", receipt_path(2), 2)
_attack("a checkpoint without its witnesses", _receipt(2, 1, _alone), "witnesses", "quorum", _TLOG, 2)
_attack(
    "a witness's signature from another checkpoint",
    _receipt(2, 1, _forged_witness),
    "witnesses",
    "cosignature-wrong",
    _TLOG,
    2,
)
_attack(
    "a checkpoint with another size", _receipt(2, 1, _forged_checkpoint), "inclusion", "checkpoint-invalid", _TLOG, 2
)
_attack(
    "another department's log",
    _signed(lambda d: d.payload.update({_TLOG: d.payload[receipt_path(9)]})),
    "inclusion",
    "checkpoint-invalid",
    _TLOG,
    2,
)
_attack(
    "a receipt left out, its time stamp kept",
    _signed(lambda d: _without_receipt(d)),
    "inclusion",
    "item-receipt",
    "case.json",
    2,
)


def _without_receipt(made_of: Draft) -> None:
    made_of.item(2)["receipt"] = None
    made_of.payload.pop(_TLOG)


def _photo() -> dict[str, Any]:
    item = draft().item(2)["attachments"][0]
    return {name: item[name] for name in ("name", "media_type", "size", "sha256")}


_FIRE_ANCHOR, _MARKET_ANCHOR = "data/anchors/fire-9.anchor.json", "data/anchors/market-5.anchor.json"


def _anchor(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return _payload(_FIRE_ANCHOR, lambda _: make())


_attack(
    "anchor evidence of another log",
    _signed(lambda d: _swap(_FIRE_ANCHOR, _MARKET_ANCHOR)(d.payload)),
    "chain",
    "evidence-other-log",
    _FIRE_ANCHOR,
    1,
)
_attack(
    "anchor evidence of an older state",
    _anchor(lambda: made("qbft", _old()).file()),
    "chain",
    "evidence-other-state",
    _FIRE_ANCHOR,
    1,
)
_attack(
    "anchor evidence sealed by strangers",
    _anchor(lambda: made("qbft", world().fire_log, sealers=(4, 5, 6)).file()),
    "chain",
    "evidence-seal",
    _FIRE_ANCHOR,
    1,
)
_attack(
    "anchor evidence sealed by too few",
    _anchor(lambda: made("qbft", world().fire_log, sealers=(0, 1)).file()),
    "chain",
    "evidence-threshold",
    _FIRE_ANCHOR,
    1,
)
_attack(
    "anchor evidence of another kind of chain",
    _anchor(lambda: made("clique", world().fire_log).file()),
    "chain",
    "anchor-invalid",
    _FIRE_ANCHOR,
    1,
)
_attack("anchor evidence that is none", _anchor(lambda: b"{}"), "chain", "malformed", _FIRE_ANCHOR, 1)


def _other_chain() -> Trust:
    trust = _trust()
    return replace(trust, chain=replace(trust.chain, id=7))


_attack(
    "anchored on another chain than the trust file's", good, "chain", "anchor-invalid", receipt_path(1), 1, _other_chain
)

_FIRE_TOKEN, _MARKET_TOKEN = token_path("fire", 9, 1), token_path("market", 5, 1)


def _tsa(root: str) -> Callable[[], Trust]:
    return lambda: world().trust(tsa_roots=(getattr(world().stamps, root),))


def _renewed(data: bytes) -> Callable[[], bytes]:
    path = _FIRE_TOKEN.replace(".tst", ".renewals.json")

    def change(made_of: Draft) -> None:
        made_of.payload[path] = data
        for item in made_of.case["items"][:8]:
            item["times"][0]["renewals"] = path

    return _signed(change)


_attack(
    "a time stamp over another checkpoint",
    _signed(lambda d: _swap(_FIRE_TOKEN, _MARKET_TOKEN)(d.payload)),
    "time",
    "timestamp-invalid",
    _FIRE_TOKEN,
    1,
)
_attack(
    "a time stamp by a stranger",
    _payload(_FIRE_TOKEN, lambda _: world().stamps.stranger),
    "time",
    "timestamp-invalid",
    _FIRE_TOKEN,
    1,
)
_attack(
    "an authority that the trust file does not name",
    good,
    "time",
    "timestamp-invalid",
    _FIRE_TOKEN,
    1,
    _tsa("stranger_root"),
)
_attack(
    "an authority whose certificate had ended",
    _payload(_FIRE_TOKEN, lambda _: world().stamps.expired),
    "time",
    "timestamp-invalid",
    _FIRE_TOKEN,
    1,
    _tsa("expired_root"),
)
_attack(
    "a time stamp with a byte changed",
    _payload(_FIRE_TOKEN, lambda d: d[:-1] + bytes([d[-1] ^ 1])),
    "time",
    "timestamp-invalid",
    _FIRE_TOKEN,
    1,
)
_attack("a time stamp that is none", _payload(_FIRE_TOKEN, lambda _: b"0"), "time", "malformed", _FIRE_TOKEN, 1)
_attack("renewals that are none", _renewed(b"{}"), "time", "malformed", _FIRE_TOKEN, 1)

# --- what was decided upon ---

_FROZEN = manifest_path(6)


def _manifest(edit: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """The manifest changed where case.json says it, its size and digest told rightly; the record says otherwise."""

    def change(made_of: Draft) -> None:
        data = edit(made_of.payload[_FROZEN])
        made_of.payload[_FROZEN] = data
        made_of.case["decisions"][0].update(sha256=hashlib.sha256(data).hexdigest(), count=data.count(b"\n"))

    return _signed(change)


def _decision(**members: Any) -> Callable[[], bytes]:
    return _signed(lambda d: d.case["decisions"][0].update(members))


def _omitted(number: int) -> Callable[[Draft], None]:
    """An item left out, the others numbered again, everything else told rightly."""
    order = [("fire", n) for n in (0, 1, 3, 4, 5, 6, 7, 8)] + _FOREIGN
    return lambda made_of: _with_items(made_of, order[: number - 1] + order[number:])


def _extra_item(made_of: Draft) -> None:
    """Record 2 of the log, which is of another case, as one item more."""
    _with_items(made_of, [("fire", n) for n in range(9)] + _FOREIGN)


def _unlisted_world() -> bytes:
    """The intake left record 2 out of the manifest, though it was of the case."""
    w = world(CASE_NUMBER)
    made_of = draft(w)
    _with_items(made_of, [("fire", n) for n in range(9)] + _FOREIGN, w)
    made_of.item(3)["before_decision"] = False
    return made_of.pack()


def _undecided(made_of: Draft) -> None:
    made_of.case["decisions"] = []
    made_of.payload.pop(_FROZEN)
    for item in made_of.case["items"]:
        item["before_decision"] = None


_attack(
    "evidence that the decision froze left out",
    _signed(_omitted(2)),
    "completeness",
    "frozen-missing",
    manifest_path(5),
    5,
)
_attack(
    "a received page that the decision froze left out",
    _signed(_omitted(4)),
    "completeness",
    "frozen-missing",
    manifest_path(5),
    5,
)
_attack("a record of another case slipped in", _signed(_extra_item), "integrity", "item-case", record_path(3), 3)
_attack(
    "a record of the case that the decision did not freeze",
    _unlisted_world,
    "completeness",
    "frozen-unlisted",
    manifest_path(7),
    3,
    lambda: world(CASE_NUMBER).trust(),
)
_attack("what the decision froze not told", _signed(_undecided), "completeness", "decision-missing", "case.json", 6)
_attack(
    "the frozen list: a line taken out",
    _manifest(_lines(lambda x: x[:1] + x[2:])),
    "completeness",
    "decision-differs",
    _FROZEN,
    6,
)
_attack(
    "the frozen list: a line added",
    _manifest(lambda d: d + b"8 019ca7d0-0000-7000-8000-000000000008 " + b"0" * 64 + b"\n"),
    "completeness",
    "decision-differs",
    _FROZEN,
    6,
)
_attack(
    "the frozen list: another order",
    _manifest(_lines(lambda x: x[::-1])),
    "completeness",
    "decision-differs",
    _FROZEN,
    6,
)
_attack("the frozen list: empty", _manifest(lambda _: b""), "completeness", "decision-differs", _FROZEN, 6)
_attack(
    "the frozen list: another file",
    _payload(_FROZEN, lambda d: d + b"\n"),
    "completeness",
    "decision-differs",
    _FROZEN,
    6,
)
_attack("a decision said to have frozen fewer", _decision(count=4), "completeness", "decision-differs", _FROZEN, 6)
_attack("a decision said to have come later", _decision(size=9), "completeness", "decision-differs", _FROZEN, 6)
_attack(
    "a decision said to have seen another log", _decision(root="0" * 64), "completeness", "decision-differs", _FROZEN, 6
)
_attack(
    "a second decision that is none",
    _signed(lambda d: d.case["decisions"].append(d.case["decisions"][0] | {"n": 8, "manifest": manifest_path(8)})),
    "integrity",
    "malformed",
    "case.json",
)
_attack(
    "the same decision twice",
    _signed(lambda d: d.case["decisions"].append(d.case["decisions"][0])),
    "integrity",
    "malformed",
    "case.json",
)


def _twice(change: Callable[[Draft], Any]) -> Callable[[], bytes]:
    """A case with two decisions, items 6 and 9."""

    def make() -> bytes:
        made_of = draft(world(twice=True))
        change(made_of)
        return made_of.pack()

    return make


def _trust_twice() -> Trust:
    return world(twice=True).trust()


def _first_hidden(made_of: Draft) -> None:
    """The first decision is shown without what it froze, and the second stands in for it."""
    made_of.payload[record_path(6)] = world(twice=True).fire[6].present("decision")
    made_of.item(6)["attachments"] = []
    del made_of.case["decisions"][0], made_of.payload[_FROZEN], made_of.payload["data/attachments/000006-01.txt"]
    for item in made_of.case["items"][5:8]:
        item["before_decision"] = True


def _second_for_first(made_of: Draft) -> None:
    first, second = made_of.case["decisions"]
    made_of.payload[_FROZEN] = made_of.payload[second["manifest"]]
    first.update({name: second[name] for name in ("count", "sha256", "size", "root")})


def _first_not_listed(made_of: Draft) -> None:
    del made_of.case["decisions"][0], made_of.payload[_FROZEN]
    for item in made_of.case["items"][5:8]:
        item["before_decision"] = True


_attack(
    "the second decision's list in the first's place",
    _twice(_second_for_first),
    "completeness",
    "decision-differs",
    _FROZEN,
    6,
    _trust_twice,
)
_attack(
    "the first decision's list left out, the second's kept",
    _twice(_first_not_listed),
    "completeness",
    "decision-missing",
    "case.json",
    6,
    _trust_twice,
)
_attack(
    "evidence between two decisions called before both",
    _twice(lambda d: d.item(8).update(before_decision=True)),
    "completeness",
    "item-before",
    "case.json",
    8,
    _trust_twice,
)


# --- good ones ---


def _no_times(made_of: Draft) -> None:
    for item in made_of.case["items"]:
        item["times"] = []
    for path in (_FIRE_TOKEN, _MARKET_TOKEN):
        del made_of.payload[path]


def _unlogged(made_of: Draft) -> None:
    made_of.item(8).update(receipt=None, anchor=None, times=[])
    del made_of.payload[receipt_path(8)]


def _withheld(made_of: Draft) -> None:
    made_of.item(2)["attachments"][0]["path"] = None
    del made_of.payload[PHOTO_PATH]


def _masked(made_of: Draft) -> None:
    made_of.payload[_REC] = world().fire[1].present("finding")
    made_of.item(2)["attachments"] = []
    del made_of.payload[PHOTO_PATH]


def _forgotten(made_of: Draft) -> None:
    made_of.payload[record_path(3)] = world().fire[3].ascii + b"~"
    made_of.item(3).update(attachments=[], forgotten=True)
    del made_of.payload[XML_PATH]


def _empty(made_of: Draft) -> None:
    made_of.case.update(items=[], decisions=[], gaps=[], log_size=0)
    made_of.payload = {p: d for p, d in made_of.payload.items() if p.count("/") == 1}


def _other_copy(made_of: Draft) -> None:
    made_of.payload["data/trust.json"] = b"{}\n"


UNSEEN = (
    "  ",
    "\u200b\u200d",
    "\u2066\u2069",
    "\u00a0\u3000",
    "\u2800",
    "\u3164\u115f\u1160\uffa0",
    "\U000e0041\U000e007f",
    "\ufe0f\u0301",
    "\u00ad",
)
"""Texts of which nobody would see anything: blanks, characters that steer, fillers, marks on nothing."""


def _unseen(d: Draft) -> None:
    for item, name in zip(d.case["items"], UNSEEN, strict=False):
        item |= {"name": name, "source": name, "purpose": f"{name}x{name}"}


# what is for reading


def _in_index(d: Draft, old: bytes, new: bytes) -> None:
    made_of = index_of(d.case)
    assert old in made_of
    d.payload["data/index.html"] = made_of.replace(old, new, 1)


def _volumes(d: Draft, said: int, given: tuple[int, ...]) -> None:
    d.case["volumes"] = said
    d.payload |= {index_path(k): b"%PDF-1.7\n%%EOF\n" for k in given}


_INDEX = "data/index.html"
_attack(
    "an index with a false caption",
    _signed(lambda d: _in_index(d, b"<p>evidence 2</p>", b"<p>the shop of Zhang San</p>")),
    "integrity",
    "index-lacks",
    _INDEX,
    2,
)
_attack(
    "an index that leaves an item out",
    _signed(lambda d: _in_index(d, f"<p>{d.item(10)['record_id']}</p>".encode(), b"")),
    "integrity",
    "index-lacks",
    _INDEX,
    10,
)
_attack(
    "an index with the digest of another record",
    _signed(lambda d: _in_index(d, d.item(3)["leaf"].encode(), d.item(4)["leaf"].encode())),
    "integrity",
    "index-lacks",
    _INDEX,
    3,
)
_attack(
    "an index whose true captions stand in a comment only",
    _signed(lambda d: _in_index(d, b"<p>evidence 2</p>", b"<!-- evidence 2 --><p>the shop of Zhang San</p>")),
    "integrity",
    "index-lacks",
    _INDEX,
    2,
)
_attack("an empty index", _signed(lambda d: d.payload.update({_INDEX: b""})), "integrity", "index-lacks", _INDEX, 1)
_attack(
    "a volume of the index that nobody counts",
    _signed(partial(_volumes, said=1, given=(2,))),
    "integrity",
    "file-unnamed",
    "data/index-002.pdf",
)
_attack(
    "a volume of the index left out",
    _signed(partial(_volumes, said=3, given=(2,))),
    "integrity",
    "file-missing",
    "data/index-003.pdf",
)
_attack("an index of no volume", _case(volumes=0), "integrity", "malformed", "case.json")
_attack("an index of a billion volumes", _case(volumes=10**9), "integrity", "malformed", "case.json")

# corrections

_attack("a correction that is kept quiet", _item(8, amends=None), "integrity", "item-amends", "case.json", 8)
_attack(
    "a correction turned on another record",
    _signed(lambda d: d.item(8).update(amends=d.item(3)["record_id"])),
    "integrity",
    "item-amends",
    "case.json",
    8,
)
_attack(
    "a record said to be corrected by one that is no correction",
    _signed(lambda d: d.item(7).update(amends=d.item(1)["record_id"])),
    "integrity",
    "item-amends",
    "case.json",
    7,
)
_attack("a correction of what is no record's id", _item(8, amends="2"), "integrity", "malformed", "case.json")
_attack(
    "an item that does not say whether it corrects",
    _signed(lambda d: d.item(8).pop("amends")),
    "integrity",
    "malformed",
    "case.json",
)

GOOD |= {
    "good": (good, _trust),
    "good: no time stamps": (_signed(_no_times), _trust),
    "good: an index in three volumes": (_signed(partial(_volumes, said=3, given=(2, 3))), _trust),
    "good: a correction of a record that is not here": (
        lambda: draft(world(corrected=2)).pack(),
        lambda: world(corrected=2).trust(),
    ),
    "good: a correction of what is no record": (
        lambda: draft(world(corrected="no id")).pack(),
        lambda: world(corrected="no id").trust(),
    ),
    "good: names that nobody would see": (_signed(_unseen), _trust),
    "good: a name that no index shows as it is": (_item(2, name="exit\u202etxt.exe"), _trust),
    "good: an index that says more than the list, which nobody can tell": (
        _signed(lambda d: _in_index(d, b"</p>\n", b"</p>\n<p>taken in another shop</p>\n")),
        _trust,
    ),
    "good: a trust file without authorities": (good, lambda: world().trust(tsa_roots=())),
    "good: a record that has no receipt yet": (_signed(_unlogged), _trust),
    "good: a photo not given out": (_signed(_withheld), _trust),
    "good: units masked": (_signed(_masked), _trust),
    "good: a record forgotten": (_signed(_forgotten), _trust),
    "good: two decisions": (_twice(lambda _: None), _trust_twice),
    "good: the first of two decisions does not show what it froze": (_twice(_first_hidden), _trust_twice),
    "good: no items": (_signed(_empty), _trust),
    "good: another copy of the trust file inside": (_signed(_other_copy), _trust),
    "good: a witness of unknown hands": (
        good,
        lambda: world().trust(departments=(department("fire"), department("market"))),
    ),
}
