/** Certificates as a test needs them, made by openssl. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tempDir } from "../../support/process.js";
import { run } from "../../support/run.js";

/** Paths of PEM files. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Certificate {
  /** Signs a certificate for a host name; `days` below 0 gives one that has expired. */
  sign(host: string, days?: number): Promise<Certificate>;
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A new authority, which nobody trusts by itself. */
export async function createAuthority(): Promise<Authority> {
  const dir = await tempDir();
  const file = (name: string): string => join(dir, name);
  const own = { cert: file("ca.pem"), key: file("ca.key") };
  await run("openssl", [
    "req",
    "-x509",
    ...NEW_KEY,
    "-days",
    "2",
    "-subj",
    "/CN=test",
    "-keyout",
    own.key,
    "-out",
    own.cert,
  ]);
  let count = 0;
  return {
    ...own,
    async sign(host, days = 2) {
      count += 1;
      const [cert, key, request, names] = ["pem", "key", "csr", "ext"].map((end) => file(`${count}.${end}`)) as [
        string,
        string,
        string,
        string,
      ];
      await writeFile(names, `subjectAltName=DNS:${host}`);
      await run("openssl", ["req", ...NEW_KEY, "-subj", `/CN=${host}`, "-keyout", key, "-out", request]);
      const signing = ["-CA", own.cert, "-CAkey", own.key, "-set_serial", String(count), "-days", String(days)];
      await run("openssl", ["x509", "-req", "-in", request, ...signing, "-extfile", names, "-out", cert]);
      return { cert, key };
    },
  };
}
