/** What is being written: the text of each chat's draft, its files, and how much of the context it would take. */

import { effect, signal } from '@preact/signals';
import { ApiError, asApiError, isAbort } from '../api/errors.js';
import type { Box } from '../api/box.js';
import type { Attachment, Count } from '../api/types.js';
import type { Conversation } from './conversation.js';
import type { Prefs } from './prefs.js';
import type { Session } from './session.js';

const COUNT_DELAY_MS = 400;

export interface FileInWork {
  key: number;
  name: string;
  error: ApiError | null;
}

export class Composer {
  readonly text = signal('');
  readonly files = signal<Attachment[]>([]);
  readonly inWork = signal<FileInWork[]>([]);
  readonly count = signal<Count | null>(null);
  #chatId: number | null | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #call: AbortController | null = null;
  #next = 0;

  constructor(
    private readonly box: Box,
    private readonly conversation: Conversation,
    private readonly session: Session,
    private readonly prefs: Prefs,
  ) {
    // Another chat has another draft; a new chat that has just got its name keeps what stands there.
    effect(() => {
      const id = conversation.chatId.value;
      if (id === this.#chatId) return;
      const named = this.#chatId === null && id !== null && conversation.pending.peek() !== null;
      this.#chatId = id;
      if (named) return;
      this.text.value = prefs.draft(id);
      this.files.value = [];
      this.inWork.value = [];
    });
    effect(() => {
      if (session.phase.value === 'inside') this.text.value = prefs.draft(conversation.chatId.peek());
    });
    effect(() => {
      void [this.text.value, this.files.value, conversation.path.value, prefs.model.value, session.models.value];
      if (session.phase.value === 'inside') this.#countSoon(conversation.busy.value);
    });
  }

  write(text: string): void {
    this.text.value = text;
    this.prefs.keepDraft(this.conversation.chatId.value, text);
  }

  get ready(): boolean {
    return (
      !this.conversation.busy.value &&
      this.inWork.value.every((file) => file.error !== null) &&
      this.text.value.trim() !== ''
    );
  }

  async send(): Promise<void> {
    if (!this.ready) return;
    const content = this.text.value.trim();
    const files = this.files.value;
    this.write('');
    this.files.value = [];
    this.inWork.value = [];
    await this.conversation.ask(content, files);
  }

  /** A message that was not sent comes back to be changed. */
  takeBack(): void {
    const pending = this.conversation.takeBack();
    if (pending === null || pending.content === null) return;
    if (this.text.value === '') this.write(pending.content);
    if (this.files.value.length === 0) this.files.value = pending.attachments;
  }

  async attach(files: Iterable<File>): Promise<void> {
    await Promise.all([...files].map((file) => this.#attachOne(file)));
  }

  async #attachOne(file: File): Promise<void> {
    const key = (this.#next += 1);
    const chat = this.#chatId;
    this.inWork.value = [...this.inWork.value, { key, name: file.name, error: null }];
    try {
      // A box that stops reading in the middle looks like a broken network.
      const most = this.session.limits.value?.attachment_bytes ?? null;
      if (most !== null && file.size > most) throw new ApiError({ code: 'file_too_large' });
      const attachment = await this.box.attach(file, this.session.model.value?.id ?? null);
      this.dismiss(key);
      if (this.#chatId === chat) this.files.value = [...this.files.value, attachment];
    } catch (error) {
      const problem = asApiError(error);
      this.inWork.value = this.inWork.value.map((one) => (one.key === key ? { ...one, error: problem } : one));
    }
  }

  dismiss(key: number): void {
    this.inWork.value = this.inWork.value.filter((one) => one.key !== key);
  }

  async detach(id: number): Promise<void> {
    this.files.value = this.files.value.filter((one) => one.id !== id);
    await this.box.detach(id).catch(() => undefined); // the box forgets unused files by itself
  }

  /** What the shown model may hold; null when the box does not say. */
  get contextTokens(): number | null {
    return this.count.value?.context_tokens ?? this.session.model.value?.context_tokens ?? null;
  }

  #countSoon(busy: boolean): void {
    clearTimeout(this.#timer);
    this.#call?.abort();
    const chatId = this.conversation.chatId.value;
    if (busy) return;
    // Without a new question the figures of the last answer stand.
    if (this.text.value.trim() === '' && this.files.value.length === 0) {
      this.count.value = null;
      return;
    }
    this.#timer = setTimeout(() => void this.#countNow(chatId), COUNT_DELAY_MS);
  }

  async #countNow(chatId: number | null): Promise<void> {
    const call = new AbortController();
    this.#call = call;
    try {
      const parentId = this.conversation.lastId;
      const question = this.conversation.question({ parentId, content: this.text.value.trim() || ' ', attachments: this.files.value });
      const count = await this.box.count(chatId, question, call.signal);
      if (!call.signal.aborted) this.count.value = count;
    } catch (error) {
      // No meter is better than a wrong one; a message that is too long is refused with its numbers anyway.
      if (!isAbort(error) && !call.signal.aborted) this.count.value = null;
    }
  }
}
