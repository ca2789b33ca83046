"""Identifiers of the subjects of a record: one normal form each, so that departments match the same company or plate.

| kind        | what it is                                                   | checked                                |
|-------------|--------------------------------------------------------------|----------------------------------------|
| uscc        | unified social credit code, GB 32100-2015                    | 18 characters, mod-31 check digit      |
| resident-id | citizen identification number, GB 11643-1999                 | 18 characters, date, mod-11 check digit|
| plate       | civil vehicle plate, GA 36-2018, new-energy and rescue plates| shape (plates carry no check digit)    |
| licence     | number of a licence, in the issuing department's own style   | length and characters only             |
| permit      | number of a single permission (transport, discharge, works)  | length and characters only             |
| address     | street address as text                                       | length and characters only             |
| name        | name of a person or an organisation as text                  | length and characters only             |

The normal form is the input of the blind index, so it never changes for a kind once records exist; a new rule is a new
kind. Not checked: that the company, person or vehicle exists; the GB 11714 check digit inside a uscc; region codes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from ledger.errors import RecordRefused

MAX_CHARS = 200

# GB 32100-2015 table 2: the value of a character is its place here; I, O, S, V and Z are not used
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_VALUE = {character: value for value, character in enumerate(_USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))
_USCC_SHAPE = re.compile(f"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")

# GB 11643-1999 (ISO 7064 MOD 11-2): weight of place i, counted from the right and from 1, is 2^(i-1) mod 11
_RESIDENT_WEIGHTS = tuple(pow(2, 17 - place, 11) for place in range(17))
_RESIDENT_CHECK = "10X98765432"
_RESIDENT_SHAPE = re.compile("[1-9][0-9]{16}[0-9X]")

_PROVINCE = "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
_SERIAL = "[0-9A-HJ-NP-Z]"
_PLATE_SHAPE = re.compile(
    f"{_PROVINCE}[A-HJ-Z]{_SERIAL}{{5}}"  # 7 characters: blue, yellow
    f"|{_PROVINCE}[A-HJ-Z](?:[A-HJK]{_SERIAL}[0-9]{{4}}|[0-9]{{5}}[A-HJK])"  # 8: new energy, small and large
    f"|{_PROVINCE}[A-HJ-Z]{_SERIAL}{{4}}[警学挂领港澳试超]"
    f"|{_PROVINCE}[XS][0-9]{{4}}应急"  # fire and rescue
    "|使[0-9]{6}"
)

_NAME_DOTS = str.maketrans("•‧・", "···")
_SEPARATORS = str.maketrans("", "", " -‐‑–—·•‧・.")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is written and what a good value looks like. `check` takes the normal form and raises ValueError."""

    fold: Callable[[str], str]
    check: Callable[[str], None] | None = None


def normalise(kind: str, value: str) -> str:
    """The one text by which `value` is matched: NFKC, upper case, 1 to 200 characters; stable under repetition.

    Says nothing about check digits (`check` does). Raises RecordRefused, reason `bad-identifier`: unknown kind, not
    text, empty, longer than 200 characters, or a control, format or surrogate character inside.
    """
    entry = _kind(kind)
    if not isinstance(value, str):
        raise _refused(kind, "must be text")
    # before folding: folding costs time in proportion to the length
    if len(value) > MAX_CHARS:
        raise _refused(kind, f"is longer than {MAX_CHARS} characters")
    folded = _fold(entry, value)
    if not folded:
        raise _refused(kind, "is empty")
    if len(folded) > MAX_CHARS:
        raise _refused(kind, f"is longer than {MAX_CHARS} characters in its normal form")
    if not folded.isprintable() and any(unicodedata.category(c) in _FORBIDDEN for c in folded):
        raise _refused(kind, "contains an invisible control character; remove it in the source")
    return folded


def check(kind: str, value: str) -> None:
    """Accepts `value` in any writing that `normalise` takes if it is a possible identifier of its kind.

    Raises RecordRefused, reason `bad-identifier`, for every cause of `normalise` and for a wrong shape, an impossible
    date of birth or a wrong check digit. The message shows no more than the ends of the value.
    """
    normal = normalise(kind, value)
    test = KINDS[kind].check
    if test is None:
        return
    try:
        test(normal)
    except ValueError as error:
        raise _refused(f"{kind} {mask(normal)}", str(error)) from None


