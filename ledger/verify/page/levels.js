// What a case file shows at each level, in sentences: ledger/verify/levels.py.

import { inOtherHands, rowText } from "./control.js";
import { joined, sentence } from "./sentences.js";
import { byCodePoints } from "./text.js";
import { Duration, Moment, Span } from "./words.js";

const GAPS = [
    "not-truth",
    "not-persons",
    "not-key-alone",
    "case-not-complete",
    "case-not-index",
    "not-trust",
    "not-weight",
];
const CAPTURED = ["evidence", "derived"];
const SAY = { integrity, authorship, inclusion, completeness, witnesses, chain, time, credibility };

// The sentences of one level; at least one.
export function sayLevel(facts, level, lang) {
    const count = facts.counts.get(level);
    const lines = SAY[level](facts, count, lang);
    return count.bad > 0 && level !== "integrity" ? [...lines, sentence("case-bad", lang, { bad: count.bad })] : lines;
}

// What no case file proves.
export function neverProven(lang) {
    return GAPS.map((name) => sentence(name, lang));
}

function integrity({ files, trustSame, amended, items }, { bad }, lang) {
    const whole = bad > 0 ? sentence("case-integrity-bad", lang, { bad }) : sentence("case-integrity", lang, { files });
    const naming = items.filter(({ verified, item }) => verified && item.amends !== null).length;
    const elsewhere = naming - [...amended.values()].flat().length;
    return [
        whole,
        ...(amended.size > 0 ? [sentence("case-amended", lang, { count: amended.size })] : []),
        ...(elsewhere > 0 ? [sentence("case-amends-elsewhere", lang, { count: elsewhere })] : []),
        sentence(trustSame ? "case-trust-same" : "case-trust-other", lang),
    ];
}

function authorship({ department, key, signedAt, items }, _, lang) {
    const lines = [sentence("case-not-signed", lang, { department })];
    if (key !== null) {
        const validity = new Span(key.validFrom, key.validTo);
        lines[0] = sentence("case-signed", lang, { department, validity, time: new Moment(signedAt) });
    }
    if (items.length > 0) {
        const good = items.filter(({ verified }) => verified).length;
        lines.push(sentence("case-authors", lang, { good, total: items.length }));
    }
    return lines;
}

function inclusion({ items }, { good, absent }, lang) {
    const lines = [sentence("case-logged", lang, { good, total: items.length })];
    return absent > 0 ? [...lines, sentence("case-unlogged", lang, { absent })] : lines;
}

function completeness({ decisions, items }, { absent, applies }, lang) {
    const lines = [];
    for (const { decision, found, missing } of decisions) {
        const { n, count } = decision;
        lines.push(sentence("case-frozen", lang, { n, count, found }));
        if (missing > 0) {
            lines.push(sentence("case-frozen-missing", lang, { n, missing }));
        }
    }
    if (decisions.length > 0) {
        const before = items.filter(({ item }) => item.before_decision === true).length;
        lines.push(sentence("case-before", lang, { n: decisions[0].decision.n, before, after: items.length - before }));
    }
    if (absent > 0) {
        lines.push(sentence("case-decision-open", lang, { absent }));
    }
    if (!applies) {
        lines.push(sentence("case-no-decision", lang));
    }
    return [...lines, sentence("case-not-complete", lang)];
}

function witnesses({ witnesses: confirmed, department, control }, { absent }, lang) {
    const lines = [];
    for (const [operator, { count, first, names }] of inOrder(confirmed)) {
        const apart = inOtherHands(operator, department);
        const said = { operator, count, names: joined([...names].sort(byCodePoints), lang), time: new Moment(first) };
        lines.push(sentence(apart === false ? "case-witness-same" : "case-witness", lang, said));
        if (apart === null) {
            lines.push(sentence("case-witness-unknown", lang, { operator }));
        }
    }
    if (absent > 0 || confirmed.size === 0) {
        lines.push(sentence("case-unwitnessed", lang, { absent }));
    }
    const rows = control.get(department.id) ?? [];
    const own = rows.filter(({ part, apart }) => ["node", "keys", "time"].includes(part) || apart === false);
    if (own.length > 0) {
        const parts = joined([...new Set(own.map((row) => rowText(row, lang)[0]))], lang);
        lines.push(sentence("case-control", lang, { department, parts }));
    }
    return lines;
}

