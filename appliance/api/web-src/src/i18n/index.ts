/** The words of the page in the language that is chosen. */

import { signal } from '@preact/signals';
import { ZH_CODES } from './codes.js';
import { EN } from './en.js';
import { ZH } from './zh.js';
import type { LanguageCode } from '../api/types.js';

export type TextKey = keyof typeof EN;
export type Values = Record<string, string | number>;
export type Text = (key: TextKey, values?: Values) => string;

const TABLES = { en: EN, zh: ZH };

/** The language to speak, from the reader's choice or else the browser's list. */
export function pickLanguage(chosen: string | null, preferred: readonly string[]): LanguageCode {
  return (chosen ?? preferred[0] ?? 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

export const fill = (template: string, values: Values): string =>
  template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));

/** Views that call `t` while they are drawn are drawn again when the language changes. */
export class I18n {
  readonly language = signal<LanguageCode>('en');

  get locale(): string {
    return this.language.value === 'zh' ? 'zh-CN' : 'en';
  }

  readonly t: Text = (key, values = {}) => fill(TABLES[this.language.value][key], values);

  /** What an error's code means, where the box's own words are not the reader's language; null where they are. */
  readonly meaning = (code: string): string | null =>
    this.language.value === 'zh' ? (ZH_CODES[code] ?? null) : null;

  /** An error in one line: by its code, or in the box's own words. */
  readonly said = ({ code, detail, hint }: { code: string; detail: string; hint: string | null }): string =>
    this.meaning(code) ?? [detail, hint].filter(Boolean).join(' ');

  readonly number = (value: number): string => value.toLocaleString(this.locale);

  /** 1,234 as it is; 16,384 as "16k", the form in which contexts are spoken of. */
  readonly short = (value: number): string =>
    value < 10_000 ? this.number(value) : `${Math.round(value / (value % 1024 === 0 ? 1024 : 1000))}k`;

  /** A duration as people say it. */
  readonly duration = (ms: number): string => {
    if (ms < 1000) return this.t('under_a_second');
    const whole = Math.round(ms / 1000);
    if (whole < 60) return this.t('seconds', { seconds: whole });
    return this.t('minutes', { minutes: Math.floor(whole / 60), seconds: whole % 60 });
  };

  readonly time = (iso: string): string =>
    new Date(iso).toLocaleString(this.locale, { dateStyle: 'medium', timeStyle: 'short' });
}
