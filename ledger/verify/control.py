"""Who controls what: the parts that a proof stands on, in whose hands each of them is, and whether these are the hands
that keep the department's log. As the trust file says it: nobody proved who operates what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ledger.formats.texts import folded
from ledger.formats.trust import Department
from ledger.verify.facts import Facts
from ledger.verify.words import Value, fill, say

_PARTS = {
    "node": {"en": "Log and storage", "zh": "日志与存储"},
    "keys": {"en": "Signing keys", "zh": "签署密钥"},
    "witness": {"en": "Witness {name}", "zh": "见证方“{name}”"},
    "chain": {"en": "Blockchain", "zh": "区块链"},
    "time": {"en": "Time of sealing", "zh": "存证时间"},
    "seen": {"en": "Time confirmed", "zh": "确认时间"},
}
_HANDS = {
    "named": {"en": "{who}", "zh": "{who}"},
    "unnamed": {"en": "not said in the trust file", "zh": "信任文件未载明"},
    "validators": {
        "en": "{count} validators, of which {threshold} must agree",
        "zh": "{count}个验证节点，须有{threshold}个同意",
    },
    "clock": {"en": "the clock of {who}", "zh": "{who}的时钟"},
    "clocks": {"en": "the clocks of: {who}", "zh": "下列单位的时钟：{who}"},
    "validators-clocks": {"en": "the clocks of the validators that sealed", "zh": "签署区块的验证节点的时钟"},
    "authorities-clocks": {
        "en": "the clocks of the time-stamping authorities: {who}",
        "zh": "下列时间戳服务机构的时钟：{who}",
    },
    "nobody": {"en": "by nobody", "zh": "无"},
}
_APART = {
    "apart": {"en": " (in other hands than the log)", "zh": "（与日志分属不同单位）"},
    "same": {"en": " (in the same hands as the log)", "zh": "（与日志同属一个单位）"},
    "unknown": {"en": " (whether in other hands than the log is not known)", "zh": "（与日志是否分属不同单位，未知）"},
    "none": {"en": "", "zh": ""},
}


@dataclass(frozen=True, slots=True)
class Control:
    """One row. `part` and `hands` are keys of this module's tables with `values`; `apart`: in other hands than the
    node that keeps the log (None: not known, or the node itself)."""

    part: str
    hands: str
    values: dict[str, Value]
    apart: bool | None

    def members(self, lang: str) -> dict[str, Any]:
        """The row for programs: `part` is stable, `name` and `controller` are texts."""
        name = say(self.values["name"], lang) if "name" in self.values else None
        return {"part": self.part, "name": name, "controller": self._hands(lang), "independent": self.apart}

    def text(self, lang: str) -> tuple[str, str]:
        """The row for people: the part, and whose hands it is in."""
        word = (
            "none"
            if self.part == "node" or self.hands == "nobody"
            else {True: "apart", False: "same", None: "unknown"}[self.apart]
        )
        return fill(_PARTS[self.part][lang], lang, self.values), self._hands(lang) + _APART[word][lang]

    def _hands(self, lang: str) -> str:
        return fill(_HANDS[self.hands][lang], lang, self.values)


def control(facts: Facts) -> tuple[Control, ...]:
    """The table for one record: node, keys, witnesses that signed, chain, time."""
    return tuple(_rows(facts))


def in_other_hands(operator: str, department: Department) -> bool | None:
    """Whether `operator`, of a witness, is another than who keeps the department's log; None where nobody says who."""
    # a chain's registry has the names of a department in one text
    names = (*department.name.values(), " | ".join(department.name[lang] for lang in ("zh", "en")))
    if folded(operator) in map(folded, names):
        return False
    return None if department.operator is None else folded(operator) != folded(department.operator)


def outside_hands(operators: Iterable[str], department: Department) -> set[str]:
    """Those of the operators, each once, whom nothing shows to be who keeps the department's log."""
    return {folded(operator) for operator in operators if in_other_hands(operator, department) is not False}


def _rows(facts: Facts) -> Iterator[Control]:
    department, logged = facts.department, facts.logged
    # a department's keys and clock are those of its node, unless the trust file leaves open whose node it is
    own = None if department.operator is None else False
    yield _named("node", department.operator, None)
    yield Control("keys", "named", {"who": department}, own)
    cosigned = logged.cosigned if logged is not None else ()
    for operator in dict.fromkeys(witness.operator for witness in cosigned):
        names = " / ".join(witness.name for witness in cosigned if witness.operator == operator)
        yield Control("witness", "named", {"name": names, "who": operator}, in_other_hands(operator, department))
    yield _chain(facts)
    yield Control("time", "clock", {"who": department}, own)
    others = dict.fromkeys(w.operator for w in cosigned if in_other_hands(w.operator, department))
    if others:
        yield Control("seen", "clocks", {"who": " / ".join(others)}, True)
    elif logged is not None and logged.on_chain is not None:
        yield Control("seen", "validators-clocks", {}, None)
    elif logged is not None and logged.times:
        authorities = dict.fromkeys(stamped.authority for stamped in logged.times)
        yield Control("seen", "authorities-clocks", {"who": " / ".join(authorities)}, None)
    else:
        yield Control("seen", "nobody", {}, own)


def _chain(facts: Facts) -> Control:
    if facts.engine == "embedded":
        return _named("chain", facts.department.operator, False)
    validators = facts.validators
    if not validators.threshold:
        return _named("chain", None, None)
    values: dict[str, Value] = {"count": len(validators.addresses), "threshold": validators.threshold}
    return Control("chain", "validators", values, None)


def _named(part: str, who: str | None, apart: bool | None) -> Control:
    return Control(part, "unnamed", {}, None) if who is None else Control(part, "named", {"who": who}, apart)
