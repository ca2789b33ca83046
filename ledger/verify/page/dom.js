// Elements of the page. All content is set as text; no string is ever read as HTML.

import { Float } from "./strictjson.js";
import { clean, isList, isObject, isText } from "./text.js";

// An element; members that begin with "on" are listeners, children are elements or texts.
export function make(tag, members, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(members)) {
        if (name.startsWith("on")) {
            element.addEventListener(name.slice(2), value);
        } else if (value !== false && value !== null) {
            element.setAttribute(name, value === true ? "" : value);
        }
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null));
    return element;
}

export function definitions(rows, look = "facts") {
    return make("dl", { class: look }, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function numbered(mood, lines) {
    return make("ol", { class: mood }, lines.map((line) => make("li", {}, line)));
}

// A value from evidence, of any shape.
export function valueBox(value) {
    if (isObject(value)) {
        return definitions([...value].map(([name, member]) => [clean(name), valueBox(member)]));
    }
    if (isList(value)) {
        return make("ul", {}, value.map((item) => make("li", {}, valueBox(item))));
    }
    if (isText(value)) {
        return make("bdi", { class: "text" }, value.split("\n").map(clean).join("\n"));
    }
    return make("span", {}, JSON.stringify(value instanceof Float ? value.value : value));
}
