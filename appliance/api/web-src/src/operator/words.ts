/** The operator area's words, and its numbers with their units. */

import { type I18n, fill, type Values } from '../i18n/index.js';
import { useStore } from '../state/store.js';
import { EN } from './en.js';
import { ZH_EVENTS, ZH_FINDINGS, ZH_FIXUPS } from './findings.js';
import { ZH } from './zh.js';

export type Word = keyof typeof EN;

export interface Words {
  i18n: I18n;
  w: (key: Word, values?: Values) => string;
  /** What an issue's, a finding's, a reason's or an event's code means, in another language than the box's words; null in theirs. */
  meaning: (code: string) => string | null;
  fixup: (button: { name: string; label: string }) => string;
  bytes: (value: number | null) => string;
  unit: (value: number | null, unit: string, digits?: number) => string;
  time: (value: string | null, otherwise?: Word) => string;
  seconds: (value: number | null) => string;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export function formatBytes(value: number): string {
  let amount = value;
  let unit = 0;
  for (; amount >= 1024 && unit < UNITS.length - 1; unit += 1) amount /= 1024;
  return `${amount.toFixed(unit < 2 || amount >= 100 ? 0 : 1)} ${UNITS[unit]}`;
}

export function useWords(): Words {
  const { i18n } = useStore();
  const table = i18n.language.value === 'zh' ? ZH : EN;
  const w = (key: Word, values: Values = {}): string => fill(table[key], values);
  const none = table.none;
  const inChinese = i18n.language.value === 'zh';
  return {
    i18n,
    w,
    meaning: (code) => (inChinese ? (ZH_FINDINGS[code] ?? ZH_EVENTS[code] ?? null) : null),
    fixup: ({ name, label }) => (inChinese ? (ZH_FIXUPS[name] ?? label) : label),
    bytes: (value) => (value === null ? none : formatBytes(value)),
    unit: (value, unit, digits = 0) => (value === null ? none : `${value.toFixed(digits)} ${unit}`),
    time: (value, otherwise = 'none') => (value === null ? table[otherwise] : i18n.time(value)),
    seconds: (value) => (value === null ? none : `${value < 10 ? value.toFixed(1) : Math.round(value)} s`),
  };
}
