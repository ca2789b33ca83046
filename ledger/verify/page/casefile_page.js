// What people see of a case file: levels, lists, every item with its pictures. Nothing from the file is ever run.

import { LEVELS } from "./casefile.js";
import { sayFinding } from "./case_report.js";
import { definitions, make, numbered, valueBox } from "./dom.js";
import { SAID } from "./labels.js";
import { neverProven, sayLevel } from "./levels.js";
import { MAX_PRESENTATION_BYTES } from "./sdjwt.js";
import { clean, grouped } from "./text.js";
import { INDEX_WORDS, LABELS, TYPES } from "./texts.js";
import { Moment, fill, say } from "./words.js";

const PICTURES = ["image/png", "image/jpeg", "image/webp"];
const VIDEOS = ["video/mp4", "video/webm", "video/quicktime"];
const SOUNDS = ["audio/mpeg", "audio/mp4", "audio/wav"];
// whatever a file is, it is only ever saved, never opened by the browser itself
const DOWNLOAD = "application/octet-stream";
const MAX_SHOWN_FINDINGS = 50;
const ROWS_AT_ONCE = 200;
const OPEN_ITEMS = 12;
const LISTED = ["evidence", "derived"];

const addresses = new WeakMap();

// The parts of the answer about a case file. `result` is what `verifyCaseFile` gave, `verifier` what it was judged by.
export function caseFileParts(result, verifier, lang) {
    const view = { result, verifier, lang };
    if (result.facts === null) {
        return [findingList(view), listOf(view, "not_proven", "open", [said(view, "nothingProven")])];
    }
    return [
        caseHead(view),
        findingList(view),
        levelTable(view),
        listOf(view, "not_proven", "open", neverProven(lang)),
        lists(view),
        gapList(view),
        items(view),
    ];
}

function said({ lang }, name, values = {}) {
    return fill((SAID[name] ?? LABELS[name] ?? INDEX_WORDS[name])[lang], lang, values);
}

function heading(view, name, level = "h4", look = null) {
    return make(level, { class: look }, said(view, name));
}

function listOf(view, name, mood, lines) {
    return [heading(view, name, "h4", mood), numbered(mood, lines)];
}

function moment({ lang }, seconds) {
    return say(new Moment(seconds), lang);
}

// --- the file as a whole ---

function caseHead(view) {
    const { facts } = view.result;
    const { case: contents, department } = facts;
    const none = said(view, "NOT_STATED");
    const counts = { items: facts.items.length, files: facts.files, octets: facts.octets };
    return definitions(
        [
            [said(view, "CASE"), clean(contents.case)],
            [said(view, "DEPARTMENT"), say(department, view.lang) + said(view, "id").replace("{}", department.id)],
            [said(view, "CONSORTIUM"), clean(contents.consortium)],
            [said(view, "FOR"), contents.exported_for === null ? none : clean(contents.exported_for)],
            [said(view, "signed"), moment(view, facts.signedAt)],
            [said(view, "contents"), said(view, "contentsOf", counts)],
        ],
        "facts title",
    );
}

function findingList(view) {
    const { findings, total } = view.result;
    if (findings.length === 0) {
        return null;
    }
    const shown = findings.slice(0, MAX_SHOWN_FINDINGS).map((finding) => sayFinding(finding, view.lang));
    const more = total - shown.length;
    return [
        heading(view, "findings", "h4", "wrong"),
        numbered("why", shown),
        more > 0 ? make("p", { class: "why" }, said(view, "moreFindings", { count: more })) : null,
    ];
}

function levelTable(view) {
    const { facts } = view.result;
    const rows = LEVELS.map((level, n) => {
        const { state, good, bad, absent } = facts.counts.get(level);
        const lines = sayLevel(facts, level, view.lang);
        const counts = make("p", { class: "small" }, said(view, "counts", { good, bad, absent }));
        return make(
            "tr",
            { class: `level ${state}` },
            make("th", { scope: "row" }, `${n + 1}. ${said(view, `level-${level}`)}`),
            make(
                "td",
                {},
                make("span", { class: `badge ${state}` }, said(view, `state-${state}`)),
                state === "not-applicable" ? null : counts,
            ),
            make("td", {}, lines.map((line) => make("p", {}, line))),
        );
    });
    const titles = ["levelColumn", "stateColumn", "sentencesColumn"].map((name) => said(view, name));
    return [heading(view, "levelsTitle"), table("levels", titles, rows)];
}

