/** What SQLite's result codes, and the file system's, mean to a caller. */

import {
  ConfigError,
  ConnectionError,
  LimitError,
  OutOfMemoryError,
  SignalboxError,
  TimeoutError,
  toError,
} from "../../core/errors.js";

/** Primary result codes: https://sqlite.org/rescode.html */
const CODES = {
  BUSY: 5,
  LOCKED: 6,
  NOMEM: 7,
  READONLY: 8,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  TOOBIG: 18,
  NOTADB: 26,
} as const;

/** What SQLite itself says for them: `sqlite3ErrStr` in main.c. */
const TEXTS: Readonly<Record<keyof typeof CODES, string>> = {
  BUSY: "database is locked",
  LOCKED: "database table is locked",
  NOMEM: "out of memory",
  READONLY: "attempt to write a readonly database",
  IOERR: "disk I/O error",
  CORRUPT: "database disk image is malformed",
  FULL: "database or disk is full",
  CANTOPEN: "unable to open database file",
  TOOBIG: "string or blob too big",
  NOTADB: "file is not a database",
};

/** The primary result code of a driver's error; undefined where it is none. */
export function codeOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  if ("errcode" in error && typeof error.errcode === "number") return error.errcode & 0xff;
  if (!("code" in error) || typeof error.code !== "string") return undefined;
  // @photostructure/sqlite gives no number where a statement fails after its first row.
  if (error.code === "ERR_SQLITE_ERROR") return codeWhere((name) => error.message.startsWith(TEXTS[name]));
  // better-sqlite3: SQLITE_BUSY, SQLITE_IOERR_WRITE …
  const [, primary] = /^SQLITE_([A-Z]+)/.exec(error.code) ?? [];
  return codeWhere((name) => name === primary);
}

function codeWhere(matches: (name: keyof typeof CODES) => boolean): number | undefined {
  // The keys of a constant are what its type says.
  const name = (Object.keys(CODES) as (keyof typeof CODES)[]).find(matches);
  return name === undefined ? undefined : CODES[name];
}

/** Drivers also throw errors without a result code, such as for a closed database. */
function isDriverError(error: Error): boolean {
  return codeOf(error) !== undefined || ("code" in error && /^(ERR_|SQLITE_)/.test(String(error.code)));
}

export function isBusy(error: unknown): boolean {
  const code = codeOf(error);
  return code === CODES.BUSY || code === CODES.LOCKED;
}

/** The store refuses to grow: on the disk, or by `max_page_count`. */
export function isFull(error: unknown): boolean {
  return codeOf(error) === CODES.FULL;
}

/** The typed error for what a driver threw. What is not a driver's is a defect, and stays as it is. */
export function translate(error: unknown, path: string): Error {
  const cause = toError(error);
  if (error instanceof SignalboxError || !isDriverError(cause)) return cause;
  const because = `${path}: ${cause.message}`;
  switch (codeOf(error)) {
    case CODES.BUSY:
    case CODES.LOCKED:
      return new TimeoutError(`another process has kept the SQLite file locked for too long: ${because}`, { cause });
    case CODES.FULL:
    case CODES.NOMEM:
      return new OutOfMemoryError(`no room for the SQLite file to grow: ${because}; free disk space`, { cause });
    case CODES.READONLY:
      return new ConfigError(
        [
          `the SQLite file cannot be written: ${because}; it, its -wal and -shm files and their directory must be writable`,
        ],
        { cause },
      );
    case CODES.CORRUPT:
    case CODES.NOTADB:
      return new ConfigError(
        [
          `the SQLite file is damaged or is no database: ${because}; nothing was changed. Restore a copy, or move it away ` +
            'and save what can be read with "sqlite3 <file> .recover"',
        ],
        { cause },
      );
    case CODES.CANTOPEN:
      return new ConfigError([`the SQLite file cannot be opened: ${because}`], { cause });
    case CODES.TOOBIG:
      return new LimitError(`too big for SQLite: ${because}`, { cause });
    default:
      return new ConnectionError(`SQLite failed: ${because}`, { cause });
  }
}

/** The typed error for what the file system threw about a file beside the database. */
export function translateFileError(error: unknown, path: string): Error {
  const cause = toError(error);
  const because = `${path}: ${cause.message}`;
  const { code, syscall }: NodeJS.ErrnoException = cause;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      // To Linux, too many watched files are a lack of space as well.
      if (syscall === "watch") return new LimitError(`no more files can be watched: ${because}`, { cause });
      return new OutOfMemoryError(`no room for a file to grow: ${because}; free disk space`, { cause });
    case "EMFILE":
    case "ENFILE":
      return new LimitError(`too many files are open or watched: ${because}`, { cause, retryable: true });
    case "EACCES":
    case "EPERM":
    case "EROFS":
    case "EISDIR":
      return new ConfigError([`a file cannot be read and written: ${because}`], { cause });
    default:
      return new ConnectionError(`a file failed: ${because}`, { cause });
  }
}
