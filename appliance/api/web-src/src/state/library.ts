/** The list of chats: search, pages, and the changes one can make to a chat without opening it. */

import { signal } from '@preact/signals';
import { type ApiError, asApiError, isAbort } from '../api/errors.js';
import type { Box } from '../api/box.js';
import type { ChatSummary } from '../api/types.js';

const SEARCH_DELAY_MS = 180;

export class Library {
  readonly chats = signal<ChatSummary[]>([]);
  /** Chats whose answers this page follows. */
  readonly answering = signal<ReadonlySet<number>>(new Set());
  readonly query = signal('');
  readonly loading = signal(false);
  readonly loaded = signal(false);
  readonly error = signal<ApiError | null>(null);
  readonly cursor = signal<string | null>(null);
  #search: ReturnType<typeof setTimeout> | undefined;
  #call: AbortController | null = null;
  /** A list that was read before one of these was deleted may come after it. */
  readonly #deleted = new Set<number>();

  constructor(private readonly box: Box) {}

  search(query: string): void {
    this.query.value = query;
    clearTimeout(this.#search);
    this.#search = setTimeout(() => void this.load(), SEARCH_DELAY_MS);
  }

  clear(): void {
    this.#call?.abort();
    this.chats.value = [];
    this.answering.value = new Set();
    this.query.value = '';
    this.loaded.value = false;
    this.cursor.value = null;
  }

  /** Read the list from its beginning; what more had been shown is read as needed. */
  async load(): Promise<void> {
    await this.#read(null);
  }

  async more(): Promise<void> {
    if (this.cursor.value !== null) await this.#read(this.cursor.value);
  }

  async #read(cursor: string | null): Promise<void> {
    this.#call?.abort();
    const call = new AbortController();
    this.#call = call;
    this.loading.value = true;
    try {
      const page = await this.box.chats(this.query.value.trim(), cursor, call.signal);
      const items = page.items.filter((chat) => !this.#deleted.has(chat.id));
      this.chats.value = cursor === null ? items : merge(this.chats.value, items);
      this.cursor.value = page.next_cursor;
      this.loaded.value = true;
      this.error.value = null;
    } catch (error) {
      if (!isAbort(error)) this.error.value = asApiError(error);
    } finally {
      if (this.#call === call) this.loading.value = false;
    }
  }

  /** Put a chat as it is now into the list, first if it is new. */
  note(chat: ChatSummary): void {
    const known = this.chats.value.find((one) => one.id === chat.id);
    if (known === undefined) this.chats.value = [chat, ...this.chats.value];
    else this.chats.value = this.chats.value.map((one) => (one.id === chat.id ? { ...one, ...chat } : one));
  }

  /** Whether an answer is being written in it. */
  mark(id: number, answering: boolean): void {
    const ids = new Set(this.answering.value);
    if (answering) ids.add(id);
    else ids.delete(id);
    this.answering.value = ids;
  }

  async rename(id: number, title: string): Promise<void> {
    this.note(await this.box.changeChat(id, { title }));
  }

  async pin(id: number, pinned: boolean): Promise<void> {
    this.note(await this.box.changeChat(id, { pinned }));
  }

  async remove(id: number): Promise<void> {
    await this.box.deleteChat(id);
    this.#deleted.add(id);
    this.chats.value = this.chats.value.filter((one) => one.id !== id);
  }

  async removeAll(): Promise<void> {
    await this.box.deleteAllChats();
    this.#call?.abort();
    this.chats.value = [];
    this.cursor.value = null;
  }
}

function merge(known: ChatSummary[], added: ChatSummary[]): ChatSummary[] {
  const ids = new Set(known.map((chat) => chat.id));
  return [...known, ...added.filter((chat) => !ids.has(chat.id))];
}

export interface Group {
  period: 'pinned' | 'today' | 'yesterday' | 'week' | 'older';
  chats: ChatSummary[];
}

/** Chats by the day they were used, pinned ones before, each group with the newest first. */
export function groupByPeriod(chats: readonly ChatSummary[], now: Date): Group[] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 86_400_000;
  const groups: Group[] = (['pinned', 'today', 'yesterday', 'week', 'older'] as const).map((period) => ({
    period,
    chats: [],
  }));
  const newestFirst = [...chats].sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at));
  for (const chat of newestFirst) {
    const at = Date.parse(chat.updated_at);
    const index = chat.pinned ? 0 : at >= midnight ? 1 : at >= midnight - day ? 2 : at >= midnight - 6 * day ? 3 : 4;
    groups[index]!.chats.push(chat);
  }
  return groups.filter((group) => group.chats.length > 0);
}
