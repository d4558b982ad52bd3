// Checks Kubernetes manifests against the schemas of their kinds, without a cluster.
// Usage: node check.mjs FILE...   Says what is wrong, one line each, or what is right.
//
// A schema says what the API server refuses; what it does not know, the server drops in silence. So the same documents
// are also held against the types of their kinds, which allow no unknown member.

import { readFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { parseAllDocuments } from "yaml";

const packages = {
  "traefik.io": "@kubernetes-models/traefik",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

/** The module of a kind: `apps/v1` is of Kubernetes itself, as is `v1`; others have packages of their own. */
function moduleOf({ apiVersion, kind }) {
  const group = apiVersion.split("/")[0];
  return `${packages[group] ?? "kubernetes-models"}/${apiVersion}/${kind}`;
}

const here = dirname(fileURLToPath(import.meta.url));
const scratch = mkdtempSync(join(here, "types-"));
const faults = [];
const found = [];

try {
  const sources = [];
  for (const file of process.argv.slice(2)) {
    parseAllDocuments(readFileSync(file, "utf8")).forEach((document, place) => {
      const name = `${file}[${place}]`;
      if (document.errors.length) {
        faults.push(...document.errors.map((error) => `${name}: ${error.message}`));
        return;
      }
      const manifest = document.toJS();
      found.push({ name, manifest });
      const source = join(scratch, `${sources.length}.ts`);
      writeFileSync(
        source,
        `import type { I${manifest.kind} } from ${JSON.stringify(moduleOf(manifest))};\n` +
          `const _: I${manifest.kind} = ${JSON.stringify(manifest)};\n`,
      );
      sources.push({ source, name });
    });
  }

  for (const { name, manifest } of found) {
    try {
      const { [manifest.kind]: Kind } = await import(moduleOf(manifest));
      new Kind(manifest).validate();
    } catch (error) {
      faults.push(`${name}: ${error.message}`);
    }
  }

  const program = ts.createProgram(
    sources.map(({ source }) => source),
    {
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      noEmit: true,
      skipLibCheck: true,
      strict: true,
      types: [],
    },
  );
  for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
    const { name } = sources.find(({ source }) => source === diagnostic.file?.fileName) ?? { name: "types" };
    faults.push(`${name}: ${ts.flattenDiagnosticMessageText(diagnostic.messageText, " ")}`);
  }
} finally {
  rmSync(scratch, { recursive: true });
}

for (const { name, manifest } of found) {
  if (!faults.some((fault) => fault.startsWith(name))) {
    console.log(`${manifest.kind} ${manifest.metadata.name}: valid`);
  }
}
faults.forEach((fault) => console.log(fault));
process.exitCode = faults.length ? 1 : 0;
