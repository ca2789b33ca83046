// The page's verifier without a browser. Argument: the folder with its modules, whose page.js does not start by itself.
// Each line of standard input is {"files": [[name, base64] …], "trust": base64, "lang"}; each line of standard output is
// the JSON text of its answer, as a JSON text.

import { File } from "node:buffer";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

globalThis.File ??= File;
globalThis.navigator ??= { language: "en" };
globalThis.document = { getElementById: () => null };
await import(pathToFileURL(`${process.argv[2]}/page.js`));

const file = ([name, data]) => new File([Buffer.from(data, "base64")], name);
for await (const line of createInterface({ input: process.stdin })) {
    const { files, trust, lang } = JSON.parse(line);
    const answer = await globalThis.yunxi.verify(files.map(file), file(["trust.json", trust]), { lang });
    process.stdout.write(JSON.stringify(answer) + "\n");
}
