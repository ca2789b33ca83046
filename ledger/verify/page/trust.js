// The trust file, what a verifier must be told once: ledger/formats/trust.py. Times are seconds since 1970.

import { KeyRefused, Malformed, TrustRefused } from "./errors.js";
import { thumbprint, toPublicKey } from "./jwk.js";
import { COSIGNATURE_ED25519, ED25519, parseVerifierKey, sameKey } from "./note.js";
import { loadsObject } from "./strictjson.js";
import { head, isFlag, isList, isObject, isPrintable, isText, isWhole, lengthOf, repr, toHex } from "./text.js";

export const MAX_TRUST_BYTES = 4 * 1024 * 1024;

const WHAT = "trust file";
const ENGINES = ["embedded", "clique", "qbft"];
const LANGUAGES = ["zh", "en"];
const CONTRACTS = ["Consortium", "EvidenceLog"];
const KINDS = { statement: "Ed25519", encryption: "X25519", anchor: "secp256k1" };
const DEPARTMENT_ID = /^[a-z][a-z0-9-]{1,30}$/;
const EARLIER_LOG = /^EvidenceLog-[1-9][0-9]*$/;
const ADDRESS = /^0x[0-9a-fA-F]{40}$/;
const TIME = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z$/;

export class Department {
    constructor(members) {
        Object.assign(this, members);
        Object.freeze(this);
    }
}

export class Trust {
    #keys = new Map();

    constructor(members) {
        Object.assign(this, members);
        checkDepartments(this.departments);
        checkChain(this.chain);
        checkWitnesses(this.witnesses, this.quorum);
        checkSigners(this);
        for (const department of this.departments) {
            department.keys.forEach((key) => this.#keys.set(key.kid, [department, key]));
        }
        Object.freeze(this);
    }

    // the department with this id
    department(id) {
        const found = this.departments.find((department) => department.id === id);
        if (found === undefined) {
            const named = repr(head(id, 64));
            throw new TrustRefused(`The trust file names no department ${named}; use the one it belongs to.`);
        }
        return found;
    }

    // [the department, its statement key with this thumbprint]
    statementKey(kid) {
        const found = this.#keys.get(kid);
        if (found === undefined) {
            throw new KeyRefused(`the trust file has no key ${repr(head(kid, 64))}`);
        }
        if (found[1].use !== "statement") {
            throw new KeyRefused(`key ${kid} is registered for ${found[1].use}, not for signing statements`);
        }
        return found;
    }
}

export function parseTrust(data) {
    return trustOf(new Members(loadsObject(data, WHAT, MAX_TRUST_BYTES), "the file"));
}

export function isValidAt(key, time) {
    return key.validFrom <= time && (key.validTo === null || time < key.validTo);
}

// When an earlier key of the log ended; null for the present one.
export function endOf(log, vkey) {
    return log.earlier.find((earlier) => sameKey(earlier.key, vkey))?.validTo ?? null;
}

// The addresses, in lower case, that an anchor may stand at: the present EvidenceLog's first.
export function evidenceLogs(chain) {
    const named = [...chain.contracts];
    const present = named.filter(([name]) => name === "EvidenceLog");
    const earlier = named.filter(([name]) => EARLIER_LOG.test(name));
    return [...present, ...earlier].map(([, address]) => address.toLowerCase());
}

// --- parsing: every member is taken out once ---

class Members {
    constructor(value, where) {
        if (!isObject(value)) {
            throw new Malformed(WHAT, `${where} must be an object`);
        }
        this.rest = new Map(value);
        this.where = where;
    }

    take(name, isOfKind, says) {
        const value = this.pop(name);
        if (!isOfKind(value)) {
            throw new Malformed(WHAT, `${name} of ${this.where} must be ${says}`);
        }
        return value;
    }

    pop(name) {
        const value = this.rest.get(name) ?? null;
        this.rest.delete(name);
        return value;
    }

    text(name) {
        const value = this.take(name, isText, "a text");
        if (value === "" || lengthOf(value) > 500 || !isPrintable(value)) {
            throw new Malformed(WHAT, `${name} of ${this.where} must be 1 to 500 printable characters`);
        }
        return value;
    }

    number(name) {
        const value = this.take(name, isWhole, "a whole number");
        if (value < 0) {
            throw new Malformed(WHAT, `${name} of ${this.where} must not be negative`);
        }
        return value;
    }

    members(name) {
        return new Members(this.pop(name), `${name} of ${this.where}`);
    }

    each(name, build) {
        const values = this.take(name, isList, "a list");
        return values.map((value, n) => build(new Members(value, `entry ${n + 1} of ${name} of ${this.where}`)));
    }

