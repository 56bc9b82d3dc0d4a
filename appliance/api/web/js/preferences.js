/**
 * What the browser keeps for the reader besides chats: key, language, colours, drafts. Any storage call may throw
 * (private mode, blocked storage): then the setting lives as long as the page.
 *
 * The key is in sessionStorage, so that it goes with the tab, unless the reader chose to be remembered here.
 */

const KEY = 'r1box.key';
const LANGUAGE = 'r1box.language';
const THEME = 'r1box.theme';
const CURRENT = 'r1box.current';
const DRAFT = 'r1box.draft.';

/** A Storage that forgets with the page, for browsers that refuse the real one. @implements {Storage} */
export class MemoryStorage {
  /** @type {Map<string, string>} */
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  /** @param {number} index */
  key(index) {
    return [...this.#items.keys()][index] ?? null;
  }
  /** @param {string} name */
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  /** @param {string} name @param {string} value */
  setItem(name, value) {
    this.#items.set(name, String(value));
  }
  /** @param {string} name */
  removeItem(name) {
    this.#items.delete(name);
  }
  clear() {
    this.#items.clear();
  }
}

/** @param {() => Storage} open @returns {Storage} */
export function usableStorage(open) {
  try {
    const storage = open();
    storage.setItem('r1box.probe', '1');
    storage.removeItem('r1box.probe');
    return storage;
  } catch {
    return new MemoryStorage();
  }
}

export class Preferences {
  #local;
  #session;

  /** @param {Storage} local @param {Storage} session */
  constructor(local, session) {
    this.#local = local;
    this.#session = session;
  }

  /** @returns {string | null} */
  get key() {
    return this.#session.getItem(KEY) ?? this.#local.getItem(KEY);
  }

  /** True when key and chats outlive the tab. */
  get remembered() {
    return this.#local.getItem(KEY) !== null;
  }

  /** Where chats belong now. @returns {Storage} */
  get chatStorage() {
    return this.remembered ? this.#local : this.#session;
  }

  /** @param {string} key @param {boolean} remember */
  signIn(key, remember) {
    this.signOut();
    (remember ? this.#local : this.#session).setItem(KEY, key);
  }

  signOut() {
    this.#local.removeItem(KEY);
    this.#session.removeItem(KEY);
  }

  /** 'en', 'zh' or null for the browser's. @returns {string | null} */
  get language() {
    return this.#local.getItem(LANGUAGE);
  }
  set language(value) {
    this.#setting(LANGUAGE, value);
  }

  /** 'light', 'dark' or null for the browser's. @returns {string | null} */
  get theme() {
    return this.#local.getItem(THEME);
  }
  set theme(value) {
    this.#setting(THEME, value);
  }

  /** The chat that is open in this tab. @returns {string | null} */
  get currentChat() {
    return this.#session.getItem(CURRENT);
  }
  set currentChat(id) {
    if (id === null) this.#session.removeItem(CURRENT);
    else this.#session.setItem(CURRENT, id);
  }

  /** Text typed but not sent, per chat; '' stands for a chat not begun. @param {string} chatId */
  draft(chatId) {
    return this.#session.getItem(DRAFT + chatId) ?? '';
  }

  /** @param {string} chatId @param {string} text */
  saveDraft(chatId, text) {
    try {
      if (text === '') this.#session.removeItem(DRAFT + chatId);
      else this.#session.setItem(DRAFT + chatId, text);
    } catch {
      // A draft larger than the storage stays in the text field only.
    }
  }

  forgetDrafts() {
    const names = Array.from({ length: this.#session.length }, (_, index) => this.#session.key(index));
    for (const name of names) if (name?.startsWith(DRAFT)) this.#session.removeItem(name);
  }

  /** @param {string} name @param {string | null} value */
  #setting(name, value) {
    if (value === null) this.#local.removeItem(name);
    else this.#local.setItem(name, value);
  }
}

/**
 * The key in an address like `http://box:8080/#key=r1b_...`, as `make run` prints it; null when there is none.
 * @param {string} hash location.hash
 */
export function keyInFragment(hash) {
  const key = new URLSearchParams(hash.replace(/^#/, '')).get('key')?.trim();
  return key ? key : null;
}
