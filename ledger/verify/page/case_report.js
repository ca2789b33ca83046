// The answer about a case file for programs: ledger/verify/case_report.py.

import { LEVELS } from "./casefile.js";
import { rowMembers } from "./control.js";
import { Malformed } from "./errors.js";
import { neverProven, sayLevel } from "./levels.js";
import { explain } from "./refusals.js";
import { byCodePoints, clean } from "./text.js";
import { LABELS } from "./texts.js";
import { fill } from "./words.js";

// The member `facts` of a case file; null where nothing could be read.
export function caseMembers({ facts, findings, total }, lang) {
    if (facts === null) {
        return null;
    }
    const { case: contents, department, key, control } = facts;
    return {
        kind: "case-file",
        case: contents.case,
        department: { id: department.id, name: department.name },
        consortium: contents.consortium,
        exported_for: contents.exported_for,
        log_size: contents.log_size,
        signed_at: facts.signedAt,
        key: key === null ? null : { kid: key.kid, valid_from: key.validFrom, valid_to: key.validTo },
        files: facts.files,
        octets: facts.octets,
        trust_same: facts.trustSame,
        levels: LEVELS.map((level) => levelMembers(facts, level, lang)),
        items: facts.items.map((report) => itemMembers(facts, report, lang)),
        decisions: facts.decisions.map(({ decision, found, missing }) => {
            return { n: decision.n, count: decision.count, found, missing };
        }),
        gaps: contents.gaps,
        control: [...control]
            .sort(([one], [two]) => byCodePoints(one, two))
            .map(([id, rows]) => ({ department: id, rows: rows.map((row) => rowMembers(row, lang)) })),
        findings: findings.map((finding) => ({ level: finding.level, ...findingMembers(finding, lang) })),
        findings_total: total,
    };
}

// One finding. `message` says the place as well.
export function findingMembers(finding, lang) {
    const { error, path, item } = finding;
    return {
        code: error.code,
        message: sayFinding(finding, lang),
        reason: error instanceof Malformed ? null : error.reason,
        path: path === null ? null : clean(path),
        item,
    };
}

// The finding as a sentence that begins with its place: item number and file, where there are any.
export function sayFinding({ error, path, item }, lang) {
    const text = explain(error, lang);
    const place = [
        ...(item === null ? [] : [fill(LABELS.item[lang], lang, { n: item })]),
        ...(path === null ? [] : [clean(path)]),
    ];
    if (place.length === 0) {
        return text;
    }
    const said = { place: place.join(lang === "zh" ? "，" : ", "), text };
    return LABELS.place[lang].replace(/\{(\w+)\}/g, (_, name) => said[name]);
}

// The sentences of the levels that are good throughout.
export function caseProven({ facts }, lang) {
    const good = facts === null ? [] : LEVELS.filter((level) => facts.counts.get(level).state === "good");
    return good.flatMap((level) => sayLevel(facts, level, lang));
}

// The sentences of all other levels, and what no case file proves.
export function caseNotProven({ facts }, lang) {
    const open = LEVELS.filter((level) => facts.counts.get(level).state !== "good");
    return [...new Set([...open.flatMap((level) => sayLevel(facts, level, lang)), ...neverProven(lang)])];
}

function levelMembers(facts, level, lang) {
    const { state, good, bad, absent } = facts.counts.get(level);
    return { level, state, good, bad, absent, sentences: sayLevel(facts, level, lang) };
}

function itemMembers({ amended }, report, lang) {
    const { item, finding, capture, given } = report;
    return {
        n: item.n,
        record_id: item.record_id,
        role: item.role,
        type: item.type,
        department: item.department,
        name: clean(item.name),
        verdict: finding === null ? "good" : "bad",
        error: finding === null ? null : findingMembers(finding, lang),
        before_decision: item.before_decision,
        amends: item.amends,
        amended_by: amended.get(item.n) ?? [],
        sealed_at: item.sealed_at,
        logged: report.logged,
        witnessed: report.witnessed,
        seen_at: report.seenAt,
        anchored_at: report.anchoredAt,
        stamped_at: report.stampedAt,
        shown: report.units,
        masked: report.masked,
        attachments: { given, withheld: item.attachments.length - given },
        forgotten: item.forgotten,
        capture: capture === null ? null : captureMembers(capture),
    };
}

function captureMembers({ device, operator, offsetMs, capturedAt, sealedAt }) {
    return { device, operator, offset_ms: offsetMs, captured_at: capturedAt, sealed_at: sealedAt };
}
