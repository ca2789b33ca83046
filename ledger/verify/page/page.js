// The page: files in, the report on screen. All content is set as text; no string is ever read as HTML.
//
// For programs: `await yunxi.verify(files, trust, {lang, allowUnlogged})`, File objects in, JSON text out, the same as
// the command's `--json`.

import { HEAD_BYTES, examine, kindOf } from "./bundle.js";
import { TRUST } from "./casefile_format.js";
import { caseFileParts } from "./casefile_page.js";
import { control, rowText } from "./control.js";
import { definitions, make, numbered, valueBox } from "./dom.js";
import { canVerify } from "./ed25519.js";
import { YunxiError } from "./errors.js";
import { SAID, STEPS } from "./labels.js";
import { explain, explained, refusal } from "./refusals.js";
import { notProvenBy, provenBy, toJson, verdictOf } from "./report.js";
import { sameAttachment } from "./sentences.js";
import { Sha256, sha256 } from "./sha256.js";
import { stepsOf } from "./steps.js";
import { loadsObject } from "./strictjson.js";
import { clean, equal, toHex } from "./text.js";
import { INDEX_WORDS, LABELS } from "./texts.js";
import { MAX_TRUST_BYTES, parseTrust } from "./trust.js";
import { Verifier } from "./verifier.js";
import { Moment, fill, say } from "./words.js";
import { ZipReader } from "./zipfiles.js";

const CHUNK_BYTES = 4 * 1024 * 1024;
const PICTURES = ["image/png", "image/jpeg", "image/webp"];
const LANGUAGES = { zh: "中文", en: "English" };
const KIND_LABELS = {
    "case-file": "case-file",
    record: "recordKind",
    receipt: "receiptKind",
    evidence: "evidenceKind",
    time: "timeKind",
    renewals: "renewalsKind",
    file: "fileKind",
};
// these stand first in the answer, one after the other
const MAIN_KINDS = ["case-file", "record"];

const state = {
    lang: navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en",
    able: true,
    working: false,
    trust: null,
    expected: "",
    files: [],
    aside: [],
    notices: [],
    allowUnlogged: false,
    report: null,
};
const pictures = new Map();
let queue = Promise.resolve();

globalThis.yunxi = Object.freeze({ verify: verifyFiles });
start();

async function start() {
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
        event.preventDefault();
        takeFiles(droppedOf(event));
    });
    addEventListener("beforeprint", () => document.querySelectorAll("details:not(.item)").forEach((part) => (part.open = true)));
    state.able = (await canVerify()) && (await hashesAgree());
    render();
}

// --- reading and checking ---

async function verifyFiles(files, trust, { lang = "en", allowUnlogged = false } = {}) {
    return toJson(await reportOf(files, trust, allowUnlogged), lang);
}

async function reportOf(files, trust, allowUnlogged) {
    try {
        const given = [];
        for (const file of files) {
            given.push(await read(file));
        }
        return await judged(given, await readTrust(trust), allowUnlogged);
    } catch (error) {
        return failed(error);
    }
}

async function judged(given, trust, allowUnlogged) {
    if (trust.error !== null) {
        return failed(trust.error);
    }
    try {
        const { name: file, sha256: digest, verifier } = trust;
        const findings = await examine(verifier, given, allowUnlogged, { trustSha256: digest, progress: showProgress });
        return { trust: { file, sha256: digest, consortium: verifier.trust.consortium }, findings, error: null };
    } catch (error) {
        return failed(error);
    }
}

function failed(error) {
    if (error instanceof YunxiError) {
        return { trust: null, findings: [], error };
    }
    throw error;
}

