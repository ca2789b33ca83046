// How far the recipe came with one record: for the list of all checks on the page.

const RECEIPT = [6, 7, 8, 9, 10];
const ANCHOR = 11;
const EVIDENCE = [12, 13, 14, 15];
const ATTACHMENTS = 16;
const TIME_STAMPS = 17;

// For each of the seventeen steps: `good`, `bad`, `none` (nothing of the kind was handed in) or `open` (not reached).
export function stepsOf({ facts, error, attachments }) {
    const failed = error?.step ?? null;
    return Array.from({ length: TIME_STAMPS }, (_, n) => outcomeOf(n + 1, failed, facts, attachments));
}

function outcomeOf(step, failed, facts, attachments) {
    if (step === failed) {
        return "bad";
    }
    if (failed !== null && step > failed) {
        return "open";
    }
    return failed !== null || isPart(step, facts, attachments) ? "good" : "none";
}

function isPart(step, { logged }, attachments) {
    if (RECEIPT.includes(step)) {
        return logged !== null;
    }
    if (step === ANCHOR) {
        return (logged?.anchor ?? null) !== null;
    }
    if (EVIDENCE.includes(step)) {
        return (logged?.onChain ?? null) !== null;
    }
    if (step === TIME_STAMPS) {
        return (logged?.times ?? []).length > 0;
    }
    return step !== ATTACHMENTS || attachments.length > 0;
}
