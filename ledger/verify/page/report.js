// The verifier's answer for programs, in the shape of ledger/verify/report.py, and its sentences for people.

import { caseMembers, caseNotProven, caseProven, findingMembers } from "./case_report.js";
import { control, rowMembers } from "./control.js";
import { explain } from "./refusals.js";
import { notProven, proven, sameAttachment, sentence } from "./sentences.js";
import { Float } from "./strictjson.js";
import { clean, isObject, toHex } from "./text.js";

// A report is {trust: {file, sha256, consortium} or null, findings, error or null}.
export function verdictOf({ findings, error }) {
    if (error !== null) {
        return error.exitCode === 1 ? "bad" : "could-not-run";
    }
    return findings.length === 0 || findings.some((finding) => finding.error !== null) ? "bad" : "good";
}

// JSON text, as `--json` prints it.
export function toJson(report, lang) {
    return dumps({
        verdict: verdictOf(report),
        error: errorMembers(report.error, lang),
        trust: report.trust,
        files: report.findings.map((finding) => fileMembers(finding, lang)),
    });
}

export function provenBy(finding, lang) {
    const { facts, attachment, attachments, given, caseFile } = finding;
    if (caseFile !== null) {
        return caseProven(caseFile, lang);
    }
    if (facts === null) {
        return [];
    }
    if (given.kind === "record") {
        return proven(facts, attachments, lang);
    }
    if (["evidence", "time", "renewals"].includes(given.kind)) {
        return [sentence(`${given.kind}-of`, lang, { record: facts.recordId })];
    }
    if (attachment === null) {
        return [sentence("receipt-of", lang, { record: facts.recordId })];
    }
    return [sentence("attachment-of", lang, { name: attachment.name, record: facts.recordId })];
}

export function notProvenBy({ facts, attachments, given, caseFile }, lang) {
    if ((caseFile?.facts ?? null) !== null) {
        return caseNotProven(caseFile, lang);
    }
    if (facts === null) {
        return [sentence("not-anything", lang)];
    }
    return given.kind === "record" ? notProven(facts, attachments, lang) : [sentence("not-see-record", lang)];
}

function fileMembers(finding, lang) {
    return {
        file: clean(finding.given.name),
        verdict: finding.error === null ? "good" : "bad",
        error: causeMembers(finding, lang),
        facts: factsMembers(finding, lang),
        proven: provenBy(finding, lang),
        not_proven: notProvenBy(finding, lang),
    };
}

function errorMembers(error, lang) {
    return error === null ? null : { code: error.code, message: explain(error, lang) };
}

function causeMembers({ error, caseFile }, lang) {
    const first = caseFile?.findings[0];
    return first === undefined ? errorMembers(error, lang) : findingMembers(first, lang);
}

function factsMembers({ facts, attachment, attachments, given, caseFile }, lang) {
    if (caseFile !== null) {
        return caseMembers(caseFile, lang);
    }
    if (facts === null) {
        return null;
    }
    if (attachment !== null) {
        return { kind: "attachment", record_id: facts.recordId, ...attachmentMembers(attachment) };
    }
    if (given.kind !== "record") {
        return { kind: given.kind, record_id: facts.recordId, log: loggedMembers(facts.logged) };
    }
    const { department, key } = facts;
    return {
        kind: "record",
        record_id: facts.recordId,
        type: facts.type,
        version: facts.version,
        references: facts.references,
        consortium: facts.consortium,
        department: { id: department.id, name: department.name },
        key: { kid: key.kid, valid_from: key.validFrom, valid_to: key.validTo },
        sealed_at: facts.sealedAt,
        units: facts.units,
        masked: facts.masked,
        attachments: facts.attachments.map((named) => ({
            ...attachmentMembers(named),
            files: attachments.filter(([, other]) => sameAttachment(other, named)).map(([name]) => clean(name)),
        })),
        engine: facts.engine,
        log: loggedMembers(facts.logged),
        control: control(facts).map((row) => rowMembers(row, lang)),
    };
}

function attachmentMembers({ unit, name, mediaType, size, sha256 }) {
    return { unit, name, media_type: mediaType, size, sha256 };
}

function loggedMembers(logged) {
    if (logged === null) {
        return null;
    }
    const { origin, index, size, root, cosigned, quorum, anchor, onChain, times } = logged;
    return {
        origin,
        index,
        size,
        root: toHex(root),
        cosigned,
        quorum,
        anchor,
        on_chain: onChain === null ? null : onChainMembers(onChain),
        times: times.map(timeMembers),
    };
}

function timeMembers({ authority, root, time, renewed, goodUntil }) {
    return { authority, root, time, renewed, good_until: goodUntil };
}

function onChainMembers(onChain) {
    return {
        contract: onChain.contract,
        block_number: onChain.blockNumber,
        block_hash: onChain.blockHash,
        time: onChain.time,
        transaction: onChain.transaction,
        sealed_by: onChain.sealedBy,
        threshold: onChain.threshold,
        validators: onChain.validators,
    };
}

// JSON.stringify knows neither Maps nor whole numbers beyond 2^53.
function dumps(value) {
    if (isObject(value)) {
        return `{${[...value].map(([name, member]) => `${JSON.stringify(name)}:${dumps(member)}`).join(",")}}`;
    }
    if (Array.isArray(value)) {
        return `[${value.map(dumps).join(",")}]`;
    }
    if (typeof value === "bigint") {
        return String(value);
    }
    if (value instanceof Float) {
        return JSON.stringify(value.value);
    }
    return value !== null && typeof value === "object"
        ? dumps(new Map(Object.entries(value)))
        : JSON.stringify(value);
}