async function read(file) {
    const kind = kindOf(await bytesOf(file, file.slice(0, HEAD_BYTES)), file.size);
    if (kind === "sealed-case-file") {
        throw refusal("case-file-sealed");
    }
    if (kind === "case-file") {
        return { name: file.name, kind, size: file.size, sha256: null, changed: file.lastModified, blob: file };
    }
    if (kind !== "file") {
        const data = await bytesOf(file, file);
        return { name: file.name, kind, data, size: data.length, sha256: toHex(sha256(data)), blob: file };
    }
    const hash = new Sha256();
    for (let at = 0; at < file.size; at += CHUNK_BYTES) {
        hash.update(await bytesOf(file, file.slice(at, at + CHUNK_BYTES)));
    }
    return { name: file.name, kind, size: file.size, sha256: toHex(hash.digest()), blob: file };
}

async function readTrust(file) {
    const data = await bytesOf(file, file.slice(0, MAX_TRUST_BYTES + 1));
    const found = { name: file.name, sha256: toHex(sha256(data)), verifier: null, error: null };
    try {
        return { ...found, verifier: new Verifier(parseTrust(data)) };
    } catch (error) {
        if (error instanceof YunxiError) {
            return { ...found, error };
        }
        throw error;
    }
}

async function bytesOf(file, part) {
    try {
        return new Uint8Array(await part.arrayBuffer());
    } catch (error) {
        throw refusal("unreadable", { file: file.name, cause: error.name });
    }
}

async function hashesAgree() {
    for (const size of [0, 55, 56, 63, 64, 1000]) {
        const data = Uint8Array.from({ length: size }, (_, n) => (n * 7) & 0xff);
        const native = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
        if (!equal(native, sha256(data))) {
            return false;
        }
    }
    return true;
}

// --- what happens when somebody does something ---

function droppedOf(event) {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
    const folders = entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name);
    return [...event.dataTransfer.files].map((file) => (folders.includes(file.name) ? { folder: file.name } : file));
}

async function takeTrust(files) {
    const [file] = files;
    if (file === undefined || file.folder !== undefined) {
        return takeFiles(files);
    }
    await busy(async () => {
        const kind = kindOf(await bytesOf(file, file.slice(0, HEAD_BYTES)), file.size);
        if (kind === "file") {
            [state.trust, state.expected] = [await readTrust(file), ""];
        } else {
            await addFile(file);
            state.notices = [{ label: "looksLikeEvidence", file: file.name }];
        }
    });
}

async function takeFiles(files) {
    await busy(async () => {
        for (const file of files) {
            await addFile(file);
        }
    });
}

async function addFile(file) {
    if (file.folder !== undefined) {
        throw refusal("not-a-file", { file: file.folder });
    }
    if (await isTrustFile(file)) {
        state.aside.push(file);
        return;
    }
    const given = await read(file);
    // the same file twice is one file: a clerk who drops it again means it so
    const isSame = (other) => ["name", "sha256", "size", "changed"].every((member) => other[member] === given[member]);
    if (!state.files.some(isSame)) {
        state.files.push(given);
    }
}

// Whether a file has the form of a trust file, right or wrong.
async function isTrustFile(file) {
    if (file.size > MAX_TRUST_BYTES) {
        return false;
    }
    const data = await bytesOf(file, file);
    try {
        const members = data[0] === 0x7b ? loadsObject(data, "trust file", MAX_TRUST_BYTES) : new Map();
        return ["consortium", "chain", "departments", "witnesses"].every((name) => members.has(name));
    } catch (error) {
        if (error instanceof YunxiError) {
            return false;
        }
        throw error;
    }
}

// One thing after another: what is dropped while files are still read waits.
function busy(work) {
    queue = queue.then(() => carriedOut(work));
    return queue;
}

async function carriedOut(work) {
    Object.assign(state, { working: true, notices: [], report: null });
    render();
    try {
        await work();
        await judge();
    } catch (error) {
        // no answer may be left standing that does not hold for all files
        state.report = error instanceof YunxiError ? failed(error) : null;
        state.notices = error instanceof YunxiError ? [] : [{ label: "broken", file: String(error) }];
    }
    state.working = false;
    render();
    showVerdict();
}