def mask(value: str) -> str:
    """`value` with its middle taken out: at most a quarter, and at most 3 characters, stay at each end."""
    shown = min(3, len(value) // 4)
    return f"{value[:shown]}…{value[len(value) - shown :]}"


def uscc_check_digit(body: str) -> str:
    """The 18th character for 17 characters of the GB 32100-2015 alphabet (section 5.2). ValueError for others."""
    if len(body) != 17 or not set(body) <= _USCC_VALUE.keys():
        raise ValueError("expected 17 characters of the GB 32100-2015 alphabet")
    total = sum([_USCC_VALUE[character] * weight for character, weight in zip(body, _USCC_WEIGHTS, strict=True)])
    return _USCC_ALPHABET[-total % 31]


def resident_check_digit(body: str) -> str:
    """The 18th character for the first 17 digits (GB 11643-1999 section 4.2.4). ValueError for others."""
    if len(body) != 17 or not (body.isascii() and body.isdigit()):
        raise ValueError("expected 17 digits")
    total = sum([int(digit) * weight for digit, weight in zip(body, _RESIDENT_WEIGHTS, strict=True)])
    return _RESIDENT_CHECK[total % 11]


# Cc, Cf and Cs hide or reorder text; Zl and Zp break lines. Private use and unassigned stay: rare names need them.
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _kind(kind: str) -> Kind:
    try:
        return KINDS[kind]
    except KeyError:
        raise RecordRefused(
            "bad-identifier", f"an identifier's kind must be one of {', '.join(KINDS)}; use one of these"
        ) from None


def _fold(entry: Kind, value: str) -> str:
    if value.isascii():
        return entry.fold(value.upper())
    # one round is not always enough: upper case can leave NFKC, and NFKC can bring new lower case
    for _ in range(4):
        folded = entry.fold(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).upper()))
        if folded == value:
            break
        value = folded
    return value


def _refused(subject: str, complaint: str) -> RecordRefused:
    return RecordRefused("bad-identifier", f"{subject} {complaint}")


def _drop_separators(text: str) -> str:
    return text.translate(_SEPARATORS)


def _drop_spaces(text: str) -> str:
    return text.replace(" ", "")


def _collapse_spaces(text: str) -> str:
    # not str.split(): that would swallow line breaks and control characters, which must be refused
    return re.sub(" +", " ", text).strip(" ")


def _fold_name(text: str) -> str:
    # the dot inside names from minority languages is typed in many ways
    return _collapse_spaces(text.translate(_NAME_DOTS))


def _check_uscc(text: str) -> None:
    if not _USCC_SHAPE.fullmatch(text):
        raise ValueError("is not 18 characters of the form that GB 32100 gives; copy it again from the licence")
    if uscc_check_digit(text[:17]) != text[17]:
        raise ValueError("has a wrong check digit; copy it again from the licence")


def _check_resident_id(text: str) -> None:
    if not _RESIDENT_SHAPE.fullmatch(text):
        raise ValueError("is not 17 digits and a digit or X; copy it again from the identity card")
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        raise ValueError("has a date of birth that does not exist; copy it again from the identity card") from None
    if resident_check_digit(text[:17]) != text[17]:
        raise ValueError("has a wrong check digit; copy it again from the identity card")


def _check_plate(text: str) -> None:
    if not _PLATE_SHAPE.fullmatch(text):
        raise ValueError("is not a plate of the forms in GA 36; compare it with the picture")


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "uscc": Kind(_drop_separators, _check_uscc),
        "resident-id": Kind(_drop_separators, _check_resident_id),
        "plate": Kind(_drop_separators, _check_plate),
        "licence": Kind(_drop_spaces),
        "permit": Kind(_drop_spaces),
        "address": Kind(_collapse_spaces),
        "name": Kind(_fold_name),
    }
)
