// Time stamps over a log's state: ledger/verify/timestamps.py. Times are whole seconds since 1970.

import { NotProven, TimestampInvalid } from "./errors.js";
import { parseRenewals, verifyRenewals } from "./renewal.js";
import { verifyToken } from "./timestamp.js";

// What a token says of `checkpoint`, the text without signatures. `renewals`: the JSON text, or null.
export async function verifyTime(checkpoint, token, renewals, roots) {
    const chain = renewals === null ? null : parseRenewals(renewals);
    const { stamp, renewed } = await stamped(checkpoint, token, chain, roots);
    const last = renewed[renewed.length - 1] ?? stamp;
    return Object.freeze({
        authority: stamp.authority,
        root: stamp.root,
        time: seconds(stamp.time),
        renewed: renewed.map(({ time }) => seconds(time)),
        goodUntil: seconds(last.expires),
    });
}

async function stamped(checkpoint, token, chain, roots) {
    try {
        const stamp = await verifyToken(token, checkpoint, roots);
        return { stamp, renewed: chain === null ? [] : await verifyRenewals(token, stamp, chain, roots) };
    } catch (error) {
        if (error instanceof NotProven) {
            throw new TimestampInvalid(error.message);
        }
        throw error;
    }
}

function seconds(microseconds) {
    return microseconds / 1_000_000n;
}