// how far the check of a case file came, shown at every hundredth
function showProgress(phase, done, total) {
    const bar = document.getElementById("progress");
    const part = total > 0 ? done / total : 1;
    if (bar === null || (bar.dataset.phase === phase && part - bar.value < 0.01)) {
        return;
    }
    bar.value = part;
    bar.dataset.phase = phase;
    bar.classList.remove("hidden");
    const said = (count) => (phase === "read" ? (count / 1e6).toFixed(total < 1e7 ? 1 : 0) : String(count));
    const name = phase === "read" ? "reading" : "checkingItems";
    document.getElementById("progress-text").textContent = label(name, { done: said(done), total: said(total) });
}

// the answer may stand below the edge of the screen
function showVerdict() {
    const verdict = document.getElementById("verdict");
    verdict?.scrollIntoView({ block: "center" });
    verdict?.focus({ preventScroll: true });
}

async function judge() {
    const ready = state.trust !== null && state.files.length > 0;
    state.report = ready ? await judged(state.files, state.trust, state.allowUnlogged) : null;
}

function change(work) {
    return () => busy(async () => work());
}

// --- drawing ---

function label(name, values = {}) {
    return fill((SAID[name] ?? LABELS[name])[state.lang], state.lang, values);
}

function render() {
    document.documentElement.lang = state.lang === "zh" ? "zh-Hans" : "en";
    document.title = label("title");
    const focused = document.activeElement?.id;
    const steps = state.able ? [trustStep(), filesStep(), resultStep()] : [alarm(label("tooOld"))];
    document.getElementById("page").replaceChildren(heading(), make("main", {}, steps), footer());
    if (focused) {
        document.getElementById(focused)?.focus({ preventScroll: true });
    }
}

function heading() {
    const buttons = Object.entries(LANGUAGES).map(([lang, name]) => {
        const choose = () => {
            state.lang = lang;
            render();
        };
        const pressed = String(lang === state.lang);
        return make("button", { id: `lang-${lang}`, lang, "aria-pressed": pressed, onclick: choose }, name);
    });
    return make(
        "header",
        {},
        make("div", {}, make("h1", {}, label("title")), make("p", {}, label("lead"))),
        make("div", { class: "languages", role: "group", "aria-label": label("language") }, buttons),
    );
}

function footer() {
    return make("footer", {}, label("version"));
}

function trustStep() {
    const { trust } = state;
    const picker = pickerFor({
        id: "trust",
        many: false,
        button: label(trust === null ? "choose" : "chooseOther"),
        hint: label("drop"),
        take: takeTrust,
        title: label("trustStep"),
    });
    const shown = trust === null ? [] : trust.error === null ? trustFacts(trust) : alarm(explain(trust.error, state.lang));
    const name = trust === null ? null : make("p", { class: "name" }, clean(trust.name));
    const warning = trust?.fromCaseFile ? alarm(label("selfCheckNotice")) : null;
    return section("trustStep", make("p", { class: "help" }, label("trustHelp")), picker, warning, name, shown);
}

function trustFacts({ sha256: digest, verifier }) {
    const { consortium, departments, witnesses } = verifier.trust;
    const names = departments.map((department) => say(department, state.lang));
    const witnessNames = witnesses.map(({ name, operator }) => `${clean(operator)} (${clean(name)})`);
    return [
        definitions([
            [label("consortium"), clean(consortium)],
            [label("departments"), names.join(state.lang === "zh" ? "、" : ", ")],
            [label("witnesses"), witnessNames.join(state.lang === "zh" ? "、" : ", ") || label("none")],
        ]),
        make(
            "div",
            { class: "fingerprint" },
            make("h3", {}, label("fingerprint")),
            digestText(digest),
            make("p", {}, label("compare")),
            comparison(digest),
        ),
    ];
}

function digestText(digest) {
    const groups = digest.match(/.{4}/g).map((group) => make("span", {}, group));
    return make("p", { class: "digest" }, groups);
}

