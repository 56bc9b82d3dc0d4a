/**
 * markdown-it rules for the mathematics that R1 writes: \( \) and $ $ in a line, \[ \] and $$ $$ on their own.
 *
 * They only mark it up (elements with the TeX as text); `enhance` has KaTeX typeset it. A block that is not closed yet
 * is held open to the end while an answer streams, as fences are, so that nothing flickers between paragraph and formula.
 */

import type MarkdownIt from 'markdown-it';

const INLINE = [
  ['\\(', '\\)'],
  ['\\[', '\\]'],
  ['$$', '$$'],
] as const;

const BLOCK = [
  ['\\[', '\\]'],
  ['$$', '$$'],
] as const;

export function mathRules(md: MarkdownIt): void {
  md.inline.ruler.before('escape', 'math', (state, silent) => {
    for (const [open, close] of INLINE) {
      if (!state.src.startsWith(open, state.pos)) continue;
      const from = state.pos + open.length;
      const end = state.src.indexOf(close, from);
      if (end < 0 || end >= state.posMax || state.src.slice(from, end).trim() === '') return false;
      if (!silent) {
        const token = state.push('math_inline', 'span', 0);
        token.content = state.src.slice(from, end).trim();
        token.meta = { display: open !== '\\(' };
      }
      state.pos = end + close.length;
      return true;
    }
    return dollars(state, silent);
  });

  md.block.ruler.before(
    'fence',
    'math_block',
    (state, startLine, endLine, silent) => {
      if ((state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
      const lineOf = (line: number): string =>
        state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]);
      const first = lineOf(startLine);
      const pair = BLOCK.find(([open]) => first.startsWith(open));
      if (pair === undefined) return false;
      const [open, close] = pair;
      const lines: string[] = [];
      let line = startLine;
      let closed = false;
      for (; line < endLine; line += 1) {
        if (line > startLine && (state.sCount[line] ?? 0) < state.blkIndent && lineOf(line) !== '') break;
        const content = line === startLine ? first.slice(open.length) : lineOf(line);
        const end = content.indexOf(close);
        if (end >= 0) {
          // Text behind the end: this is a formula within a paragraph.
          if (!/^[.,;:。，；：]?\s*$/.test(content.slice(end + close.length))) return false;
          lines.push(content.slice(0, end) + content.slice(end + close.length).trim());
          closed = true;
          line += 1;
          break;
        }
        lines.push(content);
      }
      const pending = !closed && (state.env as { streaming?: boolean }).streaming === true;
      if (!closed && !pending) return false;
      const tex = lines.join('\n').trim();
      if (closed && tex === '') return false;
      if (silent) return true;
      const token = state.push('math_block', 'div', 0);
      token.block = true;
      token.content = tex;
      token.map = [startLine, line];
      token.meta = { pending };
      state.line = line;
      return true;
    },
    { alt: ['paragraph', 'reference', 'blockquote', 'list'] },
  );

  const { escapeHtml } = md.utils;
  md.renderer.rules.math_inline = (tokens, index) => {
    const { content, meta } = tokens[index]!;
    return `<span class="math${meta.display ? ' math-display' : ''}">${escapeHtml(content)}</span>`;
  };
  md.renderer.rules.math_block = (tokens, index) => {
    const { content, meta } = tokens[index]!;
    const mark = meta.pending ? 'math-pending' : 'math math-display';
    return `<div class="math-block"><span class="${mark}">${escapeHtml(content)}</span></div>\n`;
  };
}

/** $x$ as TeX, but not "$5 and $6": no space inside the marks, no digit behind the second, as Pandoc has it. */
function dollars(state: Parameters<Parameters<MarkdownIt['inline']['ruler']['push']>[1]>[0], silent: boolean): boolean {
  const { src, pos } = state;
  if (src[pos] !== '$' || /[\s$]/.test(src[pos + 1] ?? ' ')) return false;
  let end = pos + 1;
  do {
    end = src.indexOf('$', end);
    if (end < 0 || end >= state.posMax) return false;
    end += 1;
  } while (src[end - 2] === '\\');
  const content = src.slice(pos + 1, end - 1);
  if (/\s$|\n\s*\n/.test(content) || /[\d$]/.test(src[end] ?? ' ')) return false;
  if (!silent) {
    const token = state.push('math_inline', 'span', 0);
    token.content = content;
    token.meta = { display: false };
  }
  state.pos = end;
  return true;
}
