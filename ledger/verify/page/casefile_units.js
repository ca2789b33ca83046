// What the verification of a case file reads in the records' own words: `named_records` of ledger/formats/casefile.py
// and the capture of ledger/verify/casefile.py.

import { isList, isObject, isText } from "./text.js";

const TIME = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?:Z|([+-])(\d{2}):(\d{2}))$/;

// The records of other departments that a record names, each as JSON text of [department, record id, index, leaf].
// Content that is not as its type has it names nothing.
export function namedRecords(type, units) {
    if (type === "disclosure.received") {
        const [owner, records] = ["owner", "records"].map((name) => units.get(name)?.get(name));
        const listed = isList(records) && isText(owner) ? records.filter(isObject) : [];
        return listed
            .map((record) => [record.get("id"), record.get("index")])
            .filter(([id, index]) => isText(id) && typeof index === "number")
            .map(([id, index]) => JSON.stringify([owner, id, index, null]));
    }
    if (type === "record.attached") {
        const [owner, record, leaf] = ["owner", "record", "leaf"].map((name) => units.get("record")?.get(name));
        return [owner, record, leaf].every(isText) ? [JSON.stringify([owner, record, null, leaf])] : [];
    }
    return [];
}

// What a record says of its making: {device, operator, offsetMs, capturedAt, sealedAt}, times in seconds; or null.
export function captureOf(units) {
    const unit = units.get("capture") ?? new Map();
    const said = unit.get("capture");
    if (isObject(said) && isText(said.get("device"))) {
        return {
            device: said.get("device"),
            operator: textOf(said.get("operator")),
            offsetMs: wholeOf(said.get("clock_offset_ms")),
            capturedAt: secondsOf(unit.get("captured_at")),
            sealedAt: secondsOf(unit.get("sealed_at")),
        };
    }
    const device = units.get("device")?.get("device");
    if (isObject(device) && isText(device.get("id"))) {
        const ahead = wholeOf(device.get("clock_offset_seconds"));
        return {
            device: device.get("id"),
            operator: textOf(device.get("operator")),
            offsetMs: ahead === null ? null : ahead * 1000,
            capturedAt: secondsOf(units.get("when")?.get("occurred_at")),
            sealedAt: null,
        };
    }
    return null;
}

function textOf(value) {
    return isText(value) ? value : null;
}

function wholeOf(value) {
    return typeof value === "number" ? value : null;
}

// Whole seconds since 1970 of an RFC 3339 time; null for what is none.
function secondsOf(value) {
    const found = isText(value) ? TIME.exec(value) : null;
    if (found === null) {
        return null;
    }
    const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number);
    const [hours, minutes] = [Number(found[8] ?? 0), Number(found[9] ?? 0)];
    const date = new Date(0);
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second);
    // a calendar that carries over would have changed a part
    const same = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && date.getUTCHours() === hour;
    if (year === 0 || !same || minute > 59 || second > 59 || hours * 60 + minutes >= 1440) {
        return null;
    }
    const ahead = (hours * 60 + minutes) * 60;
    return date.getTime() / 1000 - (found[7] === "-" ? -ahead : ahead);
}
