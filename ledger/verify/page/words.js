// How values stand in sentences: ledger/verify/words.py.

import { clean, grouped, isWhole } from "./text.js";
import { Department } from "./trust.js";

const BEIJING = 8 * 3600;
// a day before the year 10000
const LAST = 253_402_300_799n - 86_400n;
const PLACE = /\{(\w+)(?::([^}]*))?\}/g;

// Seconds since 1970: said as UTC in English and as Beijing time in Chinese.
export class Moment {
    constructor(seconds) {
        this.seconds = BigInt(seconds);
    }
}

// A key's validity in seconds since 1970; `end` is null where it has not ended.
export class Span {
    constructor(start, end) {
        this.start = start;
        this.end = end;
    }
}

// Seconds between two moments, not negative.
export class Duration {
    constructor(seconds) {
        this.seconds = BigInt(seconds);
    }
}

// The template of `lang` with its values said in that language. `{size:entry,entries}` gives a number its noun.
export function fill(template, lang, values) {
    return template.replace(PLACE, (_, name, words) => {
        const said = say(values[name], lang);
        if (!isWhole(values[name]) || words === undefined) {
            return said;
        }
        const [one, many] = words.split(",");
        return `${said} ${said === "1" ? one : many}`;
    });
}

export function say(value, lang) {
    if (value instanceof Moment) {
        return moment(value.seconds, lang);
    }
    if (value instanceof Duration) {
        return duration(value.seconds, lang);
    }
    if (value instanceof Span) {
        return span(value, lang);
    }
    if (value instanceof Department) {
        return clean(value.name.get(lang));
    }
    if (isWhole(value)) {
        return lang === "en" ? grouped(value) : String(value);
    }
    return clean(value);
}

function moment(seconds, lang) {
    if (seconds < 0n || seconds > LAST) {
        return lang === "en" ? `${seconds} seconds after 1970` : `1970年起第${seconds}秒`;
    }
    const date = new Date((Number(seconds) + (lang === "en" ? 0 : BEIJING)) * 1000);
    if (lang === "en") {
        return date.toISOString().replace("T", " ").replace(".000Z", " UTC");
    }
    const two = (number) => String(number).padStart(2, "0");
    const day = `${date.getUTCFullYear()}年${date.getUTCMonth() + 1}月${date.getUTCDate()}日`;
    return `北京时间${day}${date.getUTCHours()}时${two(date.getUTCMinutes())}分${two(date.getUTCSeconds())}秒`;
}

function span({ start, end }, lang) {
    const [from, to] = [start, end].map((time) => (time === null ? null : moment(BigInt(time), lang)));
    if (lang === "en") {
        return `valid from ${from} ${to === null ? "onwards" : `until ${to}`}`;
    }
    return `自${from}起${to === null ? "，未载明终止时间" : `，至${to}止`}`;
}

function duration(seconds, lang) {
    const parts = [seconds / 86_400n, (seconds / 3600n) % 24n, (seconds / 60n) % 60n, seconds % 60n];
    if (lang === "zh") {
        const units = ["天", "小时", "分", "秒"];
        return parts.map((part, n) => (part ? `${part}${units[n]}` : "")).join("") || "0秒";
    }
    const units = ["day", "hour", "minute", "second"];
    const named = parts.map((part, n) => (part ? `${grouped(part)} ${units[n]}${part === 1n ? "" : "s"}` : ""));
    return named.filter((text) => text !== "").join(", ") || "0 seconds";
}