function comparison(digest) {
    const answer = make("p", { class: "comparison", role: "status" });
    const show = () => {
        const [name, mood] = compared(digest);
        answer.textContent = state.expected === "" ? "" : label(name);
        answer.className = `comparison ${mood}`;
        document.getElementById("compared")?.replaceWith(trustLine(digest));
    };
    const listen = (event) => {
        state.expected = event.target.value;
        show();
    };
    const input = make("input", { id: "expected", type: "text", autocomplete: "off", spellcheck: "false", oninput: listen });
    input.value = state.expected;
    show();
    return [make("label", { for: "expected", class: "screen" }, label("compareInput")), input, answer];
}

// [label, mood]
function compared(digest) {
    const entered = state.expected.toLowerCase().replace(/[\s:]/g, "");
    if (entered === digest) {
        return ["same", "good"];
    }
    return /^[0-9a-f]{64}$/.test(entered) ? ["different", "bad"] : ["tooShort", "open"];
}

function filesStep() {
    const picker = pickerFor({
        id: "files",
        many: true,
        button: label(state.files.length > 0 ? "addMore" : "chooseMany"),
        hint: label("dropMany"),
        take: takeFiles,
        title: label("filesStep"),
    });
    const notices = state.notices.map(({ label: name, file }) => alarm(label(name, { file })));
    return section(
        "filesStep",
        make("p", { class: "help" }, label("filesHelp")),
        picker,
        notices,
        state.aside.map(setAside),
        state.files.length > 0 ? fileList() : null,
    );
}

function setAside(file) {
    const use = async () => {
        state.aside = state.aside.filter((other) => other !== file);
        await takeTrust([file]);
    };
    return make(
        "div",
        { class: "notice", role: "status" },
        make("p", {}, label("setAside", { file: file.name })),
        state.trust === null ? make("button", { onclick: use }, label("useAsTrust")) : null,
    );
}

function fileList() {
    const rows = state.files.map((given, n) => {
        const drop = change(() => state.files.splice(n, 1));
        const name = clean(given.name);
        const title = label("remove", { file: given.name });
        const button = make("button", { class: "remove", title, "aria-label": title, onclick: drop }, "×");
        return make("li", {}, make("bdi", {}, name), button);
    });
    const unlogged = make("input", {
        id: "unlogged",
        type: "checkbox",
        checked: state.allowUnlogged,
        onchange: change(() => {
            state.allowUnlogged = !state.allowUnlogged;
        }),
    });
    const clear = change(() => {
        state.files = [];
        state.aside = [];
    });
    return make(
        "div",
        { class: "given" },
        make("h3", {}, label("given")),
        make("ul", {}, rows),
        make("p", { class: "screen" }, make("button", { id: "clear", onclick: clear }, label("clear"))),
        make("p", { class: "screen" }, make("label", {}, unlogged, " ", label("allowUnlogged"))),
    );
}

function pickerFor({ id, many, button, hint, take, title }) {
    const input = make("input", {
        id: `${id}-input`,
        type: "file",
        multiple: many,
        class: "hidden",
        tabindex: "-1",
        "aria-label": title,
        onchange: (event) => take([...event.target.files]),
    });
    const zone = make(
        "div",
        { class: "zone screen" },
        make("button", { id: `${id}-button`, class: "main", onclick: () => input.click() }, button),
        make("span", { "aria-hidden": "true" }, hint),
        input,
    );
    zone.addEventListener("dragenter", () => zone.classList.add("over"));
    zone.addEventListener("dragleave", (event) => {
        if (!zone.contains(event.relatedTarget)) {
            zone.classList.remove("over");
        }
    });
    zone.addEventListener("drop", (event) => {
        event.preventDefault();
        event.stopPropagation();
        take(droppedOf(event));
    });
    return zone;
}

function section(title, ...children) {
    return make("section", { "aria-labelledby": title }, make("h2", { id: title }, label(title)), children);
}

function alarm(text) {
    return make("p", { class: "notice bad", role: "alert" }, text);
}

// --- the answer ---