function gapList(view) {
    const { gaps } = view.result.facts.case;
    const note = make("p", { class: "small" }, said(view, "GAPS_NOTE"));
    if (gaps.length === 0) {
        return [heading(view, "GAPS"), make("p", {}, said(view, "NO_GAPS"))];
    }
    const lines = gaps.map((gap) => {
        const department = gap.department === null ? null : departmentName(view, gap.department);
        const about = [department, gap.record_id].filter((name) => name !== null);
        const text = clean(view.lang === "zh" ? gap.zh : gap.en);
        const who = make("span", { class: "small" }, ` ${about.join(" · ")}`);
        return make("li", {}, text, about.length > 0 ? who : null);
    });
    return [heading(view, "GAPS", "h4", "open"), note, make("ul", { class: "gaps" }, lines)];
}

// --- the lists ---

function lists(view) {
    const reports = view.result.facts.items;
    const evidence = reports.filter(({ item }) => LISTED.includes(item.role));
    const others = reports.filter(({ item }) => !LISTED.includes(item.role));
    const decided = view.result.facts.decisions.length > 0;
    const before = evidence.filter(({ item }) => item.before_decision === true);
    const after = evidence.filter(({ item }) => item.before_decision !== true);
    const parts = decided
        ? [
              evidenceList(view, "EVIDENCE_BEFORE", "BEFORE_NOTE", before),
              evidenceList(view, "EVIDENCE_AFTER", "AFTER_NOTE", after),
          ]
        : evidenceList(view, "EVIDENCE", "UNDECIDED_NOTE", evidence);
    const words = make("p", { class: "small" }, said(view, "OWN_WORDS"));
    return [parts, words, stepList(view, others), decided ? decisionList(view) : null];
}

function evidenceList(view, title, note, reports) {
    const names = ["NUMBER", "NAME", "SOURCE", "PURPOSE", "DATE", "PAGE"];
    const titles = [...names.map((name) => said(view, name)), said(view, "stateColumn")];
    const rows = reports.map((report) => () => {
        const { item } = report;
        const texts = [item.source, item.purpose, item.date, item.page];
        return row(titles, [
            String(item.n),
            nameOf(view, item),
            ...texts.map((text) => make("bdi", {}, text === null ? "—" : clean(text))),
            badge(view, report),
        ]);
    });
    const shown = reports.length > 0 ? longTable(view, "evidence", titles, rows) : make("p", {}, said(view, "NONE"));
    return [heading(view, title), make("p", { class: "small" }, said(view, note)), shown];
}

function stepList(view, reports) {
    if (reports.length === 0) {
        return null;
    }
    const titles = ["NUMBER", "NAME", "roleColumn", "SEALED", "stateColumn"].map((name) => said(view, name));
    const rows = reports.map((report) => () => {
        const { item } = report;
        const role = said(view, `role-${item.role}`);
        const sealed = moment(view, item.sealed_at);
        return row(titles, [String(item.n), nameOf(view, item), role, sealed, badge(view, report)]);
    });
    return [heading(view, "stepsTitle"), longTable(view, "steps", titles, rows)];
}

function decisionList(view) {
    const { items: reports, decisions } = view.result.facts;
    const names = ["NUMBER", "NAME", "COUNT", "foundColumn", "MANIFEST"];
    const titles = names.map((name) => said(view, name));
    const rows = decisions.map(({ decision, found, missing }) => () => {
        const digest = make("span", { class: "hex" }, decision.sha256);
        const here = said(view, missing > 0 ? "foundNotAll" : "foundAll", { found, missing });
        const { n, count } = decision;
        return row(titles, [String(n), nameOf(view, reports[n - 1].item), String(count), here, digest]);
    });
    return [heading(view, "DECISIONS"), longTable(view, "steps", titles, rows)];
}

// What corrects the item, and what it corrects itself, a line each; nothing of a record that did not pass.
function amendedLines(view, { n, amends }) {
    const { items: reports, amended } = view.result.facts;
    const lines = (amended.get(n) ?? []).map((by) => {
        return said(view, "amended-by", { n: by, time: new Moment(reports[by - 1].item.sealed_at) });
    });
    if (amends !== null && reports[n - 1].verified) {
        const before = [...amended].find(([, numbers]) => numbers.includes(n));
        lines.push(before === undefined ? said(view, "amends-elsewhere") : said(view, "amends", { n: before[0] }));
    }
    return lines;
}

function nameOf(view, item) {
    return make("div", {}, linkTo(view, item), amendedLines(view, item).map((line) => make("p", { class: "amended" }, line)));
}

function linkTo(view, { n, name }) {
    const show = (event) => {
        event.preventDefault();
        view.showUpTo(n);
        const target = document.getElementById(`item-${n}`);
        target.open = true;
        target.scrollIntoView({ block: "start" });
        target.querySelector("summary").focus({ preventScroll: true });
    };
    return make("a", { href: `#item-${n}`, onclick: show }, make("bdi", {}, clean(name)));
}

function badge(view, { finding }) {
    const mood = finding === null ? "good" : "bad";
    return make("span", { class: `badge ${mood}` }, said(view, mood === "good" ? "ok" : "not-ok"));
}

