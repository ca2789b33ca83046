// The errors of ledger/errors.py that a verifier can meet. `code` and `exitCode` are theirs.

export class YunxiError extends Error {
    static code = "error";
    static exitCode = 2;

    constructor(message) {
        super(message);
        // set where the recipe itself refuses: a key of the table of reasons, and the values of its sentence
        this.reason = null;
        this.values = null;
        // the number of the step of the recipe that refused; null where none did
        this.step = null;
    }

    get code() {
        return this.constructor.code;
    }

    get exitCode() {
        return this.constructor.exitCode;
    }
}

export class CouldNotRun extends YunxiError {
    static code = "could-not-run";
}

export class Refusal extends YunxiError {
    static code = "refused";
    static exitCode = 1;
}

export class Malformed extends Refusal {
    static code = "malformed";

    constructor(what, detail) {
        super(`${what}: ${detail}`);
        this.what = what;
    }
}

export class KeyRefused extends Refusal {
    static code = "key-refused";
}

export class NotProven extends Refusal {
    static code = "not-proven";
}

export class TrustRefused extends NotProven {
    static code = "trust-refused";
}

export class SignatureInvalid extends NotProven {
    static code = "signature-invalid";
}

export class DisclosureInvalid extends NotProven {
    static code = "disclosure-invalid";
}

export class InclusionInvalid extends NotProven {
    static code = "inclusion-invalid";
}

export class CheckpointInvalid extends NotProven {
    static code = "checkpoint-invalid";
}

export class AnchorInvalid extends NotProven {
    static code = "anchor-invalid";
}

export class TimestampInvalid extends NotProven {
    static code = "timestamp-invalid";
}

export const ERRORS = Object.fromEntries(
    [
        CouldNotRun,
        KeyRefused,
        NotProven,
        TrustRefused,
        SignatureInvalid,
        DisclosureInvalid,
        InclusionInvalid,
        CheckpointInvalid,
        AnchorInvalid,
        TimestampInvalid,
    ].map((kind) => [kind.code, kind]),
);

// What `work` gives; whatever it throws is marked as refused by step `number` of the recipe.
export async function inStep(number, work) {
    try {
        return await work();
    } catch (error) {
        throw marked(error, number);
    }
}

// The same for work that need not be waited for.
export function inStepNow(number, work) {
    try {
        return work();
    } catch (error) {
        throw marked(error, number);
    }
}

function marked(error, number) {
    if (error instanceof YunxiError) {
        error.step ??= number;
    }
    return error;
}
