// Why the recipe refuses: ledger/verify/refusals.py. The sentences come from there (texts.js is made from it).

import { CaseFileInvalid } from "./casefile_invalid.js";
import { ERRORS, Malformed } from "./errors.js";
import { clean } from "./text.js";
import { CASE_REASONS, CODES, FORMATS, REASONS } from "./texts.js";
import { fill } from "./words.js";

const WITH_NOTE = ["malformed", "trust-refused"];

// The error for `reason`, a key of the table, ready to be thrown.
export function refusal(reason, values = {}) {
    const { code, en } = REASONS[reason];
    const error = new ERRORS[code](fill(en, "en", values));
    error.reason = reason;
    error.values = values;
    return error;
}

// A sentence or two, with the technical note where there is one.
export function explain(error, lang) {
    const [sentence, note] = explained(error, lang);
    return note === null ? sentence : `${sentence}${lang === "en" ? " " : ""}${note}`;
}

// [the sentence, the technical note or null]
export function explained(error, lang) {
    if (error instanceof CaseFileInvalid) {
        return [CASE_REASONS[error.reason][lang], null];
    }
    if (error.reason !== null) {
        return [fill(REASONS[error.reason][lang], lang, error.values), null];
    }
    if (!Object.hasOwn(CODES, error.code)) {
        return [error.message, null];
    }
    const what = error instanceof Malformed ? (FORMATS[error.what]?.[lang] ?? error.what) : "";
    const sentence = CODES[error.code][lang].replace("{what}", () => what);
    if (!WITH_NOTE.includes(error.code)) {
        return [sentence, null];
    }
    const note = clean(error.message);
    return [sentence, lang === "en" ? `Technical note: ${note}` : `技术说明（英文）：${note}`];
}