function chain({ items, engine }, { good, absent }, lang) {
    const times = items.map(({ anchoredAt }) => anchoredAt).filter((found) => found !== null);
    const lines = [];
    if (times.length > 0) {
        const [first, last] = [least(times), most(times)].map((found) => new Moment(found));
        lines.push(sentence("case-on-chain", lang, { good, total: items.length, first, last }));
    }
    if (absent > 0 || times.length === 0) {
        lines.push(sentence("case-off-chain", lang, { absent }));
    }
    return engine === "embedded" ? [...lines, sentence("case-embedded", lang)] : lines;
}

function time({ stamps, authorities }, { absent }, lang) {
    const lines = inOrder(stamps).map(([authority, { count, first, until }]) => {
        return sentence("case-stamped", lang, { authority, count, time: new Moment(first), until: new Moment(until) });
    });
    if (absent > 0 || stamps.size === 0) {
        lines.push(sentence("case-unstamped", lang, { absent }));
    }
    return authorities ? lines : [...lines, sentence("case-no-authorities", lang)];
}

function credibility({ items, department }, count, lang) {
    if (!count.applies) {
        return [sentence("case-no-evidence", lang)];
    }
    const captured = items.filter(isCaptured);
    const lines = captured.length > 0 ? capturedLines(captured, count, lang) : [];
    if (count.absent > 0) {
        lines.push(sentence("case-uncaptured", lang, { absent: count.absent }));
    }
    const seals = captured.map(sealDelay).filter((delay) => delay !== null);
    if (seals.some((delay) => delay >= 0)) {
        lines.push(sentence("case-delay-seal", lang, { delay: new Duration(most(seals)) }));
    }
    const wrong = seals.filter((delay) => delay < 0).length;
    if (wrong > 0) {
        lines.push(sentence("case-order", lang, { count: wrong }));
    }
    const seen = items
        .filter(({ seenAt, item }) => seenAt !== null && seenAt >= item.sealed_at)
        .map(({ seenAt, item }) => BigInt(seenAt) - BigInt(item.sealed_at));
    if (seen.length > 0) {
        lines.push(sentence("case-delay-seen", lang, { delay: new Duration(most(seen)) }));
    }
    const who = department.operator;
    return [...lines, who === null ? sentence("case-storage-unknown", lang) : sentence("case-storage", lang, { who })];
}

function capturedLines(captured, { good, absent }, lang) {
    const said = captured.map(({ capture }) => capture);
    const devices = new Set(said.map(({ device }) => device)).size;
    const operators = new Set(said.map(({ operator }) => operator).filter((name) => name !== null)).size;
    const lines = [sentence("case-captured", lang, { good, total: good + absent, devices, operators })];
    const offsets = said.filter(({ offsetMs }) => offsetMs !== null).map(({ offsetMs }) => Math.abs(offsetMs));
    if (offsets.length > 0) {
        lines.push(sentence("case-clock", lang, { count: offsets.length, offset: most(offsets) }));
    }
    if (offsets.length < said.length) {
        lines.push(sentence("case-clock-unknown", lang, { count: said.length - offsets.length }));
    }
    return lines;
}

// Whether it is a piece of evidence whose record says how it was made.
function isCaptured({ verified, item, capture }) {
    return verified && CAPTURED.includes(item.role) && capture !== null;
}

// Seconds from capture to sealing; negative where the clocks contradict, null where nothing is said.
function sealDelay({ capture, item }) {
    return capture === null || capture.capturedAt === null ? null : item.sealed_at - capture.capturedAt;
}

function inOrder(table) {
    return [...table].sort(([one], [two]) => byCodePoints(one, two));
}

function least(values) {
    return values.reduce((found, value) => (value < found ? value : found));
}

function most(values) {
    return values.reduce((found, value) => (value > found ? value : found));
}
