"use strict";

// The token is in the fragment, which the browser sends to nobody; it goes out in the body of one request to this node.
// The chosen file never leaves the device: its digest is computed here and compared with those of the decision.

const TEXTS = {
    title: { zh: "核对行政决定书", en: "Check a decision" },
    other: { zh: "English", en: "中文" },
    asking: { zh: "正在查询……", en: "Asking …" },
    again: { zh: "重试", en: "Try again" },
    noToken: {
        zh: "请扫描决定书上的二维码打开本页面；直接输入网址看不到任何内容。",
        en: "Open this page by scanning the QR code on the decision: the address alone shows nothing.",
    },
    "not-found": {
        zh: "二维码没有对应的决定。请重新扫描；仍然如此的，请凭决定书上的电话向送达部门核实，该文书可能不是真的。",
        en: "The code leads to no decision. Scan it again; if this stays, ask the department that served it: the document may be false.",
    },
    "bad-request": {
        zh: "二维码不完整，请重新扫描。",
        en: "The code is incomplete: scan it again.",
    },
    "link-revoked": {
        zh: "部门已停用这个二维码，请向该部门索取新的。",
        en: "The department has withdrawn this code: ask it for a new one.",
    },
    "rate-exceeded": { zh: "查询过于频繁，请稍候再试。", en: "Too many questions: wait a little and try again." },
    failed: { zh: "暂时查不到，请稍后再试。", en: "There is no answer now: try again later." },
    offline: { zh: "没有连上网络，请检查网络后重试。", en: "There is no connection: check your network and try again." },
    decision: { zh: "决定", en: "The decision" },
    department: { zh: "作出部门", en: "Department" },
    number: { zh: "文号", en: "Number" },
    sealedOn: { zh: "存证日期", en: "Sealed on" },
    "in-force": { zh: "没有更正或者撤回", en: "Neither corrected nor withdrawn" },
    corrected: { zh: "已更正", en: "Corrected" },
    withdrawn: { zh: "已撤回", en: "Withdrawn" },
    asOf: {
        zh: "以作出部门的记录为准，截至 {0}（北京时间）。本页面不判断决定是否合法有效。",
        en: "As the department's own records say at {0} (Beijing time). This page does not judge whether the decision is lawful.",
    },
    correctedOn: { zh: "{0} 更正", en: "corrected on {0}" },
    withdrawnOn: { zh: "{0} 撤回", en: "withdrawn on {0}" },
    replacedBy: { zh: "，以 {0} 为准", en: ", {0} stands for it" },
    forgotten: {
        zh: "部门已依法销毁该决定的内容，只能证明它存在过。",
        en: "The department has destroyed the decision's content under the law; only that it existed can be shown.",
    },
    document: { zh: "核对手里的文件", en: "Check your file" },
    documentHow: {
        zh: "选择您收到的电子文书（PDF）。文件只在您的设备上核对，不会上传。照片、扫描件、另存或者转发时被压缩的文件无法核对。",
        en: "Choose the document as it was served to you (PDF). It is checked on your device and not sent anywhere. Photographs, scans and copies that were saved again cannot be checked.",
    },
    choose: { zh: "选择文件", en: "Choose the file" },
    checking: { zh: "正在计算……", en: "Computing …" },
    same: { zh: "一致", en: "The same" },
    sameMore: {
        zh: "“{0}”与部门存证的文书逐字节相同。",
        en: "“{0}” is the document that the department sealed, byte for byte.",
    },
    different: { zh: "不一致", en: "Not the same" },
    differentMore: {
        zh: "“{0}”不是部门存证的文书：可能被改动过，也可能不是送达的那个文件。请向作出部门核实。",
        en: "“{0}” is not the document that the department sealed: it was changed, or it is another file than the one served. Ask the department.",
    },
    noDocuments: {
        zh: "该决定存证时没有附电子文书，无法在这里核对文件。",
        en: "The decision was sealed without its document, so no file can be checked here.",
    },
    insecure: {
        zh: "浏览器只在 https 网页上计算校验值，本网页不是，无法核对文件。请通知作出部门。",
        en: "Browsers compute digests on https pages only and this is none: tell the department.",
    },
    unread: { zh: "文件读不出来或者太大（上限 {0} MB）。", en: "The file cannot be read or is too large (at most {0} MB)." },
    value: { zh: "SHA-256 校验值", en: "SHA-256 value" },
    sealedValue: { zh: "存证文书的校验值", en: "Values of the sealed documents" },
    deadlines: { zh: "送达与救济（决定书载明）", en: "Service and objections (as the decision says)" },
    servedOn: { zh: "送达日期", en: "Served on" },
    method: { zh: "送达方式", en: "How" },
    payBy: { zh: "缴款期限", en: "Pay by" },
    remedies: { zh: "怎样申请复议、提起诉讼，期限多长：", en: "Where and until when to object:" },
    noRemedies: {
        zh: "记录里没有载明救济途径和期限，请看决定书原文或者询问作出部门。",
        en: "The record does not say where and until when to object: see the decision itself or ask the department.",
    },
    noLaw: {
        zh: "以上照录决定的记录，本页面不计算期限。",
        en: "This is what the decision's record says; this page computes no deadline.",
    },
    "on-the-spot": { zh: "当场交付", en: "on the spot" },
    "in-person": { zh: "直接送达", en: "in person" },
    "by-mail": { zh: "邮寄送达", en: "by mail" },
    electronic: { zh: "电子送达", en: "electronically" },
    "by-publication": { zh: "公告送达", en: "by publication" },
    "left-at-place": { zh: "留置送达", en: "left at the place" },
    seen: { zh: "哪些部门看过这份决定", en: "Who had this decision" },
    nobody: { zh: "没有记载任何部门看过。", en: "No department is on record." },
    who: { zh: "部门", en: "Department" },
    given: { zh: "获得提供", en: "Given" },
    read: { zh: "查阅", en: "Read" },
    last: { zh: "最近一次", en: "Last" },
    seenMore: {
        zh: "这里只列次数，不列人员。要知道哪些部门查过您的全部资料，请凭身份证明向作出部门申请查询。",
        en: "Counts only, no persons. To learn who looked at all of your data, ask the department and prove who you are.",
    },
};

