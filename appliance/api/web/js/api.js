/**
 * The box's HTTP API as this page uses it. The only module that fetches.
 *
 * @typedef {object} Usage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number | null} reasoning_tokens null when the box did not say
 *
 * @typedef {{type: 'queued', position: number, wait_s: number | null}
 *   | {type: 'reasoning', text: string}
 *   | {type: 'content', text: string}
 *   | {type: 'finish', reason: string}
 *   | {type: 'usage', usage: Usage}} ChatEvent
 *
 * @typedef {object} Readiness
 * @property {string} state ready, starting, stopped, draining, stopping, failed or unreachable
 * @property {string | null} model
 * @property {number | null} load_fraction 0 to 1
 * @property {number | null} context_tokens what a chat with the loaded model may hold
 * @property {string | null} error
 *
 * @typedef {{id: string, context_tokens: number | null}} Model
 */

import { SseParser } from './sse.js';

/** What went wrong, in fields: views turn it into words and next steps. */
export class ApiError extends Error {
  /**
   * @param {object} fields
   * @param {string} fields.code the box's code, or network, stream_ended, bad_answer
   * @param {string} [fields.message] the box's own sentence; may hold exact numbers
   * @param {string | null} [fields.hint]
   * @param {number | null} [fields.status] HTTP status; null when there was none
   * @param {number | null} [fields.retry_after_s]
   */
  constructor({ code, message = '', hint = null, status = null, retry_after_s = null }) {
    super(message || code);
    this.name = 'ApiError';
    this.code = code;
    this.detail = message;
    this.hint = hint;
    this.status = status;
    this.retry_after_s = retry_after_s;
  }
}

/** @param {unknown} value */
const numberOrNull = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : null);

/** @param {unknown} value */
const textOrNull = (value) => (typeof value === 'string' && value !== '' ? value : null);

/**
 * The error in an OpenAI envelope; a body that is none (a proxy's HTML page) still gives a usable error.
 * @param {any} body
 * @param {number | null} status
 * @param {number | null} retryAfterS
 */
export function errorOf(body, status, retryAfterS) {
  const error = body?.error;
  const message = textOrNull(error?.message) ?? textOrNull(error) ?? '';
  return new ApiError({
    code: textOrNull(error?.code) ?? textOrNull(error?.type) ?? (status === null ? 'stream_error' : `http_${status}`),
    message,
    hint: textOrNull(error?.hint),
    status,
    retry_after_s: retryAfterS,
  });
}

/**
 * The events in one chunk of a streamed chat completion, in the order a reader sees them.
 * @param {any} chunk
 * @returns {ChatEvent[]}
 */
export function eventsOfChunk(chunk) {
  if (chunk?.error) throw errorOf(chunk, null, null);
  /** @type {ChatEvent[]} */
  const events = [];
  const choice = chunk?.choices?.[0];
  const reasoning = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
  if (typeof reasoning === 'string' && reasoning !== '') events.push({ type: 'reasoning', text: reasoning });
  const content = choice?.delta?.content;
  if (typeof content === 'string' && content !== '') events.push({ type: 'content', text: content });
  if (typeof choice?.finish_reason === 'string') events.push({ type: 'finish', reason: choice.finish_reason });
  const usage = chunk?.usage;
  if (numberOrNull(usage?.completion_tokens) !== null && numberOrNull(usage?.prompt_tokens) !== null) {
    const reasoning_tokens = numberOrNull(usage.completion_tokens_details?.reasoning_tokens);
    const { prompt_tokens, completion_tokens } = usage;
    events.push({ type: 'usage', usage: { prompt_tokens, completion_tokens, reasoning_tokens } });
  }
  return events;
}

/**
 * `queued position=3 wait_s=22` as an event; null for any other comment (keep-alive).
 * @param {string} comment
 * @returns {ChatEvent | null}
 */
export function eventOfComment(comment) {
  if (!/^queued\b/.test(comment)) return null;
  const position = /\bposition=(\d+)/.exec(comment);
  const wait = /\bwait_s=(\d+(?:\.\d+)?)/.exec(comment);
  if (position === null) return null;
  return { type: 'queued', position: Number(position[1]), wait_s: wait === null ? null : Number(wait[1]) };
}

