"""The court's verifier as one HTML page that needs a browser, nothing else. Same sources, same bytes.

Its modules stand in ledger/verify/page/. The sentences are not written twice: `texts.js` is made here from the tables
of the Python verifier.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ledger.casefile import index_words
from ledger.formats import casefile
from ledger.paper.parts import Bilingual
from ledger.verify import control, refusals, report, sentences

TYPES = Path(__file__).resolve().parent / "types"
PAGE = Path(__file__).resolve().parent / "verify" / "page"
ENTRY = "page.js"
TEXTS = "texts.js"

_IMPORT = re.compile(r'^import \{\s*([^}]+?),?\s*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)

POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; media-src blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded, nothing is sent, and no other script than the page's own runs."""


def build_page(target: Path) -> Path:
    """Writes the page and returns where it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html_page(), encoding="utf-8", newline="\n")
    return target


def html_page() -> str:
    """The whole page."""
    script, style = bundled(ENTRY), _source("page.css")
    policy = POLICY.format(script=_hash(script), style=_hash(style))
    page = _source("page.html")
    for place, content in (("{{policy}}", policy), ("{{style}}", style), ("{{script}}", script)):
        if page.count(place) != 1:
            raise ValueError(f"page.html must have {place} once")
        # not str.format and not re.sub: both read signs of the content
        before, _, after = page.partition(place)
        page = before + content + after
    return page


def bundled(entry: str) -> str:
    """`entry` and the modules that it imports as one script: each a function of its own, called in order of need."""
    parts = [f'modules["{name}"] = {_function(source)};\n' for name, source in _in_order(entry)]
    return '"use strict";\nconst modules = {};\n' + "".join(parts)


def modules() -> dict[str, str]:
    """The text of every module by its file name, the generated one included."""
    found = {path.name: _source(path.name) for path in sorted(PAGE.glob("*.js"))}
    return found | {TEXTS: texts_module()}


def texts_module() -> str:
    """The tables of sentences of the Python verifier as a JavaScript module."""
    lines = [f"export const {name} = {_script_json(table)};\n" for name, table in _tables().items()]
    return "// Made from the tables of the Python verifier.\n\n" + "".join(lines)


def _tables() -> dict[str, Any]:
    reasons = {name: {"code": r.error.code, "en": r.en, "zh": r.zh} for name, r in refusals._REASONS.items()}
    return {
        "SENTENCES": sentences._SENTENCES,
        "REASONS": reasons,
        "CODES": refusals._BY_CODE,
        "CASE_REASONS": refusals._CASE,
        "FORMATS": refusals._FORMATS,
        "LABELS": report._LABELS,
        "PARTS": control._PARTS,
        "HANDS": control._HANDS,
        "APART": control._APART,
        "ROLES_OF_TYPES": casefile._ROLES,
        "EXTENSIONS": casefile._EXTENSIONS,
        "TYPES": _titles_of_types(),
        "INDEX_WORDS": {name: asdict(word) for name, word in vars(index_words).items() if isinstance(word, Bilingual)},
    }


def _titles_of_types() -> dict[str, Any]:
    """What record types and their units are called: the page says it where the command shows the names alone."""
    found = {}
    for path in sorted(TYPES.glob("*.v*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = {"title": schema["x-title"], "units": schema["x-unit-titles"]}
    return found


def _script_json(value: Any) -> str:
    # no text may end the script that it stands in
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).replace("<", "\\u003c")


def _in_order(entry: str) -> list[tuple[str, str]]:
    """(name, source), every module after those that it imports. Raises ValueError for a circle."""
    sources, done, order = modules(), set[str](), list[tuple[str, str]]()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"modules import one another in a circle: {' '.join((*above, name))}")
        if name in done:
            return
        for _, needed in _IMPORT.findall(sources[name]):
            visit(needed, (*above, name))
        done.add(name)
        order.append((name, sources[name]))

    visit(entry, ())
    return order


def _function(source: str) -> str:
    """A module as an expression: a function that is called at once and gives what the module exports."""
    exported = [name for _, name in _EXPORT.findall(source)]
    body = _IMPORT.sub(_destructured, _EXPORT.sub(r"\1 \2", source))
    if re.search(r"^(?:import|export)\b", body, re.MULTILINE) or "</script" in body:
        raise ValueError("a module has an import or export of a form that the build does not know")
    return f"(() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})()"


def _destructured(found: re.Match[str]) -> str:
    names = re.sub(r"\b(\w+) as (\w+)\b", r"\1: \2", " ".join(found[1].split()))
    return f'const {{ {names} }} = modules["{found[2]}"];\n'


def _source(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
