/** What counts as a promise: anything with a `then`, because query builders and other realms' promises have one too. */

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    ((typeof value === "object" && value !== null) || typeof value === "function") &&
    "then" in value &&
    typeof value.then === "function"
  );
}

/** For what a user's hook returned, which nobody waits for: where it is a promise, its rejection goes to `failed`. */
export function onRejection(returned: unknown, failed: (error: unknown) => void): void {
  if (isThenable(returned)) returned.then(undefined, failed);
}
