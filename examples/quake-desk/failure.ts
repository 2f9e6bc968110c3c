/** What went wrong in a way that the user can mend: shown as one line, without a stack. */
export class Failure extends Error {
  readonly exitCode: number;

  /** @param exitCode 2 when it was called wrongly */
  constructor(message: string, exitCode: 1 | 2 = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}
