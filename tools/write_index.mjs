// Write Pagefind's index of the records on stdin, a JSON list of {url, content}, into the folder named.
import { readFileSync, rmSync } from "node:fs";
import { pathToFileURL } from "node:url";

const pagefind = await import(pathToFileURL(process.env.PAGEFIND));
const { index } = await pagefind.createIndex({ forceLanguage: "en" });
for (const { url, content } of JSON.parse(readFileSync(0, "utf8"))) {
  const { errors } = await index.addHTMLFile({ url, content });
  if (errors.length) throw new Error(`${url}: ${errors.join("; ")}`);
}
rmSync(process.argv[2], { recursive: true, force: true });
const { errors } = await index.writeFiles({ outputPath: process.argv[2] });
if (errors.length) throw new Error(errors.join("; "));
await pagefind.close();