function resultStep() {
    const { report, trust, files, working } = state;
    if (working) {
        const shape = { id: "progress", class: "hidden", max: "1", value: "0", "aria-label": label("working") };
        const bar = make("progress", shape);
        const text = make("p", { id: "progress-text", class: "help", role: "status" }, label("working"));
        return section("resultStep", text, bar);
    }
    if (report === null) {
        const missing = files.length > 0 ? "resultNeedsTrust" : trust === null ? "resultWaits" : "resultNeedsFiles";
        return section("resultStep", make("p", { class: "help", role: "status" }, label(missing)), selfCheck());
    }
    const records = report.findings.filter(({ given }) => MAIN_KINDS.includes(given.kind));
    const others = report.findings.filter(({ given }) => !MAIN_KINDS.includes(given.kind));
    const rest = others.length > 0 ? [make("h3", { class: "others" }, label("others")), others.map(card)] : [];
    return section("resultStep", banner(report), records.map(card), rest);
}

// without a trust file: a first look with the copy that a case file holds
function selfCheck() {
    const given = state.trust === null ? state.files.find(({ kind }) => kind === "case-file") : undefined;
    if (given === undefined) {
        return null;
    }
    const useCopy = () =>
        busy(async () => {
            const zip = await ZipReader.open(given.blob);
            const copy = new File([await zip.read(TRUST, MAX_TRUST_BYTES)], TRUST);
            state.trust = { ...(await readTrust(copy)), fromCaseFile: true };
        });
    return make(
        "div",
        { class: "notice" },
        make("p", {}, label("selfCheckOffer")),
        make("button", { id: "self-check", onclick: useCopy }, label("selfCheck")),
    );
}

function banner(report) {
    const verdict = verdictOf(report);
    const bad = report.findings.filter(({ error }) => error !== null).length;
    const counts = { total: report.findings.length, bad };
    const colon = label("colon");
    const text =
        report.error === null
            ? label(verdict === "good" ? "all-good" : "some-bad", counts)
            : label("nothing") + explain(report.error, state.lang);
    const isSelfCheck = report.trust !== null && state.trust?.fromCaseFile === true;
    const mood = isSelfCheck && verdict === "good" ? "could-not-run" : verdict;
    const word = label(isSelfCheck && verdict === "good" ? "selfGood" : verdict);
    return make(
        "div",
        { class: `banner ${mood}`, role: "status", id: "verdict", tabindex: "-1" },
        make("p", { class: "word" }, label("result") + colon, make("strong", {}, word)),
        isSelfCheck && verdict === "good" ? null : make("p", {}, text),
        verdict === "bad" ? make("p", {}, INDEX_WORDS.BAD_MEANS[state.lang]) : null,
        report.findings.map(({ caseFile }) => caseSummary(caseFile?.facts ?? null)),
        isSelfCheck ? make("p", { class: "notice bad" }, label("selfCheckNotice")) : null,
        report.trust === null ? null : trustLine(report.trust.sha256),
        make("p", { class: "screen" }, make("button", { onclick: () => print() }, label("print"))),
    );
}

function caseSummary(found) {
    if (found === null) {
        return null;
    }
    const { case: contents, department, items, signedAt } = found;
    const values = { name: contents.case, department, items: items.length, time: new Moment(signedAt) };
    return make("p", {}, label("caseSummary", values));
}

// on paper always, on screen where the values differ
function trustLine(digest) {
    const [name, mood] = compared(digest);
    const text = mood === "open" ? label("notCompared") : label(name);
    return make("p", { id: "compared", class: mood === "bad" ? "notice bad" : "paper" }, text);
}

function card(finding) {
    const verdict = finding.error === null ? "good" : "bad";
    const kind = label(finding.attachment === null ? KIND_LABELS[finding.given.kind] : "attachmentKind");
    const title = make(
        "h3",
        {},
        make("span", { class: `badge ${verdict}` }, label(verdict)),
        " ",
        make("span", { class: "kind" }, kind),
        " ",
        make("bdi", { class: "file" }, clean(finding.given.name)),
    );
    if (finding.caseFile !== null) {
        const parts = caseFileParts(finding.caseFile, state.trust.verifier, state.lang);
        return make("article", { class: `card case ${verdict}` }, title, parts);
    }
    const isRecord = finding.given.kind === "record" && finding.facts !== null;
    const body = isRecord ? recordBody(finding) : otherBody(finding);
    return make("article", { class: `card ${verdict}` }, title, whyBad(finding.error), body, digestLine(finding.given));
}

