/**
 * One answer being made: sends the question, retries while the box says 503, and writes what arrives into the answer.
 *
 * States, written only here:
 *   waiting -> queued -> waiting -> thinking -> answering -> ended
 *   waiting -> retrying -> waiting      (the box answered 503 and has not begun)
 * `ended` is reached exactly once, by finish, stop or error; the answer's own status says which.
 *
 * @typedef {import('./chat.js').Answer} Answer
 * @typedef {'waiting' | 'queued' | 'retrying' | 'thinking' | 'answering' | 'ended'} Phase
 */

import { ApiError } from './api.js';

const RETRY_DEFAULT_S = 3;
const RETRY_LONGEST_S = 30;
/** A box that is up and still says 503 this often is shown as an error; while it loads the page just waits. */
const MAX_BUSY_RETRIES = 6;
/** The box starts a model that failed again by itself; after this the reader is told that it did not help. */
const FAILED_PATIENCE_MS = 60_000;
/** Under this a speed says more about the network's buffers than about the model. */
const SHORTEST_MEASURED_MS = 500;

export class AnswerRun {
  /** @type {Phase} */
  phase = 'waiting';
  /** @type {{position: number, wait_s: number | null} | null} */
  queue = null;
  started_ms = performance.now();
  /** @type {number | null} */
  thinking_since_ms = null;
  /** @type {Set<(run: AnswerRun) => void>} */
  #listeners = new Set();
  #abort = new AbortController();
  /** @type {number | null} */
  #firstToken_ms = null;
  /** When the model was first seen to have failed. @type {number | null} */
  #failedSince_ms = null;

  /**
   * @param {object} parts
   * @param {import('./api.js').BoxApi} parts.api
   * @param {import('./status.js').BoxStatus} parts.status
   * @param {() => string} parts.key
   * @param {() => object} parts.body model and messages; asked at every attempt, since a model may have loaded meanwhile
   * @param {Answer} parts.answer filled in place
   * @param {number} [parts.failedPatience_ms] how long a failed model may take to come back
   */
  constructor({ api, status, key, body, answer, failedPatience_ms = FAILED_PATIENCE_MS }) {
    this.api = api;
    this.status = status;
    this.key = key;
    this.body = body;
    this.answer = answer;
    this.failedPatience_ms = failedPatience_ms;
  }

  get #outOfPatience() {
    return this.#failedSince_ms !== null && performance.now() - this.#failedSince_ms >= this.failedPatience_ms;
  }

  /** @param {(run: AnswerRun) => void} listener called after every change @returns {() => void} stops the calls */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop() {
    this.#abort.abort();
  }

  /** Ends when the answer has ended; never throws for what the box or the network did. */
  async start() {
    try {
      await this.#attempt();
      this.#end('done');
    } catch (error) {
      if (this.#abort.signal.aborted) return this.#end('stopped');
      if (!(error instanceof ApiError)) {
        this.#fail(new ApiError({ code: 'page_error', message: String(error) }));
        throw error; // our own mistake: show a card, and let the console have the stack
      }
      this.#fail(error);
    }
  }

  async #attempt() {
    for (let busy = 0; ;) {
      try {
        return await this.#stream();
      } catch (error) {
        const begun = this.answer.content !== '' || this.answer.reasoning !== '';
        if (!(error instanceof ApiError) || error.status !== 503 || begun) throw error;
        const readiness = await this.status.refresh();
        if (readiness.state === 'failed') {
          this.#failedSince_ms ??= performance.now();
          if (this.#outOfPatience) {
            throw new ApiError({ code: 'model_failed', message: readiness.error ?? error.detail, status: 503 });
          }
        }
        busy = readiness.state === 'ready' ? busy + 1 : 0;
        if (busy > MAX_BUSY_RETRIES) throw error;
        this.#enter('retrying');
        const wait_s = Math.min(error.retry_after_s ?? RETRY_DEFAULT_S, RETRY_LONGEST_S);
        await this.#pause(wait_s, readiness.state !== 'ready');
        this.#enter('waiting');
      }
    }
  }

  async #stream() {
    const stream = this.api.streamChat({ key: this.key(), body: this.body(), signal: this.#abort.signal });
    for await (const event of stream) {
      switch (event.type) {
        case 'queued':
          this.queue = event;
          this.#enter('queued');
          break;
        case 'reasoning':
          this.#mark('thinking');
          this.answer.reasoning += event.text;
          break;
        case 'content':
          this.#mark('answering');
          this.answer.content += event.text;
          break;
        case 'finish':
          this.answer.finish_reason = event.reason;
          break;
        case 'usage':
          this.answer.usage = event.usage;
          break;
      }
      this.#tell();
    }
  }

  /** Notes the times as tokens arrive. @param {'thinking' | 'answering'} phase */
  #mark(phase) {
    const now = performance.now();
    this.#firstToken_ms ??= now;
    if (phase === 'thinking') this.thinking_since_ms ??= now;
    else this.#endThinking(now);
    this.phase = phase;
  }

  /** @param {number} now */
  #endThinking(now) {
    if (this.thinking_since_ms !== null) this.answer.thought_ms ??= now - this.thinking_since_ms;
  }

  /**
   * Waits for the time, or, while the model loads, for it to be ready; a stop ends it.
   * @param {number} wait_s
   * @param {boolean} loading
   */
  #pause(wait_s, loading) {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        stopListening();
        this.#abort.signal.removeEventListener('abort', aborted);
        resolve(undefined);
      };
      const aborted = () => {
        clearTimeout(timer);
        stopListening();
        reject(this.#abort.signal.reason);
      };
      const timer = loading ? 0 : setTimeout(done, wait_s * 1000);
      const stopListening = this.status.subscribe((readiness) => {
        this.#tell(); // the load fraction shows in the waiting line
        const gone = readiness.state === 'failed' && this.#outOfPatience;
        if (loading && (readiness.state === 'ready' || gone)) done();
      });
      this.#abort.signal.addEventListener('abort', aborted);
      if (this.#abort.signal.aborted) aborted();
    });
  }

  /** @param {Phase} phase */
  #enter(phase) {
    this.phase = phase;
    this.#tell();
  }

  /** @param {ApiError} error */
  #fail(error) {
    const { code, detail, hint, status, retry_after_s } = error;
    this.answer.error = { code, detail, hint, status, retry_after_s };
    this.#end('failed');
  }

  /** @param {'done' | 'stopped' | 'failed'} status */
  #end(status) {
    const now = performance.now();
    this.#endThinking(now);
    this.answer.status = status;
    if (
      this.answer.usage !== null &&
      this.#firstToken_ms !== null &&
      now - this.#firstToken_ms >= SHORTEST_MEASURED_MS
    ) {
      // The first token came with the prompt's work; the rate is that of the others.
      const seconds = (now - this.#firstToken_ms) / 1000;
      this.answer.tokens_per_s = Math.max(0, this.answer.usage.completion_tokens - 1) / seconds;
    }
    this.#enter('ended');
    this.#listeners.clear();
  }

  #tell() {
    for (const listener of [...this.#listeners]) listener(this);
  }
}