    texts(name) {
        const values = this.take(name, isList, "a list");
        if (!values.every((value) => isText(value) && value !== "")) {
            throw new Malformed(WHAT, `${name} of ${this.where} must hold texts`);
        }
        return values;
    }
}

function trustOf(members) {
    return new Trust({
        consortium: members.text("consortium"),
        chain: chainOf(members.members("chain")),
        departments: members.each("departments", departmentOf),
        witnesses: members.each("witnesses", witnessOf),
        quorum: members.take("quorum", isWhole, "a whole number"),
        tsaRoots: pem(members.texts("tsa_roots")),
    });
}

function chainOf(members) {
    const engine = members.text("engine");
    if (!ENGINES.includes(engine)) {
        throw new Malformed(WHAT, `engine of the chain must be one of ${ENGINES.join(", ")}`);
    }
    const contracts = members.take("contracts", isObject, "an object");
    if (![...contracts.values()].every(isText)) {
        throw new Malformed(WHAT, "contracts of the chain must map names to addresses");
    }
    const validators = members.members("validators");
    return Object.freeze({
        id: members.number("id"),
        engine,
        contracts: new Map([...contracts].map(([name, address]) => [name, addressOf(address)])),
        validators: Object.freeze({
            threshold: validators.number("threshold"),
            addresses: validators.texts("addresses").map(addressOf),
            unknown: validators.rest,
        }),
    });
}

function departmentOf(members) {
    const id = members.text("id");
    if (!DEPARTMENT_ID.test(id)) {
        throw new Malformed(WHAT, `department id ${repr(head(id, 40))} must be 2 to 31 of a-z, 0-9 and -`);
    }
    const log = members.members("log");
    return new Department({
        id,
        name: namesOf(members.members("name")),
        log: logOf(log),
        keys: members.each("keys", keyOf),
        operator: members.rest.has("operator") ? members.text("operator") : null,
    });
}

function namesOf(members) {
    if (!LANGUAGES.every((language) => members.rest.has(language))) {
        throw new Malformed(WHAT, `${members.where} must have ${LANGUAGES.join(" and ")}`);
    }
    return new Map([...members.rest.keys()].map((language) => [language, members.text(language)]));
}

function logOf(members) {
    const origin = members.text("origin");
    const vkey = members.text("vkey");
    const earlier = members.rest.has("earlier") ? members.each("earlier", logKeyOf) : [];
    const key = parseVerifierKey(vkey);
    return Object.freeze({ origin, earlier, key, vkeys: [key, ...earlier.map((other) => other.key)] });
}

function logKeyOf(members) {
    const vkey = members.text("vkey");
    const validFrom = parseTime(members.text("valid_from"));
    const validTo = validToOf(members);
    return Object.freeze({ validFrom, validTo, key: parseVerifierKey(vkey) });
}

function keyOf(members) {
    const use = members.text("use");
    if (!Object.hasOwn(KINDS, use)) {
        throw new Malformed(WHAT, `use of ${members.where} must be one of ${Object.keys(KINDS).join(", ")}`);
    }
    const kid = members.text("kid");
    const jwk = members.take("jwk", isObject, "an object");
    const validFrom = parseTime(members.text("valid_from"));
    const validTo = validToOf(members);
    return Object.freeze({ kid, use, jwk, validFrom, validTo, public: toPublicKey(jwk) });
}

function validToOf(members) {
    if (!members.rest.has("valid_to")) {
        throw new Malformed(WHAT, `valid_to of ${members.where} must be a time or null`);
    }
    return members.rest.get("valid_to") === null ? null : parseTime(members.text("valid_to"));
}

function witnessOf(members) {
    const name = members.text("name");
    const vkey = members.text("vkey");
    const operator = members.text("operator");
    const required = members.take("required", isFlag, "true or false");
    const earlier = members.rest.has("earlier") ? members.each("earlier", logKeyOf) : [];
    return Object.freeze({ name, operator, required, earlier, key: parseVerifierKey(vkey) });
}

function addressOf(text) {
    if (!ADDRESS.test(text)) {
        throw new Malformed(WHAT, `${repr(head(text, 50))} is not an address of 0x and 40 hex digits`);
    }
    return text;
}

function pem(texts) {
    if (!texts.every((text) => text.startsWith("-----BEGIN CERTIFICATE-----"))) {
        throw new Malformed(WHAT, "tsa_roots must hold PEM certificates");
    }
    return texts;
}

function parseTime(text) {
    const found = TIME.exec(text);
    if (found === null) {
        throw new Malformed(WHAT, `${repr(head(text, 40))} is not a time like 2026-01-31T08:00:00Z`);
    }
    const [year, month, day, hour, minute, second] = found.slice(1).map(Number);
    const date = new Date(0);
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second);
    // a calendar that carries over would have changed a part
    if (year === 0 || date.toISOString().replace(".000Z", "Z") !== text) {
        throw new Malformed(WHAT, `${repr(text)} is not a time that exists`);
    }
    return date.getTime() / 1000;
}

