"""The purposes that grants and inspections may name: `purposes.json`, code to its name in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from ledger.chain.sharing_grants import LONGEST_TERM
from ledger.errors import Malformed

_CODE = re.compile(r"[a-z][a-z0-9-]*")


@cache
def purposes() -> Mapping[str, Mapping[str, str]]:
    """Code to {"zh", "en"}, in the file's order. Raises Malformed where the file is not what it should be."""
    return check_purposes(json.loads((files("gateway") / "grants" / "purposes.json").read_text("utf-8")))


def check_purposes(listed: object) -> Mapping[str, Mapping[str, str]]:
    """The list, if a code fits into a grant on the chain and has both names. Raises Malformed."""
    if not isinstance(listed, dict) or not listed:
        raise Malformed("purposes.json", "must be an object of at least one purpose")
    for code, names in listed.items():
        if not _CODE.fullmatch(code) or len(code) > LONGEST_TERM:
            raise Malformed("purposes.json", f"{code[:40]!r} must be a-z, 0-9 and -, at most {LONGEST_TERM}")
        if not isinstance(names, dict) or set(names) != {"zh", "en"} or not all(map(_is_name, names.values())):
            raise Malformed("purposes.json", f"{code!r} must have a name under zh and one under en")
    return MappingProxyType(listed)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= 100
