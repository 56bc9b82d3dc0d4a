/**
 * One answer while the box writes it. The box writes whether or not anybody listens: a lost connection is taken up where
 * it was (Last-Event-ID), and a reload gets a snapshot of what there is.
 */

import { batch, signal } from '@preact/signals';
import { ApiError, asApiError, isAbort } from '../api/errors.js';
import type { Box } from '../api/box.js';
import type { ServerEvent } from '../api/sse.js';
import type { ErrorFields, Message, Queued, Usage } from '../api/types.js';

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 8000;

type Phase = 'waiting' | 'loading' | 'queued' | 'thinking' | 'answering';

export interface LiveEnds {
  /** The answer is over; `message` is the whole of it, null when the box no longer tells. */
  onEnd(message: Message | null): void;
  /** The connection broke: the box may be gone. */
  onLost: () => void;
}

export class LiveAnswer {
  /** Counts up at most once a frame; views read the texts when it changes. */
  readonly version = signal(0);
  readonly phase = signal<Phase>('waiting');
  readonly queued = signal<Queued | null>(null);
  /** How far the model is loaded that will answer. */
  readonly loadFraction = signal<number | null>(null);
  readonly usage = signal<Usage | null>(null);
  readonly connected = signal(true);
  readonly thinkingMs = signal<number | null>(null);
  readonly answerNowAsked = signal(false);
  readonly stopping = signal(false);
  readonly startedAt: number;
  reasoning: string;
  content: string;
  #thinkingSince: number | null = null;
  #lastId: string | null = null;
  #failed: ErrorFields | null = null;
  #abort = new AbortController();
  #frame = 0;
  #over = false;

  constructor(
    private readonly box: Box,
    readonly chatId: number,
    readonly message: Message,
    private readonly ends: LiveEnds,
  ) {
    this.reasoning = message.reasoning;
    this.content = message.content;
    const created = Date.parse(message.created_at);
    // The box's clock may be wrong; what it says is used only where it is plausible.
    this.startedAt = Math.abs(Date.now() - created) < 3_600_000 ? Math.min(created, Date.now()) : Date.now();
  }

  /** Listen until the answer is over or `close` is called. */
  async follow(): Promise<void> {
    let waitMs = FIRST_RETRY_MS;
    while (!this.#over && !this.#abort.signal.aborted) {
      try {
        const events = this.box.answerEvents(this.chatId, this.message.id, this.#lastId, this.#abort.signal);
        for await (const event of events) {
          this.connected.value = true;
          waitMs = FIRST_RETRY_MS;
          if (event.id !== null) this.#lastId = event.id;
          this.#take(event);
          if (this.#over) return;
        }
        // The box tells an error before the last event; alone it is the end.
        if (this.#failed !== null) {
          this.#end(this.#whole({ state: 'error', error: this.#failed }));
          return;
        }
      } catch (error) {
        if (isAbort(error) || this.#abort.signal.aborted) return;
        const problem = asApiError(error);
        if (problem.status === 404 || problem.code === 'page_error') {
          this.#end(null);
          return;
        }
        if (problem.status === 401) return; // the entry is shown already
      }
      this.connected.value = false;
      this.ends.onLost();
      await sleep(waitMs, this.#abort.signal);
      waitMs = Math.min(waitMs * 2, LONGEST_RETRY_MS);
    }
  }

  close(): void {
    this.#abort.abort();
    cancelAnimationFrame(this.#frame);
  }

  async stop(): Promise<void> {
    this.stopping.value = true;
    try {
      await this.box.stop(this.chatId, this.message.id);
    } catch (error) {
      this.stopping.value = false;
      throw error;
    }
  }

  async answerNow(): Promise<void> {
    this.answerNowAsked.value = true;
    try {
      await this.box.answerNow(this.chatId, this.message.id);
    } catch (error) {
      this.answerNowAsked.value = false;
      throw error;
    }
  }

  /** How long it has thought so far; null before it began. */
  get thoughtMs(): number | null {
    if (this.thinkingMs.value !== null) return this.thinkingMs.value;
    return this.#thinkingSince === null ? null : Date.now() - this.#thinkingSince;
  }

  #take(event: ServerEvent): void {
    const data = parse(event.data);
    switch (event.name) {
      case 'snapshot':
        this.#snapshot(data);
        break;
      case 'queued':
        batch(() => {
          this.phase.value = 'queued';
          this.queued.value = { position: Number(data.position), wait_s: numberOrNull(data.wait_s) };
        });
        break;
      case 'reasoning':
        this.#think();
        this.reasoning += String(data.text ?? '');
        this.#changed();
        break;
      case 'content':
        this.#answer();
        this.content += String(data.text ?? '');
        this.#changed();
        break;
      case 'usage':
        this.usage.value = data as unknown as Usage;
        break;
      case 'loading':
        batch(() => {
          this.phase.value = 'loading';
          this.loadFraction.value = numberOrNull(data.fraction);
        });
        break;
      case 'error':
        this.#failed = { code: String(data.code ?? 'generation_failed'), message: String(data.message ?? '') };
        break;
      case 'done':
        this.#end(this.#whole(data.message as Partial<Message>));
        break;
    }
  }

  /** The message as it ends: its texts are here already, the rest is told. */
  #whole(end: Partial<Message>): Message {
    return {
      ...this.message,
      ...end,
      reasoning: end.reasoning ?? this.reasoning,
      content: end.content ?? this.content,
      thinking_ms: end.thinking_ms ?? this.thinkingMs.value,
    };
  }

  #snapshot(data: Record<string, unknown>): void {
    this.reasoning = String(data.reasoning ?? '');
    this.content = String(data.content ?? '');
    if (this.content !== '') this.phase.value = 'answering';
    else if (this.reasoning !== '') {
      this.#thinkingSince = this.startedAt;
      this.phase.value = 'thinking';
    }
    this.#changed();
  }

  #think(): void {
    if (this.#thinkingSince === null) this.#thinkingSince = Date.now();
    if (this.phase.value !== 'thinking') this.phase.value = 'thinking';
  }

  #answer(): void {
    if (this.phase.value === 'answering') return;
    if (this.#thinkingSince !== null && this.thinkingMs.value === null)
      this.thinkingMs.value = Date.now() - this.#thinkingSince;
    this.phase.value = 'answering';
  }

  #changed(): void {
    // A hidden tab gets no frames; it is drawn when it is seen again.
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.version.value += 1;
    });
  }

  #end(message: Message | null): void {
    this.#over = true;
    cancelAnimationFrame(this.#frame);
    this.ends.onEnd(message);
  }
}

const numberOrNull = (value: unknown): number | null => (typeof value === 'number' ? value : null);

function parse(data: string): Record<string, unknown> {
  try {
    return JSON.parse(data) as Record<string, unknown>;
  } catch {
    throw new ApiError({ code: 'bad_answer' });
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    addEventListener('online', done, { once: true });
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      removeEventListener('online', done);
      resolve();
    }
  });
}