function row(titles, cells) {
    return make("tr", {}, cells.map((cell, n) => make("td", { "data-title": titles[n] }, cell)));
}

function table(look, titles, rows) {
    const head = make("tr", {}, titles.map((title) => make("th", { scope: "col" }, title)));
    return make("table", { class: look }, make("thead", {}, head), make("tbody", {}, rows));
}

// Rows are made when they are asked for: a case file may have many thousands.
function longTable(view, look, titles, rows) {
    const whole = table(look, titles, []);
    return [whole, growing(view, whole.querySelector("tbody"), rows).button];
}

// Fills `target` in parts: the first at once, more by `button` or as far as `upTo` asks for.
function growing(view, target, builders) {
    const left = [...builders];
    const button = make("button", { class: "screen" });
    const more = () => {
        target.append(...left.splice(0, ROWS_AT_ONCE).map((build) => build()));
        button.textContent = said(view, "showMore", { count: left.length });
        button.hidden = left.length === 0;
    };
    button.addEventListener("click", more);
    more();
    const upTo = (count) => {
        while (left.length > 0 && builders.length - left.length < count) {
            more();
        }
    };
    return { button, upTo };
}

// --- the items ---

function items(view) {
    const reports = view.result.facts.items;
    const place = make("div", {});
    const builders = reports.map((report) => () => itemBox(view, report, reports.length <= OPEN_ITEMS));
    const { button, upTo } = growing(view, place, builders);
    view.showUpTo = upTo;
    return [heading(view, "itemsTitle"), make("p", { class: "small screen" }, said(view, "itemsHelp")), place, button];
}

function itemBox(view, report, open) {
    const { item, finding } = report;
    const mood = finding === null ? "good" : "bad";
    const summary = make(
        "summary",
        {},
        badge(view, report),
        make("span", { class: "number" }, said(view, "item", { n: item.n })),
        make("span", { class: "kind" }, said(view, `role-${item.role}`)),
        make("bdi", { class: "file" }, clean(item.name)),
    );
    const body = make("div", {});
    const box = make("details", { class: `item card ${mood}`, id: `item-${item.n}` }, summary, body);
    const fillIn = () => {
        if (box.open && body.childElementCount === 0) {
            body.append(...itemBody(view, report));
        }
    };
    box.addEventListener("toggle", fillIn);
    box.open = open || finding !== null;
    return box;
}

function itemBody(view, report) {
    const { item, finding, verified } = report;
    const content = make("div", { class: "content" });
    if (verified) {
        loadUnits(view, report, content);
    }
    return [
        finding === null ? "" : make("p", { class: "why" }, sayFinding(finding, view.lang)),
        verified ? "" : make("p", {}, said(view, "notShownUnverified")),
        definitions(itemRows(view, item)),
        content,
        verified && item.attachments.length > 0 ? make("div", {}, attachments(view, report)) : "",
        heading(view, "proofTitle", "h5"),
        definitions(proofRows(view, report)),
    ];
}

function itemRows(view, item) {
    const title = TYPES[`${item.type}.v${item.v}`]?.title[view.lang];
    const code = `${item.type} v${item.v}`;
    const own = [
        ["SOURCE", item.source],
        ["PURPOSE", item.purpose],
        ["DATE", item.date],
        ["PAGE", item.page],
    ].filter(([, text]) => text !== null);
    const before = item.before_decision;
    return [
        [said(view, "type"), title === undefined ? clean(code) : title + said(view, "id").replace("{}", () => code)],
        [said(view, "department"), departmentName(view, item.department)],
        ...own.map(([name, text]) => [said(view, name), make("bdi", {}, clean(text))]),
        ...(before === null ? [] : [[said(view, "whenColumn"), said(view, before ? "before" : "after")]]),
        ...amendedLines(view, item).map((line) => [said(view, "amendedColumn"), line]),
    ];
}

function departmentName(view, id) {
    const found = view.verifier.trust.departments.find((department) => department.id === id);
    return found === undefined ? id : say(found, view.lang);
}

function proofRows(view, report) {
    const { item } = report;
    const when = (seconds) => (seconds === null ? said(view, "nobodyConfirmed") : moment(view, seconds));
    return [
        [said(view, "sealedAt"), moment(view, item.sealed_at)],
        [said(view, "confirmedAt"), when(report.seenAt)],
        ...(report.anchoredAt === null ? [] : [[said(view, "anchoredAt"), moment(view, report.anchoredAt)]]),
        ...report.stampedAt.map((time) => [said(view, "stampedAt"), moment(view, time)]),
        ...captureRows(view, report.capture),
        [said(view, "place-in-log"), report.logged ? grouped(item.index + 1) : said(view, "NO_RECEIPT")],
        [said(view, "recordId"), make("span", { class: "hex" }, item.record_id)],
        [said(view, "leafHash"), make("span", { class: "hex" }, item.leaf)],
    ];
}

