/** Server-sent events out of a fetched body: EventSource cannot send a key, nor say what status it was refused with. */

import { ApiError, isAbort } from './errors.js';

export interface ServerEvent {
  id: string | null;
  name: string;
  data: string;
}

/** Cuts text that arrives in any pieces into events (WHATWG HTML, 9.2). */
export class SseParser {
  #rest = '';
  #id: string | null = null;
  #name = '';
  #data: string[] = [];

  feed(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0)
          events.push({ id: this.#id, name: this.#name || 'message', data: this.#data.join('\n') });
        this.#name = '';
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue; // a comment keeps the connection alive
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'data') this.#data.push(value);
      else if (field === 'event') this.#name = value;
      else if (field === 'id') this.#id = value;
    }
    return events;
  }
}

/** A connection that breaks is the same to readers as one that could not be made. */
async function read(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError({ code: 'network' });
  }
}

/** The events of a response's body until it ends. Aborting the fetch surfaces as the browser's AbortError. */
export async function* readEvents(response: Response): AsyncGenerator<ServerEvent, void, void> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await read(reader);
      for (const event of parser.feed(done ? decoder.decode() : decoder.decode(value, { stream: true }))) yield event;
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => undefined); // already closed or aborted: nothing left to cancel
  }
}
