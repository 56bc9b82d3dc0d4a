/** What this browser keeps: language, colours, the key in key mode, drafts. Storage may be blocked; then it is memory. */

import { effect, signal } from '@preact/signals';
import { type I18n, pickLanguage } from '../i18n/index.js';
import type { LanguageCode } from '../api/types.js';

export type Theme = 'light' | 'dark';

const KEY = 'r1box.key';
const LANGUAGE = 'r1box.language';
const THEME = 'r1box.theme';
const EFFORT = 'r1box.effort';
const MODEL = 'r1box.model';
const DRAFT = 'r1box.draft.';

/** A Storage that never throws. */
class Shelf {
  #memory = new Map<string, string>();

  constructor(private readonly find: () => Storage) {}

  get(name: string): string | null {
    try {
      return this.find().getItem(name);
    } catch {
      return this.#memory.get(name) ?? null;
    }
  }

  set(name: string, value: string | null): void {
    try {
      if (value === null) this.find().removeItem(name);
      else this.find().setItem(name, value);
    } catch {
      if (value === null) this.#memory.delete(name);
      else this.#memory.set(name, value);
    }
  }

  names(): string[] {
    try {
      return Object.keys(this.find());
    } catch {
      return [...this.#memory.keys()];
    }
  }
}

export class Prefs {
  readonly #lasting = new Shelf(() => localStorage);
  readonly #tab = new Shelf(() => sessionStorage);
  /** null: as in the browser. */
  readonly language = signal<LanguageCode | null>(this.#language());
  /** null: as in the system. */
  readonly theme = signal<Theme | null>(this.#theme());
  readonly model = signal<string | null>(this.#lasting.get(MODEL));
  readonly effort = signal<string | null>(this.#lasting.get(EFFORT));

  constructor(i18n: I18n) {
    effect(() => {
      i18n.language.value = pickLanguage(this.language.value, navigator.languages);
      document.documentElement.lang = i18n.locale;
      this.#lasting.set(LANGUAGE, this.language.value);
    });
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const paint = (): void => {
      document.documentElement.dataset.theme = this.theme.value ?? (dark.matches ? 'dark' : 'light');
    };
    dark.addEventListener('change', paint);
    effect(() => {
      this.#lasting.set(THEME, this.theme.value);
      paint();
    });
    effect(() => this.#lasting.set(MODEL, this.model.value));
    effect(() => this.#lasting.set(EFFORT, this.effort.value));
  }

  key(): string | null {
    return this.#tab.get(KEY) ?? this.#lasting.get(KEY);
  }

  keyIsRemembered(): boolean {
    return this.#lasting.get(KEY) !== null;
  }

  /** On this computer, or for this tab alone. */
  keepKey(key: string, remember: boolean): void {
    this.#lasting.set(KEY, remember ? key : null);
    this.#tab.set(KEY, key);
  }

  forgetKey(): void {
    this.#lasting.set(KEY, null);
    this.#tab.set(KEY, null);
  }

  draft(chatId: number | null): string {
    return this.#tab.get(DRAFT + String(chatId ?? 'new')) ?? '';
  }

  keepDraft(chatId: number | null, text: string): void {
    this.#tab.set(DRAFT + String(chatId ?? 'new'), text === '' ? null : text);
  }

  forgetDrafts(): void {
    for (const name of this.#tab.names()) if (name.startsWith(DRAFT)) this.#tab.set(name, null);
  }

  #language(): LanguageCode | null {
    const kept = this.#lasting.get(LANGUAGE);
    return kept === 'en' || kept === 'zh' ? kept : null;
  }

  #theme(): Theme | null {
    const kept = this.#lasting.get(THEME);
    return kept === 'light' || kept === 'dark' ? kept : null;
  }
}