function whyBad(error) {
    if (error === null) {
        return null;
    }
    const [sentence, note] = explained(error, state.lang);
    const step = error.step === null ? null : STEPS[error.step - 1][state.lang];
    return [
        make("p", { class: "why" }, sentence),
        step === null ? null : make("p", {}, label("failedAt", { number: error.step, text: step })),
        note === null ? null : make("p", { class: "small" }, note),
    ];
}

function digestLine({ size, sha256: digest }) {
    return make("p", { class: "small" }, `${label("bytes", { size })} · SHA-256 `, make("span", { class: "hex" }, digest));
}

function otherBody(finding) {
    const lines = [...provenBy(finding, state.lang), ...notProvenBy(finding, state.lang)];
    return lines.map((line) => make("p", {}, line));
}

function recordBody(finding) {
    const { facts: found, error } = finding;
    const { lang } = state;
    return [
        definitions(titleRows(found), "facts title"),
        list(error === null ? "proven" : "still_proven", "proven", provenBy(finding, lang)),
        list("not_proven", "open", notProvenBy(finding, lang)),
        stepList(finding),
        make("h4", {}, label("control")),
        definitions(control(found).map((row) => rowText(row, lang))),
        found.units.length > 0 ? [make("h4", {}, label("content")), found.units.map(unitBox)] : null,
        found.attachments.length > 0 ? [make("h4", {}, label("attachments")), attachmentList(finding)] : null,
    ];
}

const OUTCOMES = { good: "stepGood", bad: "stepBad", none: "stepNone", open: "stepOpen" };

function stepList(finding) {
    const rows = stepsOf(finding).map((outcome, n) => {
        const word = make("strong", { class: `outcome ${outcome}` }, label(OUTCOMES[outcome]));
        return make("li", {}, `${STEPS[n][state.lang]} `, word);
    });
    return make("details", {}, make("summary", {}, label("steps")), make("ol", {}, rows));
}

function titleRows({ recordId, type, version, department, references, sealedAt }) {
    const named = [...references].map(([name, value]) => [label(name), clean(value)]);
    return [
        [label("recordId"), recordId],
        [label("type"), `${clean(type)} v${version}`],
        [label("department"), say(department, state.lang) + label("id").replace("{}", department.id)],
        ...named,
        [label("sealedAt"), say(new Moment(sealedAt), state.lang)],
    ];
}

function list(title, mood, lines) {
    return [
        make("h4", { class: mood }, label(title)),
        numbered(mood, lines),
    ];
}

function unitBox({ name, members }) {
    return make("div", { class: "unit" }, make("h5", {}, clean(name)), valueBox(members));
}

function attachmentList({ facts: found, attachments, error }) {
    return found.attachments.map((named) => {
        const files = attachments.filter(([, other]) => sameAttachment(other, named)).map(([name]) => name);
        const said = files.length > 0 ? label("handedIn", { file: files[0] }) : label("notHandedIn");
        const given = state.files.find(({ sha256: digest, size }) => digest === named.sha256 && size === named.size);
        return make(
            "figure",
            {},
            given !== undefined && error === null ? picture(given, named) : null,
            make("figcaption", {}, make("strong", {}, clean(named.name)), ` · ${clean(named.mediaType)} · `, said),
        );
    });
}

// of an attachment that verified
function picture(given, { name, mediaType }) {
    if (!PICTURES.includes(mediaType)) {
        return make("p", { class: "small screen" }, label("notShown"));
    }
    const key = given.sha256 + mediaType;
    if (!pictures.has(key)) {
        pictures.set(key, URL.createObjectURL(given.blob.slice(0, given.size, mediaType)));
    }
    return make("img", { src: pictures.get(key), alt: clean(name) });
}