// --- meaning: what a file must not leave open ---

function checkDepartments(departments) {
    if (departments.length === 0) {
        throw new TrustRefused("The trust file names no department, so nothing could ever be proven with it.");
    }
    refuseTwice(departments.map((d) => d.id), "department id");
    refuseTwice(departments.map((d) => d.log.origin), "log origin");
    refuseTwice(departments.flatMap((d) => d.keys.map((key) => key.kid)), "kid");
    departments.forEach(checkDepartment);
}

function checkDepartment({ id, log, keys }) {
    if (!keys.some((key) => key.use === "statement")) {
        throw new TrustRefused(`Department ${id} has no statement key, so nothing of it could be proven.`);
    }
    for (const vkey of log.vkeys) {
        if (vkey.name !== log.origin) {
            throw new TrustRefused(`A log key of department ${id} has another name than the log's origin.`);
        }
        if (vkey.type !== ED25519) {
            throw new TrustRefused(`A log key of department ${id} is not an Ed25519 note key.`);
        }
    }
    if (log.earlier.some(endsBeforeItBegins)) {
        throw new TrustRefused(`A log key of department ${id} ends before it begins.`);
    }
    keys.forEach((key) => checkKey(id, key));
}

function checkKey(id, key) {
    const kid = repr(head(key.kid, 64));
    if (key.public.kind !== KINDS[key.use]) {
        throw new TrustRefused(`Key ${kid} of department ${id} is no key for ${key.use}.`);
    }
    if (thumbprint(key.jwk) !== key.kid) {
        throw new TrustRefused(`The kid ${kid} of department ${id} is not the thumbprint of its key.`);
    }
    if (key.jwk.has("d")) {
        throw new TrustRefused(`Key ${key.kid} of department ${id} holds its secret part: revoke it at once.`);
    }
    if (endsBeforeItBegins(key)) {
        throw new TrustRefused(`Key ${key.kid} of department ${id} ends before it begins.`);
    }
}

function endsBeforeItBegins({ validFrom, validTo }) {
    return validTo !== null && validTo < validFrom;
}

function checkChain({ contracts, validators }) {
    for (const name of CONTRACTS) {
        if (!contracts.has(name)) {
            const message = `The trust file gives no address of the contract ${name}, so no anchor could be judged.`;
            throw new TrustRefused(message);
        }
    }
    const addresses = validators.addresses.map((address) => address.toLowerCase());
    refuseTwice(addresses, "validator");
    if (validators.threshold > addresses.length) {
        const named = `the ${addresses.length} validators named`;
        throw new TrustRefused(`The threshold of ${validators.threshold} is more than ${named}.`);
    }
}

function checkWitnesses(witnesses, quorum) {
    refuseTwice(witnesses.map((witness) => witness.name), "witness name");
    for (const witness of witnesses) {
        if (keysOf(witness).some(({ type }) => type !== COSIGNATURE_ED25519)) {
            throw new TrustRefused(`The key of witness ${witness.name} is not an Ed25519 cosignature key.`);
        }
        if (witness.earlier.some(endsBeforeItBegins)) {
            throw new TrustRefused(`A key of witness ${witness.name} ends before it begins.`);
        }
    }
    if (quorum < 0 || quorum > witnesses.length) {
        throw new TrustRefused(`A quorum of ${quorum} cannot be met by the ${witnesses.length} witnesses named.`);
    }
}

// one key under two names would let one signer count twice, or a department witness itself
function checkSigners({ departments, witnesses }) {
    const vkeys = [...departments.flatMap((d) => d.log.vkeys), ...witnesses.flatMap(keysOf)];
    const statements = departments.flatMap((d) => d.keys).filter((key) => key.public.kind === "Ed25519");
    const publics = [...vkeys.map((vkey) => vkey.public), ...statements.map((key) => key.public.public)];
    refuseTwice(publics.map(toHex), "signing key");
}

// a witness's keys, the present one first
function keysOf({ key, earlier }) {
    return [key, ...earlier.map((other) => other.key)];
}

function refuseTwice(values, what) {
    const seen = new Set();
    for (const value of values) {
        if (seen.has(value)) {
            const named = repr(head(value, 64));
            throw new TrustRefused(`The trust file names the ${what} ${named} twice, so it cannot say who is meant.`);
        }
        seen.add(value);
    }
}
