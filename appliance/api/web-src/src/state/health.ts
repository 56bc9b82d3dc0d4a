/** Whether the model answers now: asked often while it does not, seldom while it does, not at all in a hidden tab. */

import { signal } from '@preact/signals';
import type { Box } from '../api/box.js';
import type { Readiness } from '../api/types.js';

const OFTEN_MS = 1500;
const SELDOM_MS = 15_000;

export class Health {
  readonly readiness = signal<Readiness | null>(null);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #running = false;
  #waiting: (() => void)[] = [];

  constructor(private readonly box: Box) {
    document.addEventListener('visibilitychange', () => {
      if (this.#running && !document.hidden) this.now();
    });
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.now();
  }

  stop(): void {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  now(): void {
    clearTimeout(this.#timer);
    void this.#ask();
  }

  /** Resolves at the next answer of the box, whatever it is. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async #ask(): Promise<void> {
    this.readiness.value = await this.box.readiness();
    for (const resolve of this.#waiting.splice(0)) resolve();
    if (!this.#running) return;
    clearTimeout(this.#timer);
    if (!document.hidden)
      this.#timer = setTimeout(() => this.now(), this.readiness.value.state === 'ready' ? SELDOM_MS : OFTEN_MS);
  }
}
