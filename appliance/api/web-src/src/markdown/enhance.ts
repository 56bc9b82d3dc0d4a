/** What Markdown needs beside its elements: typeset mathematics, coloured code, buttons that copy. Loaded when needed. */

import type { Text } from '../i18n/index.js';
import { sanitize } from './sanitize.js';
import { loadStyle } from './style.js';

type Katex = typeof import('./katex.js');
type Highlight = typeof import('./highlight.js');

let katex: Katex | null = null;
let highlight: Highlight | null = null;
let katexComing: Promise<Katex> | null = null;
let highlightComing: Promise<Highlight> | null = null;

async function loadKatex(): Promise<Katex> {
  katexComing ??= Promise.all([import('./katex.js'), loadStyle('katexStyle')]).then(([module]) => module);
  katex = await katexComing;
  return katex;
}

async function loadHighlight(): Promise<Highlight> {
  highlightComing ??= import('./highlight.js');
  highlight = await highlightComing;
  return highlight;
}

const done = new WeakSet<Element>();

/** Completes one block. Formulas are typeset as they come, code is coloured when it is finished. */
export function enhance(element: Element, finished: boolean, t: Text): void {
  for (const span of within(element, '.math')) typeset(span as HTMLElement);
  for (const block of within(element, '.code-block')) dress(block as HTMLElement, finished, t);
}

function within(element: Element, selector: string): Element[] {
  const inside = [...element.querySelectorAll(selector)];
  return element.matches(selector) ? [element, ...inside] : inside;
}

function typeset(span: HTMLElement): void {
  if (done.has(span)) return;
  done.add(span);
  const tex = span.textContent ?? '';
  const display = span.classList.contains('math-display');
  const write = (module: Katex): void => module.typeset(tex, span, display);
  if (katex !== null) write(katex);
  else void loadKatex().then(write, () => undefined); // without it the TeX stays readable
}

function dress(block: HTMLElement, finished: boolean, t: Text): void {
  const code = block.querySelector('code');
  if (code === null) return;
  const language = block.dataset.language ?? '';
  if (block.querySelector('.code-head') === null) {
    const head = document.createElement('div');
    head.className = 'code-head';
    const name = document.createElement('span');
    name.textContent = language || t('code');
    const copy = document.createElement('button');
    copy.type = 'button';
    copy.className = 'quiet';
    copy.textContent = t('copy');
    copy.addEventListener('click', () => void copyText(code.textContent ?? '', copy, t));
    head.append(name, copy);
    block.prepend(head);
    block.querySelector('pre')?.setAttribute('aria-label', t('code'));
  }
  if (!finished || language === '' || done.has(block)) return;
  done.add(block);
  const paint = (module: Highlight): void => {
    const html = module.highlight(code.textContent ?? '', language);
    if (html !== null) code.replaceChildren(sanitize(html));
  };
  if (highlight !== null) paint(highlight);
  else void loadHighlight().then(paint, () => undefined);
}

/** Copies and says so on the button; plain HTTP has no clipboard interface, so the old way is kept as the second. */
export async function copyText(text: string, button: HTMLElement, t: Text): Promise<void> {
  let copied: boolean;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyBySelection(text);
  }
  const label = button.querySelector('.label') ?? button;
  const before = t('copy');
  label.textContent = t(copied ? 'copied' : 'copy_failed');
  setTimeout(() => (label.textContent = before), 1600);
}

function copyBySelection(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.setAttribute('readonly', '');
  area.className = 'visually-hidden';
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}