const MAX_BYTES = 500 * 1024 * 1024;
const TOKEN = /^[A-Za-z0-9_-]{21}[AQgw]$/;

const state = { lang: navigator.language.startsWith("zh") ? "zh" : "en", answer: null, problem: null, check: null };

function text(key, ...values) {
    return TEXTS[key][state.lang].replace(/\{(\d)\}/g, (_, n) => values[n]);
}

function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
}

function nameOf(department) {
    if (department.name === null) return department.id;
    const [zh, en] = department.name.split(" | ");
    return state.lang === "en" && en ? en : zh;
}

// -- asking --

async function ask() {
    state.answer = state.problem = null;
    const token = location.hash.slice(1);
    if (!TOKEN.test(token)) {
        state.problem = token ? "bad-request" : "noToken";
        return show();
    }
    show();
    try {
        const answer = await fetch("/v1/citizens/decision", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ token }),
            credentials: "omit",
        });
        const body = await answer.json();
        if (answer.ok) state.answer = body;
        else state.problem = body.code in TEXTS ? body.code : "failed";
    } catch (error) {
        state.problem = error instanceof SyntaxError ? "failed" : "offline";
    }
    show();
}

async function check(file) {
    if (!crypto.subtle) return;
    state.check = { kind: "checking", name: file.name };
    show();
    try {
        if (file.size > MAX_BYTES) throw new RangeError("too large");
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
        const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
        const same = state.answer.documents.some((each) => each.sha256 === hex && each.size === file.size);
        state.check = { kind: same ? "same" : "different", name: file.name, hex };
    } catch {
        state.check = { kind: "unread", name: file.name };
    }
    show();
}

// -- showing --

function show() {
    document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
    const parts = [head()];
    if (state.problem !== null) parts.push(problem());
    else if (state.answer === null) parts.push(make("p", { class: "card" }, text("asking")));
    else parts.push(status(), decision(), deadlines(), files(), seen());
    document.getElementById("page").replaceChildren(...parts.filter((part) => part !== null));
}

function head() {
    const turn = () => {
        state.lang = state.lang === "zh" ? "en" : "zh";
        show();
    };
    return make("header", {}, make("h1", {}, text("title")), make("button", { onclick: turn }, text("other")));
}

function problem() {
    const again = ["rate-exceeded", "failed", "offline"].includes(state.problem);
    return make(
        "section",
        { class: "card status bad", id: "problem", "data-code": state.problem },
        make("p", {}, text(state.problem)),
        again ? make("button", { onclick: ask }, text("again")) : null,
    );
}

