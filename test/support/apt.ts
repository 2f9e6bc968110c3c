/** Debian packages, unpacked into a directory of the repository without touching the system. */

import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasCode } from "./claim.js";
import { run } from "./run.js";

/** Where a Debian archive is, and what its signatures are checked with. */
export interface Mirror {
  readonly uri: string;
  /** The value of apt's `Signed-By`, verbatim; it may be a path or a whole key. */
  readonly signedBy: string | undefined;
}

const publicMirror: Mirror = {
  uri: "http://deb.debian.org/debian",
  signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
};

/** apt's options for a run that should fail soon rather than hang. */
export const aptPatience: readonly string[] = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"];

/** The archives from which this machine installs `release`, in the order of its configuration, then the public one. */
export async function debianMirrors(release: string, etcApt = "/etc/apt"): Promise<Mirror[]> {
  const texts = await readSources(etcApt);
  const found = texts.flatMap(({ name, text }) =>
    name.endsWith(".sources") ? fromStanzas(text, release) : fromLines(text, release),
  );
  return [...found, publicMirror].filter(
    (mirror, index, all) => all.findIndex((other) => plain(other.uri) === plain(mirror.uri)) === index,
  );
}

/**
 * Downloads `packages` (`name` or `name=version`, where the version may end in `*`) of `suite` and unpacks them, so that
 * `target` either holds all of them or does not exist.
 */
export async function unpackDebs(
  mirror: Mirror,
  suite: string,
  packages: readonly string[],
  target: string,
): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  const work = await mkdtemp(`${target}.`);
  try {
    const root = join(work, "root");
    for (const name of ["state/lists/partial", "cache/archives/partial", "parts", "debs", "root"]) {
      await mkdir(join(work, name), { recursive: true });
    }
    await writeFile(join(work, "private.sources"), stanza(mirror, suite));
    const options = privateApt(work);
    await run("apt-get", [...options, "update"], { timeoutMs: 120_000 });
    await run("apt-get", [...options, "download", ...packages], { cwd: join(work, "debs"), timeoutMs: 120_000 });
    for (const deb of await readdir(join(work, "debs"))) await run("dpkg", ["-x", join(work, "debs", deb), root]);
    await rm(target, { recursive: true, force: true });
    await rename(root, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function privateApt(work: string): string[] {
  const settings = {
    "Dir::Etc::sourcelist": join(work, "private.sources"),
    "Dir::Etc::sourceparts": join(work, "parts"),
    "Dir::State": join(work, "state"),
    "Dir::State::status": "/var/lib/dpkg/status",
    "Dir::Cache": join(work, "cache"),
    "APT::Sandbox::User": "root", // apt's own user cannot write below the repository
    "APT::Update::Error-Mode": "any", // else an unreachable mirror is only a warning
  };
  return [...aptPatience, ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
}

function stanza(mirror: Mirror, suite: string): string {
  const fields = ["Types: deb", `URIs: ${mirror.uri}`, `Suites: ${suite}`, "Components: main"];
  if (mirror.signedBy !== undefined) fields.push(`Signed-By: ${mirror.signedBy}`);
  return `${fields.join("\n")}\n`;
}

async function readSources(etcApt: string): Promise<{ name: string; text: string }[]> {
  const parts = join(etcApt, "sources.list.d");
  const names = await readdir(parts).catch(whenMissing<string[]>([]));
  const files = [join(etcApt, "sources.list")].concat(
    names.filter((name) => /\.(?:list|sources)$/.test(name)).map((name) => join(parts, name)),
  );
  return Promise.all(files.map(async (name) => ({ name, text: await readFile(name, "utf8").catch(whenMissing("")) })));
}

function whenMissing<T>(instead: T): (error: unknown) => T {
  return (error) => {
    if (hasCode(error, "ENOENT")) return instead;
    throw error;
  };
}

/** The one-line form: `deb [signed-by=…] uri suite component…`; see sources.list(5). */
function fromLines(text: string, release: string): Mirror[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uri>\S+)\s+(?<suite>\S+)\s+(?<components>[^#]*)/.exec(
      line,
    );
    const { options = "", uri = "", suite, components = "" } = match?.groups ?? {};
    if (suite !== release || !components.split(/\s+/).includes("main")) return [];
    return [{ uri, signedBy: /signed-by=(\S+)/.exec(options)?.[1] }];
  });
}

/** The deb822 form: stanzas of fields, continued on indented lines; see sources.list(5). */
function fromStanzas(text: string, release: string): Mirror[] {
  const withoutComments = text.replace(/^#.*\n?/gm, "");
  return withoutComments.split(/\n\s*\n/).flatMap((block) => {
    const fields = new Map(
      [...block.matchAll(/^(?<name>[A-Za-z-]+):(?<value>.*(?:\n[ \t].*)*)/gm)].map((match) => [
        (match.groups?.["name"] ?? "").toLowerCase(),
        (match.groups?.["value"] ?? "").trim(),
      ]),
    );
    const words = (name: string): string[] => (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
    const usable =
      fields.get("enabled")?.toLowerCase() !== "no" &&
      words("types").includes("deb") &&
      words("suites").includes(release) &&
      words("components").includes("main");
    return usable ? words("uris").map((uri) => ({ uri, signedBy: fields.get("signed-by") })) : [];
  });
}

function plain(uri: string): string {
  return uri.replace(/^https?:\/\//, "").replace(/\/+$/, "");
}
