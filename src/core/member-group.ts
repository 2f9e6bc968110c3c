/** One group as this broker has it: whom it holds there, and what it knows of it while somebody watches. */

import type { GroupVersion } from "./backend.js";
import { Enrolment, type EnrolmentOptions } from "./enrolment.js";
import { GroupView, type ViewListener, type ViewOptions } from "./group-view.js";

/** What was expected of the store when it was asked. */
export interface Expected {
  readonly held: number | undefined;
  readonly view: number | undefined;
}

export class MemberGroup {
  readonly enrolment: Enrolment;
  readonly #viewOptions: ViewOptions;
  #view: GroupView | undefined;

  constructor(enrolment: EnrolmentOptions, view: ViewOptions) {
    this.enrolment = new Enrolment(enrolment);
    this.#viewOptions = view;
  }

  get view(): GroupView | undefined {
    return this.#view;
  }

  get isIdle(): boolean {
    return this.enrolment.isIdle && this.#view === undefined;
  }

  /** @returns what is watched, once every change is heard */
  async watch(listener: ViewListener): Promise<GroupView> {
    const view = (this.#view ??= new GroupView(this.#viewOptions));
    try {
      await view.add(listener);
      return view;
    } catch (error) {
      await this.#closeIfIdle(view);
      throw error;
    }
  }

  async unwatch(view: GroupView, listener: ViewListener): Promise<void> {
    view.remove(listener);
    await this.#closeIfIdle(view);
  }

  expected(): Expected {
    return { held: this.enrolment.held, view: this.#view?.version };
  }

  /** @returns whether the store has lost what it had been told */
  compare(found: GroupVersion, expected: Expected): boolean {
    if (expected.view !== undefined) this.#view?.compare(found.version, expected.view);
    const { held } = this.enrolment;
    return held !== undefined && held === expected.held && held !== found.held;
  }

  async #closeIfIdle(view: GroupView): Promise<void> {
    if (!view.isIdle) return;
    if (this.#view === view) this.#view = undefined;
    await view.close();
  }
}
