/** Every URL form: parsed as written, refused with a reason, and never shown with its password. */

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress, redactUrl } from "../../src/core/address.js";

const standalone = { kind: "standalone", host: "localhost", port: 6379, tls: false, database: 0 };

test.each([
  ["memory:", { kind: "memory" }],
  ["memory:tests", { kind: "memory", name: "tests" }],
  ["sqlite:", { kind: "sqlite", path: "./events.db" }],
  ["sqlite:./m.db", { kind: "sqlite", path: "./m.db" }],
  ["sqlite:/var/m.db", { kind: "sqlite", path: "/var/m.db" }],
  ["sqlite:///var/m.db", { kind: "sqlite", path: "/var/m.db" }],
])("%s", (url, address) => {
  expect(parseAddress(url)).toEqual(address);
});

test.each([
  ["redis://localhost", standalone],
  ["  redis://localhost:6379\n", standalone],
  ["REDIS://localhost", standalone],
  ["redis://localhost/2", { ...standalone, database: 2 }],
  ["redis://localhost?db=2", { ...standalone, database: 2 }],
  ["redis://[::1]:7000", { ...standalone, host: "::1", port: 7000 }],
  ["redis://:p%40ss@localhost", { ...standalone, password: "p@ss" }],
  ["rediss://user:pw@localhost", { ...standalone, tls: true, username: "user", password: "pw" }],
  ["redis+unix:///run/redis.sock?db=1", { kind: "socket", path: "/run/redis.sock", tls: false, database: 1 }],
  [
    "redis-cluster://node1:6379,node2:6380,node3",
    {
      kind: "cluster",
      nodes: [
        { host: "node1", port: 6379 },
        { host: "node2", port: 6380 },
        { host: "node3", port: 6379 },
      ],
      tls: false,
      database: 0,
    },
  ],
  ["redis://my-cluster.example:6379", { ...standalone, host: "my-cluster.example" }],
  [
    "rediss-sentinel://u:p@s1:26379,s2/mymaster?db=3",
    {
      kind: "sentinel",
      sentinels: [
        { host: "s1", port: 26379 },
        { host: "s2", port: 26379 },
      ],
      primary: "mymaster",
      tls: true,
      username: "u",
      password: "p",
      database: 3,
    },
  ],
])("[D4] host, port, TLS, credentials, database, Sentinels and nodes are said in the URL: %s", (url, address) => {
  expect(parseAddress(url)).toEqual(address);
});

test.each([
  ["", "no scheme"],
  ["localhost:6379x", "none of ours"],
  ["localhost", "no scheme"],
  ["$REDIS_URL", "variable's name"],
  ["http://localhost", "none of ours"],
  ["redis:localhost", "//"],
  ["redis://", "no host"],
  ["redis://host:99999", "port"],
  ["redis://host:abc", "port"],
  ["redis://host:", "port"],
  ["redis://host/x", "database"],
  ["redis://host/-1", "database"],
  ["redis://a,b", "several hosts"],
  ["redis://u:p@ss@host", "%40"],
  ["redis://u:p#ss@host", "%23"],
  ["redis://u:%zz@host", "percent"],
  ["redis://host?tls=no", "unknown parameter"],
  ["redis-cluster://host/1", "only database 0"],
  ["redis-sentinel://host", "no primary"],
  ["redis+unix://host/run", "absolute path"],
  ["redis+unix:///tmp/%zz", "percent"],
  ["redis-sentinel://s1/primary/0/more", "behind the database"],
])("refuses %s", (url, reason) => {
  expect(() => parseAddress(url)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.stringContaining(reason) }),
  );
});

test("no message and no redacted URL ever holds the password", () => {
  const password = fc.stringMatching(/^[A-Za-z0-9/?#:@%!-]{6,20}$/).map((noise) => `CANARY${noise}`);
  fc.assert(
    fc.property(
      password,
      fc.constantFrom("redis", "rediss", "redis-cluster", "redis-sentinel", "http"),
      (secret, scheme) => {
        const url = `${scheme}://user:${secret}@host:99999/x`;
        expect(redactUrl(url)).not.toContain("CANARY");
        try {
          parseAddress(url);
          expect.fail("the port is out of range");
        } catch (error) {
          expect(String((error as Error).stack)).not.toContain("CANARY");
        }
      },
    ),
  );
});

test.each([
  ["a line feed in the credentials", "redis://user:hunter2\nx@host:99999"],
  ["white space in front", " redis://user:hunter2@localhost:99999"],
  ["a password as a parameter", "redis://host?password=hunter2"],
  ["a bare parameter", "redis://host?hunter2"],
  ["a fragment", "redis://host#hunter2"],
  ["a forgotten host", "redis://default:hunter2"],
  ["a forgotten host, and a password of digits", "redis://default:20022002"],
  ["a forgotten host, and a colon in the password", "redis://default:x:hunter2"],
  ["a forgotten host, and white space in the password", "redis://default:x hunter2"],
  ["a forgotten host, and a slash in the password", "redis://default:x/hunter2"],
  ["a forgotten host, and a question mark in the password", "redis://default:x?hunter2"],
  ["a forgotten host, and a comma in the password", "redis-cluster://default:x,hunter2"],
  ["a forgotten host behind a good one", "redis-cluster://n1:6379,default:hunter2"],
  ["an escaped @", "redis://default:hunter2%40host"],
  ["no scheme that could be one", "my_user:hunter2@host:6379"],
  ["no scheme, but slashes", "//u:hunter2@h"],
  ["nothing but a password", ":hunter2@h:1"],
  ["neither scheme nor host", "default:hunter2"],
  ["a scheme of somebody else", "redsi://default:hunter2"],
])("shows no password in spite of %s", (_, url) => {
  expect(redactUrl(url)).not.toMatch(/hunter2|20022002/);
  try {
    parseAddress(url);
    expect.fail("it should be refused");
  } catch (error) {
    expect(error).toMatchObject({ code: "CONFIG" });
    expect(String((error as Error).stack)).not.toMatch(/hunter2|20022002/);
  }
});

test.each([
  ["  redis://user:pw@localhost:6379/0?db=1\n", "redis://user:***@localhost:6379/0?db=1"],
  ["redis://:pw@localhost", "redis://:***@localhost"],
  ["redis://token@localhost", "redis://:***@localhost"],
  ["redis://token:@localhost", "redis://:***@localhost"],
  ["redis-cluster://n1:6379,[::1]:6380,n3", "redis-cluster://n1:6379,[::1]:6380,n3"],
  ["redis://localhost?db=2&password=x", "redis://localhost?db=2&password=***"],
  ["redis+unix:///run/redis.sock?db=1", "redis+unix:///run/redis.sock?db=1"],
  ["sqlite:C:\\data,1:2.db", "sqlite:C:\\data,1:2.db"],
  ["memory:tests:7", "memory:tests:7"],
])("shows of %j what helps: %s", (url, shown) => {
  expect(redactUrl(url)).toBe(shown);
});

test.each([[5], [null], [new URL("redis://u:hunter2@h")]])("refuses %s, which is no text", (url) => {
  expect(() => parseAddress(url as never)).toThrow(
    expect.objectContaining({ code: "CONFIG", message: expect.not.stringContaining("hunter2") }),
  );
});
