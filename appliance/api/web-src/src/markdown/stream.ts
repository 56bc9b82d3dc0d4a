/**
 * Markdown that grows: finished blocks are parsed and built once, only the last one again with each piece.
 *
 * A top-level block is finished when another one begins behind it (CommonMark, chapter 3: later lines change only open
 * blocks, and only the last block is open). The one exception, link definitions that come after their use, is made good
 * at the end, when the whole text is parsed once more and blocks that differ are replaced.
 */

import type MarkdownIt from 'markdown-it';
import { sanitize } from './sanitize.js';

interface Block {
  html: string;
  nodes: Element[];
}

export type Enhance = (element: Element, finished: boolean) => void;

export class MarkdownStream {
  #text = '';
  /** Where the last block begins. */
  #open = 0;
  #env: { streaming?: boolean } = {};
  #blocks: Block[] = [];
  #ended = false;

  constructor(
    private readonly md: MarkdownIt,
    private readonly root: HTMLElement,
    private readonly enhance: Enhance,
  ) {}

  /** Show `text`; when it goes on from what is shown, only what changed is built. `ended`: nothing follows. */
  update(text: string, ended: boolean): void {
    if (text === this.#text && ended === this.#ended) return;
    if (!text.startsWith(this.#text)) this.#clear();
    this.#text = text;
    this.#ended = ended;
    if (ended) {
      this.#show(this.#parse(text, {}), 0, true);
      this.#open = 0;
      this.#env = {};
      return;
    }
    this.#env.streaming = true;
    const kept = Math.max(this.#blocks.length - 1, 0);
    const from = this.#open;
    const parsed = this.#parse(text.slice(from), this.#env, true);
    const last = parsed[parsed.length - 1];
    this.#show(parsed, from === 0 ? 0 : kept, false);
    if (last !== undefined) this.#open = from + last.offset;
  }

  #clear(): void {
    this.root.replaceChildren();
    this.#blocks = [];
    this.#open = 0;
    this.#env = {};
  }

  #parse(text: string, env: object, growing = false): { html: string; offset: number }[] {
    // As markdown-it does it itself; done before, so that lines can be found again.
    const source = text.replace(/\r\n?/g, '\n');
    let tokens = this.md.parse(source, env);
    if (growing) {
      const last = tokens.findLast((token) => token.type === 'inline' || token.type === 'fence');
      const mended = last?.type === 'inline' ? mend(source, last.content) : source;
      if (mended !== source) tokens = this.md.parse(mended, env);
    }
    const blocks: { html: string; offset: number }[] = [];
    let line = 0;
    let offset = 0;
    for (let start = 0; start < tokens.length; ) {
      let end = start;
      let depth = 0;
      do depth += tokens[end++]!.nesting;
      while (depth > 0 && end < tokens.length);
      const target = tokens[start]!.map?.[0] ?? line;
      for (; line < target; line += 1) offset = source.indexOf('\n', offset) + 1;
      blocks.push({ html: this.md.renderer.render(tokens.slice(start, end), this.md.options, env), offset });
      start = end;
    }
    return blocks;
  }

  /** Replace the blocks from number `first` on by `parsed`; those whose HTML is the same stay untouched. */
  #show(parsed: { html: string }[], first: number, ended: boolean): void {
    for (let index = 0; index < parsed.length; index += 1) {
      const { html } = parsed[index]!;
      const finished = ended || index < parsed.length - 1;
      const at = first + index;
      const old = this.#blocks[at];
      if (old?.html === html) {
        if (finished) for (const node of old.nodes) this.enhance(node, true);
        continue;
      }
      if (old !== undefined && grow(old, html)) continue;
      const nodes = [...sanitize(html).children];
      if (old === undefined) this.root.append(...nodes);
      else {
        const before = old.nodes[0] ?? this.#nodeAfter(at);
        for (const node of nodes) this.root.insertBefore(node, before ?? null);
        for (const node of old.nodes) node.remove();
      }
      this.#blocks[at] = { html, nodes };
      for (const node of nodes) this.enhance(node, finished);
    }
    for (const block of this.#blocks.splice(first + parsed.length)) for (const node of block.nodes) node.remove();
  }

  #nodeAfter(index: number): Element | undefined {
    return this.#blocks.slice(index + 1).find((block) => block.nodes.length > 0)?.nodes[0];
  }
}

/**
 * `source` with the emphasis or code closed that its last line of text, `inline`, has opened: else the marks would be
 * read for a moment, and the line would jump when they close.
 */
export function mend(source: string, inline: string): string {
  const rest = inline.replace(/\\[\s\S]/g, '').replace(/(`+)[^`][\s\S]*?\1(?!`)/g, '');
  const trimmed = source.trimEnd();
  if (/`$/.test(rest)) return trimmed.replace(/`+$/, '');
  if (rest.includes('`')) return `${trimmed}\``;
  if (/\*+$/.test(rest) && trimmed.endsWith('*')) {
    // Marks at the very end: they close what is open, or they open something that is not there yet.
    const before = rest.replace(/\*+$/, '');
    if ((before.split('**').length - 1) % 2 === 0) return trimmed.replace(/\*+$/, '');
    return trimmed.endsWith('**') ? source : `${trimmed}*`;
  }
  return (rest.split('**').length - 1) % 2 === 1 ? `${trimmed}**` : source;
}

const CODE = /^(<div class="code-block" data-language="[^"]*"><pre tabindex="0"><code>)([^<]*)<\/code><\/pre><\/div>\n$/;

/** Code that got longer has its text written again, not its elements: a thousand lines stay cheap, selections stay. */
function grow(old: Block, html: string): boolean {
  const before = CODE.exec(old.html);
  const now = CODE.exec(html);
  if (before === null || now === null || before[1] !== now[1] || !now[2]!.startsWith(before[2]!)) return false;
  const code = old.nodes[0]?.querySelector('code');
  const last = code?.lastChild;
  if (!code || (last && last.nodeType !== Node.TEXT_NODE) || code.childElementCount > 0) return false;
  const added = unescape(now[2]!.slice(before[2]!.length));
  if (last) (last as Text).appendData(added);
  else code.textContent = added;
  old.html = html;
  return true;
}

const unescape = (html: string): string =>
  html.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&amp;', '&');
