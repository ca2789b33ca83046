"""Time stamps beside single records: a real authority's tokens, their renewals, and what does not hold."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import Refusal, TimestampInvalid
from ledger.formats.note import Note
from ledger.formats.renewal import Renewal, RenewalChain, leaf_hash, path_of, root_of
from ledger.formats.timestamp import token_of
from ledger.formats.trust import Trust
from ledger.verify import Verifier
from ledger.verify.__main__ import run
from tests.fixtures.tsa import Authority, make_authority
from tests.verify import timestamp_vectors
from tests.verify.factory import evidence, log, seal, trust


@dataclass(frozen=True)
class Stamps:
    """Two authorities that the trust file names; a token of the first over the good receipt's checkpoint, among three
    tokens, and its two renewals by the second."""

    first: Authority
    second: Authority
    stranger: Authority
    token: bytes
    renewals: RenewalChain


def text_of(receipt_note: bytes) -> bytes:
    return Note.parse(receipt_note).text


def make_stamps(base: Path) -> Stamps:
    starts = datetime.now(UTC) - timedelta(days=1)
    first = make_authority(base / "a", "First", kind="ec", starts=starts, days=2)
    second, stranger = (
        make_authority(base / "b", "Second", kind="ec"),
        make_authority(base / "c", "Stranger", kind="ec"),
    )
    token = token_of(first.stamp(text_of(evidence()[1].checkpoint)))
    return Stamps(first, second, stranger, token, renewals_of(token, second))


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Stamps:
    return make_stamps(tmp_path_factory.mktemp("authorities"))


def renewals_of(token: bytes, by: Authority) -> RenewalChain:
    """Tokens 0, 1, 2 of a log, 1 being `token`; token 3 is over them, token 4 over all four."""
    tokens, steps, index = [b"another", token, b"a third"], [], 1
    for size in (3, 4):
        leaves = [leaf_hash(each) for each in tokens]
        fresh = token_of(by.stamp(root_of(leaves), "sha512"))
        steps.append(Renewal(size, tuple(path_of(index, leaves)), fresh, size))
        tokens.append(fresh)
        index = size
    return RenewalChain(1, tuple(steps))


def trust_of(*authorities: Authority, **changes: Any) -> Trust:
    return trust(tsa_roots=tuple(authority.root_pem for authority in authorities), **changes)


def hand_in(place: Path, stamps: Stamps) -> None:
    """Two good records under one checkpoint, its time stamp and renewals, and the trust file."""
    state = evidence()[1]
    (place / "trust.json").write_bytes(trust_of(stamps.first, stamps.second).serialize())
    for name, number in (("a", 5), ("b", 6)):
        (place / f"{name}.sd-jwt").write_bytes(seal(number=number).present())
        (place / f"{name}.tlog-proof").write_bytes(state.receipt(number))
    (place / "x.tst").write_bytes(stamps.token)
    (place / "x.renewals.json").write_bytes(stamps.renewals.serialize())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamps: Stamps) -> Path:
    """A folder with them, which is the working directory."""
    hand_in(tmp_path, stamps)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(*names: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    code = run([*names, "--trust", "trust.json", "--json"], out)
    return code, json.loads(out.getvalue())


def codes(report: dict[str, Any]) -> dict[str, str | None]:
    return {file["file"]: file["error"] and file["error"]["code"] for file in report["files"]}


def said(lang: str, *names: str) -> str:
    out = io.StringIO()
    run([*names, "--trust", "trust.json", "--lang", lang], out)
    return out.getvalue()


FILES = ("a.sd-jwt", "a.tlog-proof", "x.tst", "x.renewals.json")


# --- good ones ---


def test_in_any_order_under_any_name(place: Path) -> None:
    (place / "x.tst").rename(place / "photo.jpg")
    for order in (("photo.jpg", *FILES[:2], FILES[3]), (FILES[3], "photo.jpg", *FILES[1::-1])):
        code, report = answer(*order)
        assert (code, set(codes(report).values())) == (0, {None})
        kinds = {file["file"]: file["facts"]["kind"] for file in report["files"]}
        assert (kinds["photo.jpg"], kinds["x.renewals.json"]) == ("time", "renewals")


def test_what_the_report_holds(place: Path, stamps: Stamps) -> None:
    (stamped,) = answer(*FILES)[1]["files"][0]["facts"]["log"]["times"]
    assert (stamped["authority"], stamped["root"]) == ("CN=First", "CN=First root")
    assert len(stamped["renewed"]) == 2
    assert stamped["time"] <= stamped["renewed"][0] <= stamped["renewed"][1]
    assert stamped["good_until"] == int(stamps.second.root.not_valid_after_utc.timestamp())
    (alone,) = answer(*FILES[:3])[1]["files"][0]["facts"]["log"]["times"]
    assert alone == stamped | {"renewed": [], "good_until": int(stamps.first.root.not_valid_after_utc.timestamp())}
    assert answer(*FILES[:2])[1]["files"][0]["facts"]["log"]["times"] == []


def test_one_time_stamp_serves_all_records_of_the_checkpoint_and_counts_once(place: Path) -> None:
    (place / "again.tst").write_bytes((place / "x.tst").read_bytes())
    code, report = answer(*FILES, "b.sd-jwt", "b.tlog-proof", "again.tst")
    assert (code, set(codes(report).values())) == (0, {None})
    by_name = {file["file"]: file["facts"]["log"]["times"] for file in report["files"]}
    assert [len(by_name[name]) for name in ("a.sd-jwt", "b.sd-jwt", "a.tlog-proof")] == [1, 1, 1]
    assert by_name["a.sd-jwt"] == by_name["b.sd-jwt"]
    assert len(by_name["a.sd-jwt"][0]["renewed"]) == 2


def test_several_authorities(place: Path, stamps: Stamps) -> None:
    (place / "y.tst").write_bytes(token_of(stamps.second.stamp(text_of(evidence()[1].checkpoint), "sha384")))
    code, report = answer(*FILES, "y.tst")
    names = [stamped["authority"] for stamped in report["files"][0]["facts"]["log"]["times"]]
    assert (code, names) == (0, ["CN=First", "CN=Second"])


SAYS = {
    "en": ("authority CN=First certified", "renewed 2 times", "clocks of the time-stamping"),
    "zh": ("时间戳服务机构（CN=First）", "已续期2次", "时间戳服务机构的时钟"),
}
NONE = {"en": "No trusted timestamp is part", "zh": "本证据未附可信时间戳"}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_the_report_says(place: Path, lang: str) -> None:
    text = said(lang, *FILES)
    assert all(part in text for part in SAYS[lang])
    assert NONE[lang] not in text
    assert NONE[lang] in said(lang, *FILES[:2])


def test_without_witnesses_the_authority_still_dates_the_record(place: Path, stamps: Stamps) -> None:
    (place / "trust.json").write_bytes(trust_of(stamps.first, stamps.second, witnesses=(), quorum=0).serialize())
    nobody = "Nobody outside the department confirmed a time"
    assert nobody in said("en", *FILES[:2])
    assert nobody not in said("en", *FILES)
    assert "time-stamping authorities: CN=First" in said("en", *FILES)


def openssl_accepts(token: bytes, text: bytes, authority: Authority, scratch: Path) -> bool:
    (scratch / "checkpoint.txt").write_bytes(text)
    (scratch / "token").write_bytes(token)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", "token", "-data", "checkpoint.txt"]
    command += ["-CAfile", str(authority.directory / "root.pem")]
    return subprocess.run(command, cwd=scratch, capture_output=True, check=False).returncode == 0


def test_openssl_says_the_same_of_the_files_that_are_given_out(tmp_path: Path, stamps: Stamps) -> None:
    text = text_of(evidence()[1].checkpoint)
    assert openssl_accepts(stamps.token, text, stamps.first, tmp_path)
    assert not openssl_accepts(stamps.token, text, stamps.stranger, tmp_path)
    assert not openssl_accepts(stamps.token, text.replace(b"11", b"12"), stamps.first, tmp_path)
    assert not openssl_accepts(flipped(stamps.token, len(stamps.token) - 5), text, stamps.first, tmp_path)
    assert not openssl_accepts(of_another_log(stamps), text, stamps.first, tmp_path)


# --- bad ones: each is a finding of its own and takes nothing from the record ---

Change = Callable[[Path, Stamps], None]


def write(name: str, make: Callable[[Stamps], bytes]) -> Change:
    return lambda place, stamps: (place / name).write_bytes(make(stamps)) and None


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def first_renewal(chain: RenewalChain, **changes: Any) -> bytes:
    return replace(chain, renewals=(replace(chain.renewals[0], **changes), *chain.renewals[1:])).serialize()


def of_another_log(stamps: Stamps) -> bytes:
    return token_of(stamps.first.stamp(text_of(log([seal(number=1).ascii]).checkpoint)))


BAD: dict[str, tuple[Change, dict[str, str]]] = {
    "over another state of the log": (write("x.tst", of_another_log), {"x.tst": "timestamp-invalid"}),
    "over the record instead of the log's state": (
        write("x.tst", lambda s: token_of(s.first.stamp(seal(number=5).present()))),
        {"x.tst": "timestamp-invalid"},
    ),
    "by an authority that the trust file does not name": (
        write("x.tst", lambda s: token_of(s.stranger.stamp(text_of(evidence()[1].checkpoint)))),
        {"x.tst": "timestamp-invalid"},
    ),
    "a bit of the signature": (
        write("x.tst", lambda s: flipped(s.token, len(s.token) - 5)),
        {"x.tst": "timestamp-invalid"},
    ),
    "cut short": (write("x.tst", lambda s: s.token[:-1]), {"x.tst": "malformed"}),
    "with a byte behind": (write("x.tst", lambda s: s.token + b"\0"), {"x.tst": "malformed"}),
    "renewals of another token": (
        write("x.renewals.json", lambda s: renewals_of(b"other", s.second).serialize()),
        {"x.renewals.json": "timestamp-invalid"},
    ),
    "a renewal left out": (
        write("x.renewals.json", lambda s: replace(s.renewals, renewals=s.renewals.renewals[1:]).serialize()),
        {"x.renewals.json": "timestamp-invalid"},
    ),
    "another's place in the tree": (
        write("x.renewals.json", lambda s: replace(s.renewals, index=0).serialize()),
        {"x.renewals.json": "timestamp-invalid"},
    ),
    "a renewal by a stranger": (
        write("x.renewals.json", lambda s: renewals_of(s.token, s.stranger).serialize()),
        {"x.renewals.json": "timestamp-invalid"},
    ),
    "renewals with a broken token": (
        write("x.renewals.json", lambda s: first_renewal(s.renewals, token=s.renewals.renewals[0].token[:-1])),
        {"x.renewals.json": "malformed"},
    ),
    "renewals with a member too many": (
        write("x.renewals.json", lambda s: s.renewals.serialize()[:-3] + b',\n "more": 1\n}\n'),
        {"x.renewals.json": "malformed"},
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_hold(place: Path, stamps: Stamps, case: str) -> None:
    change, wrong = BAD[case]
    change(place, stamps)
    code, report = answer(*FILES)
    expected: dict[str, str | None] = dict.fromkeys(FILES, None) | wrong
    if "x.tst" in wrong:  # what renews a time stamp that does not hold proves nothing either
        expected["x.renewals.json"] = "timestamp-invalid"
    assert (code, codes(report)) == (1, expected)
    times = report["files"][0]["facts"]["log"]["times"]
    assert [stamped["renewed"] for stamped in times] == ([] if "x.tst" in wrong else [[]])


def test_ways_to_sign_and_what_comes_along(tmp_path: Path) -> None:
    record, state = evidence()
    said, expected = {}, {}
    for vector in timestamp_vectors.vectors(tmp_path):
        verifier = Verifier(trust_of(vector.authority))
        facts = verifier.verify(record.present(), state.receipt(5))
        expected[vector.name] = vector.verdict
        try:
            verifier.date(facts, vector.token)
            said[vector.name] = "good"
        except Refusal as error:
            said[vector.name] = error.code
    assert said == expected
    assert len(said) > 25


def test_a_trust_file_without_authorities(place: Path) -> None:
    (place / "trust.json").write_bytes(trust().serialize())
    assert codes(answer(*FILES)[1])["x.tst"] == "timestamp-invalid"


def test_bad_beside_good(place: Path, stamps: Stamps) -> None:
    (place / "y.tst").write_bytes(of_another_log(stamps))
    for order in ((*FILES, "y.tst"), ("y.tst", *FILES)):
        code, report = answer(*order)
        assert (code, codes(report)) == (1, dict.fromkeys(order, None) | {"y.tst": "timestamp-invalid"})


ALONE = {
    ("x.tst",): ["timestamp-invalid"],
    ("x.renewals.json",): ["timestamp-invalid"],
    ("x.renewals.json", "x.tst"): ["timestamp-invalid", "timestamp-invalid"],
    ("a.sd-jwt", "x.tst"): ["not-proven", "timestamp-invalid"],
    ("b.sd-jwt", "a.tlog-proof", "x.tst"): ["inclusion-invalid", "inclusion-invalid", "timestamp-invalid"],
    ("a.sd-jwt", "a.tlog-proof", "x.renewals.json"): [None, None, "timestamp-invalid"],
}


@pytest.mark.parametrize("files", ALONE, ids=" ".join)
def test_without_what_they_belong_to(place: Path, files: tuple[str, ...]) -> None:
    assert list(codes(answer(*files)[1]).values()) == ALONE[files]


def test_a_record_without_a_receipt_cannot_be_dated(stamps: Stamps) -> None:
    verifier = Verifier(trust_of(stamps.first))
    facts = verifier.verify(seal(number=5).present(), None)
    with pytest.raises(TimestampInvalid):
        verifier.date(facts, stamps.token)


def test_time_seen(stamps: Stamps) -> None:
    verifier = Verifier(trust_of(stamps.first, witnesses=(), quorum=0))
    record, state = evidence()
    facts = verifier.date(verifier.verify(record.present(), state.receipt(5)), stamps.token)
    assert facts.logged is not None
    assert facts.logged.seen_at == facts.logged.times[0].time
    assert verifier.date(facts, stamps.token) == facts
