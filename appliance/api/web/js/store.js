/**
 * Chats kept in the browser: one entry per chat and one index, in the Storage it is given, bounded in number and size.
 *
 * The Storage is localStorage when the reader lets this computer remember them, else sessionStorage, which ends with the
 * tab. Several tabs may write: each chat is its own entry, so they do not overwrite each other's.
 *
 * @typedef {import('./chat.js').Chat} Chat
 * @typedef {{id: string, title: string, updated_ms: number, chars: number}} ChatEntry
 * @typedef {{stored: boolean, evicted: number}} SaveResult evicted: older chats that had to go
 * @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>} StorageLike
 */

const INDEX = 'r1box.chats';
const CHAT = 'r1box.chat.';

/** Browsers give an origin about 5 million characters; half of it is ours. */
export const MAX_CHARS = 2_500_000;
export const MAX_CHATS = 200;

export class ChatStore {
  #storage;
  #maxChars;
  #maxChats;

  /**
   * @param {StorageLike} storage
   * @param {{maxChars?: number, maxChats?: number}} [limits]
   */
  constructor(storage, { maxChars = MAX_CHARS, maxChats = MAX_CHATS } = {}) {
    this.#storage = storage;
    this.#maxChars = maxChars;
    this.#maxChats = maxChats;
  }

  /** Newest first. @returns {ChatEntry[]} */
  list() {
    const entries = parse(this.#storage.getItem(INDEX));
    if (!Array.isArray(entries)) return this.#rebuild();
    return entries.filter(isEntry).sort((a, b) => b.updated_ms - a.updated_ms);
  }

  /** @param {string} id @returns {Chat | null} */
  load(id) {
    const chat = parse(this.#storage.getItem(CHAT + id));
    return isChat(chat) ? chat : null;
  }

  /**
   * Writes a chat; the oldest others make room for it, and the caller tells the reader how many.
   * @param {Chat} chat
   * @returns {SaveResult}
   */
  save(chat) {
    const text = JSON.stringify(chat);
    const others = this.list().filter((entry) => entry.id !== chat.id);
    const entry = { id: chat.id, title: chat.title, updated_ms: chat.updated_ms, chars: text.length };
    let evicted = 0;
    let total = others.reduce((sum, other) => sum + other.chars, text.length);
    const evictOldest = () => {
      const oldest = others.pop();
      if (oldest === undefined) return false;
      total -= oldest.chars;
      evicted += 1;
      this.#storage.removeItem(CHAT + oldest.id);
      return true;
    };
    while (others.length > 0 && (total > this.#maxChars || others.length >= this.#maxChats)) evictOldest();
    for (;;) {
      try {
        this.#storage.setItem(CHAT + chat.id, text);
        this.#storage.setItem(INDEX, JSON.stringify([entry, ...others]));
        return { stored: true, evicted };
      } catch {
        // The browser's quota is smaller than our bound, or storage is switched off.
        if (!evictOldest()) {
          this.#writeIndex(others);
          return { stored: false, evicted };
        }
      }
    }
  }

  /** @param {string} id */
  remove(id) {
    this.#storage.removeItem(CHAT + id);
    this.#writeIndex(this.list().filter((entry) => entry.id !== id));
  }

  clear() {
    for (const id of this.#storedIds()) this.#storage.removeItem(CHAT + id);
    this.#storage.removeItem(INDEX);
  }

  /**
   * Entries whose title or messages hold every word of the query, newest first. An empty query finds all.
   * @param {string} query
   * @returns {ChatEntry[]}
   */
  search(query) {
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return this.list();
    return this.list().filter((entry) => {
      const messages = this.load(entry.id)?.messages ?? [];
      const text = [entry.title, ...messages.map((message) => message.content)].join('\n').toLocaleLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  /** Copies every chat into another store and empties this one. @param {ChatStore} other */
  moveTo(other) {
    for (const entry of this.list().reverse()) {
      const chat = this.load(entry.id);
      if (chat !== null) other.save(chat);
    }
    this.clear();
  }

  /** The index was lost or is broken: read it off the chats themselves. */
  #rebuild() {
    /** @type {ChatEntry[]} */
    const entries = [];
    for (const id of this.#storedIds()) {
      const chat = this.load(id);
      if (chat === null) this.#storage.removeItem(CHAT + id);
      else entries.push({ id, title: chat.title, updated_ms: chat.updated_ms, chars: JSON.stringify(chat).length });
    }
    entries.sort((a, b) => b.updated_ms - a.updated_ms);
    if (entries.length > 0) this.#writeIndex(entries);
    return entries;
  }

  #storedIds() {
    const ids = [];
    for (let i = 0; i < this.#storage.length; i += 1) {
      const name = this.#storage.key(i);
      if (name?.startsWith(CHAT)) ids.push(name.slice(CHAT.length));
    }
    return ids;
  }

  /** @param {ChatEntry[]} entries */
  #writeIndex(entries) {
    try {
      this.#storage.setItem(INDEX, JSON.stringify(entries));
    } catch {
      this.#storage.removeItem(INDEX); // no room even for this: list() reads it off the chats
    }
  }
}

/** @param {string | null} text @returns {unknown} */
function parse(text) {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {any} value @returns {value is ChatEntry} */
function isEntry(value) {
  return (
    typeof value?.id === 'string' &&
    typeof value.title === 'string' &&
    Number.isFinite(value.updated_ms) &&
    Number.isFinite(value.chars)
  );
}

/** @param {any} value @returns {value is Chat} */
function isChat(value) {
  return (
    typeof value?.id === 'string' &&
    typeof value.title === 'string' &&
    Number.isFinite(value.updated_ms) &&
    Array.isArray(value.messages) &&
    value.messages.every(
      (/** @type {any} */ message) =>
        (message?.role === 'user' || message?.role === 'assistant') && typeof message.content === 'string',
    )
  );
}