/** @param {Response} response */
function retryAfterOf(response) {
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

export class BoxApi {
  #base;
  #fetch;

  /**
   * @param {string} base the address of the page; the API lies beside it
   * @param {typeof fetch} fetchFunction
   */
  constructor(base, fetchFunction) {
    this.#base = base;
    this.#fetch = fetchFunction;
  }

  /** Never throws: a box that does not answer is a state too. @returns {Promise<Readiness>} */
  async readiness() {
    try {
      const response = await this.#request('readyz', { signal: AbortSignal.timeout?.(8000) });
      const body = await response.json(); // 503 carries the same body while the model loads
      const error = body.error;
      return {
        state: String(body.state ?? (response.ok ? 'ready' : 'failed')).toLowerCase(),
        model: textOrNull(body.model) ?? textOrNull(body.model?.id),
        load_fraction: numberOrNull(body.load_fraction),
        context_tokens: numberOrNull(body.context_tokens),
        error: textOrNull(error) ?? textOrNull(error?.message),
      };
    } catch {
      return { state: 'unreachable', model: null, load_fraction: null, context_tokens: null, error: null };
    }
  }

  /**
   * @param {string} key
   * @returns {Promise<Model[]>}
   */
  async models(key) {
    const response = await this.#request('v1/models', { headers: { Authorization: `Bearer ${key}` } });
    if (!response.ok) throw await this.#errorFrom(response);
    const body = await response.json();
    return (Array.isArray(body?.data) ? body.data : [])
      .filter((/** @type {any} */ model) => typeof model?.id === 'string')
      .map((/** @type {any} */ model) => ({
        id: model.id,
        context_tokens: numberOrNull(model.context_window),
      }));
  }

  /**
   * Streams one answer. Throws ApiError; an abort surfaces as the browser's AbortError.
   * @param {{key: string, body: object, signal: AbortSignal}} call
   * @returns {AsyncGenerator<ChatEvent, void, void>}
   */
  async *streamChat({ key, body, signal }) {
    const response = await this.#request('v1/chat/completions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream', Authorization: `Bearer ${key}` },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    });
    if (!response.ok) throw await this.#errorFrom(response);
    if (response.body === null || !(response.headers.get('Content-Type') ?? '').includes('text/event-stream')) {
      throw new ApiError({ code: 'bad_answer', status: response.status });
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new SseParser();
    let complete = false;
    try {
      for (;;) {
        const { done, value } = await this.#read(reader, signal);
        const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
        for (const event of parser.feed(text)) {
          if (event.type === 'comment') {
            const queued = eventOfComment(event.text);
            if (queued !== null) yield queued;
          } else if (event.data === '[DONE]') {
            return;
          } else {
            for (const chatEvent of eventsOfChunk(parseJson(event.data))) {
              complete ||= chatEvent.type === 'finish';
              yield chatEvent;
            }
          }
        }
        if (done) break;
      }
    } finally {
      reader.cancel().catch(() => undefined); // already closed or aborted: nothing left to cancel
    }
    if (!complete) throw new ApiError({ code: 'stream_ended' });
  }

  /**
   * @param {ReadableStreamDefaultReader<Uint8Array>} reader
   * @param {AbortSignal} signal
   */
  async #read(reader, signal) {
    try {
      return await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ApiError({ code: 'stream_ended' });
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   */
  async #request(path, init) {
    try {
      const common = { cache: 'no-store', credentials: 'same-origin', redirect: 'error' };
      return await this.#fetch(new URL(path, this.#base), /** @type {RequestInit} */ ({ ...common, ...init }));
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ApiError({ code: 'network' });
    }
  }

  /** @param {Response} response */
  async #errorFrom(response) {
    const body = await response.json().catch(() => null); // not JSON: the status has to do
    return errorOf(body, response.status, retryAfterOf(response));
  }
}

/** @param {string} text */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError({ code: 'bad_answer' });
  }
}
