// What is proven and what is not: ledger/verify/sentences.py, whose sentences texts.js holds.

import { inOtherHands, outsideHands } from "./control.js";
import { SENTENCES } from "./texts.js";
import { Duration, Moment, Span, fill } from "./words.js";

const ALWAYS_OPEN = ["not-persons", "not-key-alone", "not-current", "not-trust", "not-weight"];

export function sentence(name, lang, values = {}) {
    return fill(SENTENCES[name][lang], lang, values);
}

// What the facts prove. `handedIn`: [file name, the attachment that it was verified to be].
export function proven(facts, handedIn, lang) {
    const { department, units, masked, key, logged } = facts;
    const total = units.length + masked;
    const lines = [sentence(units.length > 0 ? "content" : "content-none", lang, { department })];
    if (units.length > 0 && masked > 0) {
        const names = joined(units.map((unit) => unit.name), lang);
        lines.push(sentence("units-some", lang, { total, shown: units.length, names }));
    } else if (units.length > 0) {
        lines.push(sentence("units-all", lang, { total }));
    }
    for (const [file, { name, size, sha256 }] of handedIn) {
        lines.push(sentence("attachment", lang, { file, name, size, sha256 }));
    }
    lines.push(sentence("signed", lang, { department, validity: new Span(key.validFrom, key.validTo) }));
    return logged === null ? lines : [...lines, ...loggedLines(facts, logged, lang)];
}

function loggedLines({ department }, logged, lang) {
    const { origin, size, quorum, cosigned, onChain, times } = logged;
    const lines = [sentence("logged", lang, { department, origin, position: logged.index + 1n, size })];
    for (const [operator, found] of byOperator(cosigned)) {
        if (inOtherHands(operator, department) !== false) {
            const time = new Moment(smallest(found.map((witness) => witness.time)));
            lines.push(sentence("cosigned", lang, { witness: namesOf(found, lang), operator, time }));
        }
    }
    if (quorum) {
        const hands = outsideHands(cosigned.map((witness) => witness.operator), department);
        lines.push(sentence("quorum", lang, { quorum, found: hands.size }));
    }
    const chained = onChain === null ? [] : onChainLines(onChain, lang);
    return [...lines, ...chained, ...times.flatMap((stamped) => stampedLines(stamped, lang))];
}

function stampedLines({ authority, time, renewed }, lang) {
    const line = sentence("stamped", lang, { authority, time: new Moment(time) });
    const last = renewed[renewed.length - 1];
    const again = { count: renewed.length, last: new Moment(last ?? 0) };
    return last === undefined ? [line] : [line, sentence("stamp-renewed", lang, again)];
}

function byOperator(cosigned) {
    const found = new Map();
    for (const witness of cosigned) {
        found.set(witness.operator, [...(found.get(witness.operator) ?? []), witness]);
    }
    return found;
}

function namesOf(cosigned, lang) {
    return joined(cosigned.map((witness) => witness.name), lang);
}

export function joined(texts, lang) {
    return texts.join(lang === "zh" ? "、" : ", ");
}

function smallest(times) {
    return times.reduce((least, time) => (least === null || time < least ? time : least), null);
}

// The earliest time confirmed by a witness that is not in the hands of the log's keeper, by the chain, or by a
// time-stamping authority.
export function seenByOthers({ logged, department }) {
    if (logged === null) {
        return null;
    }
    const others = logged.cosigned.filter((witness) => inOtherHands(witness.operator, department) !== false);
    const onChain = logged.onChain === null ? [] : [logged.onChain.time];
    return smallest([...others.map((witness) => witness.time), ...onChain, ...logged.times.map(({ time }) => time)]);
}

function onChainLines(onChain, lang) {
    const form = (address, name) => (lang === "zh" ? `${name}（${address}）` : `${name} (${address})`);
    const sealers = onChain.sealedBy.map(({ address, name }) => (name === "" ? address : form(address, name)));
    const values = {
        contract: onChain.contract,
        block: String(onChain.blockNumber),
        transaction: onChain.transaction,
        sealers: joined(sealers, lang),
        found: sealers.length,
        total: onChain.validators,
        threshold: onChain.threshold,
    };
    return [
        sentence("on-chain", lang, values),
        sentence("on-chain-time", lang, { time: new Moment(onChain.time) }),
        sentence("on-chain-once", lang),
    ];
}