function captureRows(view, capture) {
    if (capture === null) {
        return [];
    }
    const { device, operator, offsetMs, capturedAt } = capture;
    const offset = offsetMs === null ? said(view, "notMeasured") : said(view, "milliseconds", { count: String(offsetMs) });
    return [
        [said(view, "device"), make("bdi", {}, clean(device))],
        ...(operator === null ? [] : [[said(view, "operator"), make("bdi", {}, clean(operator))]]),
        [said(view, "clockOffset"), offset],
        ...(capturedAt === null ? [] : [[said(view, "capturedAt"), moment(view, capturedAt)]]),
    ];
}

// The record is read from the case file again, and verified again, when somebody looks at it: none is kept.
async function loadUnits(view, { item, masked }, place) {
    const { zip } = view.result;
    place.setAttribute("aria-busy", "true");
    try {
        const presentation = await zip.read(item.record, MAX_PRESENTATION_BYTES);
        const { units } = await view.verifier.verify(presentation, null);
        place.append(...unitTable(view, item, units, masked));
    } catch (error) {
        place.append(make("p", { class: "why" }, said(view, "cannotShow", { cause: String(error) })));
    }
    place.removeAttribute("aria-busy");
}

function unitTable(view, item, units, masked) {
    const kinds = TYPES[`${item.type}.v${item.v}`]?.units ?? {};
    const shown = units.filter(({ name }) => !name.startsWith("attachment-"));
    const rows = shown.map(({ name, members }) => {
        const title = Object.hasOwn(kinds, name) ? kinds[name][view.lang] : clean(name);
        return make("tr", {}, make("th", { scope: "row" }, title), make("td", {}, unitValue(members)));
    });
    const parts = rows.length > 0 ? [make("table", { class: "units" }, make("tbody", {}, rows))] : [];
    if (item.forgotten) {
        parts.push(make("p", { class: "notice" }, said(view, "FORGOTTEN")));
    } else if (masked > 0) {
        parts.push(make("p", { class: "small" }, said(view, "maskedParts", { count: masked })));
    }
    return parts.length > 0 ? [heading(view, "content", "h5"), ...parts] : [];
}

// a unit with one member needs no name beside it
function unitValue(members) {
    return valueBox(members.size === 1 ? [...members.values()][0] : members);
}

// --- attachments ---

function attachments(view, { item }) {
    return [heading(view, "ATTACHMENTS", "h5"), item.attachments.map((attachment) => attachmentBox(view, attachment))];
}

function attachmentBox(view, attachment) {
    const { name, media_type: mediaType, size, sha256 } = attachment;
    const isGiven = attachment.path !== null && isWhole(view, attachment);
    const words = isGiven ? "attachmentHolds" : attachment.path === null ? "NOT_GIVEN" : "attachmentBroken";
    const caption = make(
        "figcaption",
        {},
        make("strong", {}, make("bdi", {}, clean(name))),
        ` · ${clean(mediaType)} · ${said(view, "bytes", { size })} · ${said(view, words)} `,
        isGiven ? downloadLink(view, attachment) : null,
        make("span", { class: "digest-line" }, "SHA-256 ", make("span", { class: "hex" }, sha256)),
    );
    return make("figure", {}, isGiven ? medium(view, attachment) : null, caption);
}

// Whether the bytes in the case file are those that the record names: only then is anything shown.
function isWhole({ result }, { path, sha256, size }) {
    const { broken, manifest, zip } = result;
    return !broken.has(path) && manifest.get(path) === sha256 && zip.entry(path).size === BigInt(size);
}

function medium(view, { path, media_type: mediaType, name }) {
    if (PICTURES.includes(mediaType)) {
        return make("img", { src: addressOf(view, path, mediaType), alt: clean(name) });
    }
    const tag = VIDEOS.includes(mediaType) ? "video" : SOUNDS.includes(mediaType) ? "audio" : null;
    if (tag === null) {
        return null;
    }
    const src = addressOf(view, path, mediaType);
    return make(tag, { src, controls: true, preload: "metadata", "aria-label": clean(name) });
}

function downloadLink(view, { path, name }) {
    const file = path.slice(path.lastIndexOf("/") + 1);
    const title = said(view, "saveAs", { name, file });
    const href = addressOf(view, path, DOWNLOAD);
    return make("a", { class: "save screen", href, download: file, "aria-label": title }, said(view, "save"));
}

function addressOf({ result: { zip } }, path, mediaType) {
    const known = addresses.get(zip) ?? new Map();
    addresses.set(zip, known);
    const key = `${path} ${mediaType}`;
    if (!known.has(key)) {
        known.set(key, URL.createObjectURL(zip.blob(zip.entry(path), mediaType)));
    }
    return known.get(key);
}
