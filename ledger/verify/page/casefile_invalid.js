// A case file that is not what its department signed, or not made as case files are: ledger/errors.py.

import { NotProven } from "./errors.js";
import { asciiRepr, head } from "./text.js";

// `reason` is a stable code; `path` is the file inside, null for the case file itself.
export class CaseFileInvalid extends NotProven {
    static code = "case-file-invalid";

    constructor(reason, detail, path = null) {
        super(path === null ? detail : `${head(asciiRepr(path), 140)}: ${detail}`);
        this.reason = reason;
        this.path = path;
    }
}