// What the facts leave open; never empty.
export function notProven(facts, handedIn, lang) {
    const { units, masked, attachments } = facts;
    const matched = handedIn.map(([, attachment]) => attachment);
    const lines = [sentence("not-truth", lang)];
    if (masked > 0) {
        lines.push(sentence("not-masked", lang, { masked, total: units.length + masked }));
    }
    for (const attachment of attachments) {
        if (!matched.some((other) => sameAttachment(other, attachment))) {
            const { name, size, sha256 } = attachment;
            lines.push(sentence("not-handed-in", lang, { name, size, sha256 }));
        }
    }
    const last = ALWAYS_OPEN.map((name) => sentence(name, lang));
    return [...lines, ...timeLines(facts, lang), ...logLines(facts, lang), ...last];
}

export function sameAttachment(a, b) {
    return ["unit", "name", "mediaType", "size", "sha256"].every((member) => a[member] === b[member]);
}

function timeLines(facts, lang) {
    const lines = [];
    const time = new Moment(facts.sealedAt);
    const seen = seenByOthers(facts);
    if (seen === null) {
        lines.push(sentence("not-time", lang, { time }), sentence("not-since", lang));
    } else if (seen < time.seconds) {
        lines.push(sentence("not-time-contradicted", lang, { time, seen: new Moment(seen) }));
    } else {
        lines.push(sentence("not-time-later", lang, { time, delay: new Duration(seen - time.seconds) }));
    }
    return [...lines, ...endedLines(facts, seen, lang), stampsLine(facts.logged?.times ?? [], lang)];
}

function stampsLine(times, lang) {
    if (times.length === 0) {
        return sentence("not-timestamp", lang);
    }
    const until = times.map(({ goodUntil }) => goodUntil).reduce((most, time) => (time > most ? time : most));
    return sentence("not-authority", lang, { until: new Moment(until) });
}

function endedLines({ key, logged }, seen, lang) {
    const lines = [];
    if (key.validTo !== null) {
        const ended = new Moment(key.validTo);
        if (seen === null) {
            lines.push(sentence("not-key-ended-unseen", lang, { ended }));
        } else if (seen >= ended.seconds) {
            lines.push(sentence("not-key-ended", lang, { ended, seen: new Moment(seen) }));
        }
    }
    const logEnded = logged?.logKeyEnded ?? null;
    if (logEnded !== null && (seen === null || seen >= logEnded)) {
        lines.push(sentence("not-log-key-ended", lang, { ended: new Moment(logEnded) }));
    }
    return lines;
}

function logLines(facts, lang) {
    const { logged } = facts;
    if (logged === null) {
        return [sentence("not-logged", lang)];
    }
    const lines = witnessLines(facts, logged, lang);
    if (logged.onChain !== null) {
        return [...lines, sentence("not-chain-independent", lang)];
    }
    return [...lines, anchorLine(facts, logged.anchor, lang)];
}

function witnessLines({ department }, { cosigned, onChain }, lang) {
    if (cosigned.length === 0) {
        return onChain === null ? [sentence("not-one-log", lang)] : [];
    }
    const lines = [sentence("not-independent", lang)];
    for (const [operator, found] of byOperator(cosigned)) {
        if (inOtherHands(operator, department) === false) {
            lines.push(sentence("not-independent-same", lang, { witness: namesOf(found, lang), operator }));
        }
    }
    return lines;
}

function anchorLine({ engine }, anchor, lang) {
    if (anchor === null) {
        return sentence("not-anchored", lang);
    }
    const [block, chain] = ["block_number", "chain_id"].map((name) => String(anchor.get(name)));
    const where = { block, chain, time: new Moment(anchor.get("time")) };
    if (engine === "embedded") {
        return sentence("not-anchor-embedded", lang, where);
    }
    return sentence("not-anchor-asked", lang, { transaction: anchor.get("transaction"), ...where });
}
