// Who controls what, as the trust file says it: ledger/verify/control.py.

import { APART, HANDS, PARTS } from "./texts.js";
import { fill, say } from "./words.js";

// The rows for one record: {part, hands, values, apart}.
export function control(facts) {
    const { department, logged } = facts;
    // a department's keys and clock are those of its node, unless the trust file leaves open whose node it is
    const own = department.operator === null ? null : false;
    const cosigned = logged?.cosigned ?? [];
    return [
        named("node", department.operator, null),
        { part: "keys", hands: "named", values: { who: department }, apart: own },
        ...witnessRows(cosigned, department),
        chainRow(facts),
        { part: "time", hands: "clock", values: { who: department }, apart: own },
        seenRow(cosigned, logged, department, own),
    ];
}

// Whether `operator`, of a witness, is another than who keeps the department's log; null where nobody says who.
export function inOtherHands(operator, department) {
    // a chain's registry has the names of a department in one text
    const names = [...department.name.values(), ["zh", "en"].map((lang) => department.name.get(lang)).join(" | ")];
    if (names.some((name) => folded(name) === folded(operator))) {
        return false;
    }
    return department.operator === null ? null : folded(operator) !== folded(department.operator);
}

// Those of the operators, each once, whom nothing shows to be who keeps the department's log: a set.
export function outsideHands(operators, department) {
    return new Set(operators.filter((operator) => inOtherHands(operator, department) !== false).map(folded));
}

// The same for names that a reader takes for the same.
function folded(name) {
    return name.normalize("NFKC").toLowerCase().split(/\s+/).filter((word) => word !== "").join(" ");
}

// The row for programs.
export function rowMembers(row, lang) {
    const name = row.values.name === undefined ? null : say(row.values.name, lang);
    return { part: row.part, name, controller: handsText(row, lang), independent: row.apart };
}

// The row for people: [the part, whose hands it is in].
export function rowText(row, lang) {
    const silent = row.part === "node" || row.hands === "nobody";
    const word = silent ? "none" : row.apart === null ? "unknown" : row.apart ? "apart" : "same";
    return [fill(PARTS[row.part][lang], lang, row.values), handsText(row, lang) + APART[word][lang]];
}

function handsText(row, lang) {
    return fill(HANDS[row.hands][lang], lang, row.values);
}

function witnessRows(cosigned, department) {
    const operators = [...new Set(cosigned.map((witness) => witness.operator))];
    return operators.map((operator) => {
        const names = cosigned.filter((witness) => witness.operator === operator).map((witness) => witness.name);
        const values = { name: names.join(" / "), who: operator };
        return { part: "witness", hands: "named", values, apart: inOtherHands(operator, department) };
    });
}

function seenRow(cosigned, logged, department, own) {
    const others = cosigned.map((w) => w.operator).filter((operator) => inOtherHands(operator, department));
    if (others.length > 0) {
        return { part: "seen", hands: "clocks", values: { who: [...new Set(others)].join(" / ") }, apart: true };
    }
    if (logged !== null && logged.onChain !== null) {
        return { part: "seen", hands: "validators-clocks", values: {}, apart: null };
    }
    if (logged !== null && logged.times.length > 0) {
        const who = [...new Set(logged.times.map(({ authority }) => authority))].join(" / ");
        return { part: "seen", hands: "authorities-clocks", values: { who }, apart: null };
    }
    return { part: "seen", hands: "nobody", values: {}, apart: own };
}

function chainRow({ engine, department, validators }) {
    if (engine === "embedded") {
        return named("chain", department.operator, false);
    }
    if (!validators.threshold) {
        return named("chain", null, null);
    }
    const values = { count: validators.addresses.length, threshold: validators.threshold };
    return { part: "chain", hands: "validators", values, apart: null };
}

function named(part, who, apart) {
    return who === null
        ? { part, hands: "unnamed", values: {}, apart: null }
        : { part, hands: "named", values: { who }, apart };
}
