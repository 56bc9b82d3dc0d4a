/**
 * What the box is doing, asked often while that changes and seldom while it does not.
 *
 * @typedef {import('./api.js').Readiness} Readiness
 */

const POLL_CHANGING_MS = 1500;
const POLL_SETTLED_MS = 30_000;

export class BoxStatus {
  /** @type {Readiness | null} null until the first answer */
  current = null;
  /** @type {Set<(readiness: Readiness) => void>} */
  #listeners = new Set();
  #timer = 0;
  /** @type {Promise<Readiness> | null} */
  #asking = null;

  /** @param {import('./api.js').BoxApi} api */
  constructor(api) {
    this.api = api;
  }

  start() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) void this.refresh();
    });
    void this.refresh();
  }

  /** Asks now; calls while a question is open share its answer. @returns {Promise<Readiness>} */
  refresh() {
    this.#asking ??= this.api.readiness().then((readiness) => {
      this.#asking = null;
      this.current = readiness;
      clearTimeout(this.#timer);
      const delay = readiness.state === 'ready' ? POLL_SETTLED_MS : POLL_CHANGING_MS;
      this.#timer = setTimeout(() => void this.refresh(), delay);
      for (const listener of [...this.#listeners]) listener(readiness);
      return readiness;
    });
    return this.#asking;
  }

  /** @param {(readiness: Readiness) => void} listener @returns {() => void} stops the calls */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