function status() {
    const { status: kind, changes, asked_at: at } = state.answer;
    const look = { "in-force": "good", corrected: "warn", withdrawn: "bad" }[kind];
    const lines = changes.map((change) =>
        make(
            "p",
            {},
            text(change.kind === "corrected" ? "correctedOn" : "withdrawnOn", change.on) +
                (change.number === null ? "" : text("replacedBy", change.number)),
        ),
    );
    const when = new Date(Date.parse(at) + 8 * 3_600_000).toISOString().slice(0, 16).replace("T", " ");
    return make(
        "section",
        { class: `card status ${look}`, id: "status", "data-status": kind },
        make("strong", {}, text(kind)),
        ...lines,
        make("p", {}, make("small", {}, text("asOf", when))),
    );
}

function decision() {
    const { department, decision: said, sealed_on: on, forgotten } = state.answer;
    return make(
        "section",
        { class: "card" },
        make("h2", {}, text("decision")),
        facts([
            ["department", nameOf(department)],
            ["number", said.decision_number],
            ["sealedOn", on],
        ]),
        forgotten ? make("p", {}, text("forgotten")) : null,
    );
}

function facts(rows) {
    const shown = rows.filter(([, value]) => value !== undefined && value !== null);
    return make("dl", {}, ...shown.flatMap(([key, value]) => [make("dt", {}, text(key)), make("dd", {}, value)]));
}

function files() {
    const { documents } = state.answer;
    if (documents.length === 0) return make("section", { class: "card" }, make("p", {}, text("noDocuments")));
    const input = make("input", { type: "file", onchange: (event) => event.target.files[0] && check(event.target.files[0]) });
    const chooser = crypto.subtle
        ? make("label", { class: "choose" }, text("choose"), input)
        : make("p", {}, text("insecure"));
    return make(
        "section",
        { class: "card" },
        make("h2", {}, text("document")),
        make("p", {}, text("documentHow")),
        chooser,
        result(),
        make("details", {}, make("summary", {}, text("sealedValue")), ...documents.map(sealed)),
    );
}

function sealed(each) {
    return make("p", {}, `${each.number}. ${each.media_type}, ${each.size.toLocaleString("en")} B`, make("br", {}), make("code", {}, each.sha256));
}

function result() {
    if (state.check === null) return null;
    const { kind, name, hex } = state.check;
    if (kind === "checking") return make("p", { id: "check", "data-check": kind }, text("checking"));
    if (kind === "unread") return make("p", { id: "check", "data-check": kind }, text("unread", MAX_BYTES / 1024 / 1024));
    return make(
        "div",
        { class: `card status ${kind === "same" ? "good" : "bad"}`, id: "check", "data-check": kind },
        make("strong", {}, text(kind)),
        make("p", {}, text(`${kind}More`, name)),
        make("p", {}, make("small", {}, text("value")), make("br", {}), make("code", {}, hex)),
    );
}

function deadlines() {
    const said = state.answer.decision;
    if (state.answer.forgotten) return null;
    return make(
        "section",
        { class: "card", id: "deadlines" },
        make("h2", {}, text("deadlines")),
        facts([
            ["servedOn", said.served_on],
            ["method", said.service_method === undefined ? null : text(said.service_method)],
            ["payBy", said.pay_by],
        ]),
        make("p", {}, text(said.remedies === undefined ? "noRemedies" : "remedies")),
        said.remedies === undefined ? null : make("blockquote", {}, said.remedies),
        make("p", {}, make("small", {}, text("noLaw"))),
    );
}

function seen() {
    const rows = state.answer.seen.map((each) =>
        make(
            "tr",
            {},
            make("td", {}, nameOf(each.department)),
            make("td", {}, String(each.disclosed)),
            make("td", {}, String(each.read)),
            make("td", {}, each.last),
        ),
    );
    const titles = ["who", "given", "read", "last"].map((key) => make("th", {}, text(key)));
    return make(
        "section",
        { class: "card", id: "seen" },
        make("h2", {}, text("seen")),
        rows.length === 0
            ? make("p", {}, text("nobody"))
            : make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)),
        make("p", {}, make("small", {}, text("seenMore"))),
    );
}

window.addEventListener("hashchange", ask);
ask();
