/**
 * Markdown, as models write it, into a tree of blocks. Pure: no DOM.
 *
 * CommonMark with GitHub's tables, and where a chat differs: a line break is a line break, `---` under a paragraph is a
 * rule, indented text is no code, nested lists may be indented by two, `$$` and `\[` open displayed mathematics.
 * Input is hostile: nesting is bounded and every loop moves forward.
 *
 * @typedef {{type: 'paragraph', text: string}
 *   | {type: 'heading', level: number, text: string}
 *   | {type: 'code', language: string, text: string, open: boolean}
 *   | {type: 'math', text: string}
 *   | {type: 'quote', blocks: Block[]}
 *   | {type: 'list', ordered: boolean, start: number, tight: boolean, items: Block[][]}
 *   | {type: 'table', align: Align[], header: string[], rows: string[][]}
 *   | {type: 'rule'}} Block
 * @typedef {'left' | 'right' | 'center' | null} Align
 * @typedef {{block: Block, line: number}} Placed a block and the line it starts on
 */

const MAX_DEPTH = 12;
/** Displayed mathematics longer than this is none: looking further for its end would make hostile text slow. */
const MAX_MATH_LINES = 60;

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const LIST_MARKER = /^( *)([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const DELIMITER_CELL = /^:?-+:?$/;

/** @param {string} line */
const isBlank = (line) => line.trim() === '';

/** @param {string} line */
const indentOf = (line) => line.length - line.trimStart().length;

/** @param {string} text @returns {Block[]} */
export function parseMarkdown(text) {
  return placeBlocks(text.split('\n'), 0).map((placed) => placed.block);
}

/**
 * The same with each block's first line, for a view that keeps what is finished and parses only the end again.
 * @param {string[]} lines
 * @param {number} depth
 * @returns {Placed[]}
 */
export function placeBlocks(lines, depth = 0) {
  /** @type {Placed[]} */
  const placed = [];
  let i = 0;
  while (i < lines.length) {
    if (isBlank(lines[i])) {
      i += 1;
      continue;
    }
    const { block, next } = readBlock(lines, i, depth);
    placed.push({ block, line: i });
    i = Math.max(next, i + 1);
  }
  return placed;
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @param {number} depth
 * @returns {{block: Block, next: number}}
 */
function readBlock(lines, i, depth) {
  const line = lines[i];
  const fence = FENCE.exec(line);
  if (fence !== null) return readFence(lines, i, fence);
  const heading = HEADING.exec(line);
  if (heading !== null) {
    const text = (heading[2] ?? '').replace(/(?:^|[ \t]+)#+[ \t]*$/, '').trim();
    return { block: { type: 'heading', level: heading[1].length, text }, next: i + 1 };
  }
  if (RULE.test(line)) return { block: { type: 'rule' }, next: i + 1 };
  const math = readMath(lines, i);
  if (math !== null) return math;
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return readQuote(lines, i, depth);
    const marker = LIST_MARKER.exec(line);
    if (marker !== null) return readList(lines, i, depth, marker);
  }
  if (startsTable(lines, i)) return readTable(lines, i);
  return readParagraph(lines, i, depth);
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @param {RegExpExecArray} fence
 * @returns {{block: Block, next: number}}
 */
function readFence(lines, i, fence) {
  const [, indent, ticks, info] = fence;
  const close = new RegExp(`^ {0,3}\\${ticks[0]}{${ticks.length},}[ \\t]*$`);
  const body = [];
  let next = i + 1;
  for (; next < lines.length && !close.test(lines[next]); next += 1) {
    body.push(lines[next].slice(Math.min(indent.length, indentOf(lines[next]))));
  }
  const open = next >= lines.length;
  const language = /^[\w+#.-]*/.exec(info.trim())?.[0] ?? '';
  return { block: { type: 'code', language, text: body.join('\n'), open }, next: open ? next : next + 1 };
}

/**
 * Displayed mathematics on lines of its own: `$$ ... $$` or `\[ ... \]`, without a blank line inside.
 * @param {string[]} lines
 * @param {number} i
 * @returns {{block: Block, next: number} | null}
 */
function readMath(lines, i) {
  const first = lines[i].trim();
  const close = first.startsWith('$$') ? '$$' : first.startsWith('\\[') ? '\\]' : null;
  if (close === null) return null;
  const body = [];
  const limit = Math.min(lines.length, i + MAX_MATH_LINES);
  for (let next = i; next < limit && !isBlank(lines[next]); next += 1) {
    const line = next === i ? first.slice(2) : lines[next].trim();
    const end = line.indexOf(close);
    if (end < 0) {
      body.push(line);
      continue;
    }
    if (!/^[.,;:。，；：]?$/.test(line.slice(end + 2).trim())) return null; // words follow: part of a paragraph
    body.push(line.slice(0, end));
    return { block: { type: 'math', text: body.join('\n').trim() }, next: next + 1 };
  }
  return null;
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @param {number} depth
 * @returns {{block: Block, next: number}}
 */
function readQuote(lines, i, depth) {
  const inner = [];
  let next = i;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    if (QUOTE.test(line)) inner.push(line.replace(QUOTE, ''));
    else if (isBlank(line) || isBlank(inner.at(-1) ?? '') || interrupts(lines, next)) break;
    else inner.push(line); // a paragraph in the quote goes on without the mark
  }
  return { block: { type: 'quote', blocks: placeBlocks(inner, depth + 1).map((placed) => placed.block) }, next };
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @param {number} depth
 * @param {RegExpExecArray} first
 * @returns {{block: Block, next: number}}
 */
function readList(lines, i, depth, first) {
  const ordered = first[2].length > 1;
  const kind = first[2].at(-1);
  const baseIndent = first[1].length;
  /** @type {string[][]} */
  const items = [];
  let tight = true;
  let next = i;
  let contentIndent = 0;
  while (next < lines.length) {
    const line = lines[next];
    const item = items.at(-1);
    const indent = indentOf(line);
    const marker = RULE.test(line) ? null : LIST_MARKER.exec(line);
    const nested = indent >= contentIndent || (marker !== null && indent >= baseIndent + 2);
    if (item !== undefined && isBlank(line)) {
      let following = next + 1;
      while (following < lines.length && isBlank(lines[following])) following += 1;
      if (following >= lines.length || !continues(lines[following], baseIndent, contentIndent, kind)) break;
      item.push('');
      tight = false;
      next = following;
    } else if (item !== undefined && nested) {
      item.push(line.slice(Math.min(indent, contentIndent)));
      next += 1;
    } else if (marker !== null && marker[2].at(-1) === kind) {
      const spaces = marker[3].length > 4 || marker[3] === '' ? 1 : marker[3].length;
      contentIndent = marker[1].length + marker[2].length + spaces;
      items.push([line.slice(marker[0].length === line.length ? line.length : contentIndent)]);
      next += 1;
    } else if (item === undefined || interrupts(lines, next) || marker !== null || isBlank(item.at(-1) ?? '')) {
      break;
    } else {
      item.push(line.trimStart()); // a paragraph in the item goes on without indentation
      next += 1;
    }
  }
  const blocks = items.map((item) => placeBlocks(item, depth + 1).map((placed) => placed.block));
  return { block: { type: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1, tight, items: blocks }, next };
}

/**
 * Whether a line after a blank one still belongs to the list.
 * @param {string} line
 * @param {number} baseIndent
 * @param {number} contentIndent
 * @param {string | undefined} kind
 */
function continues(line, baseIndent, contentIndent, kind) {
  if (indentOf(line) >= contentIndent) return true;
  if (RULE.test(line)) return false;
  const marker = LIST_MARKER.exec(line);
  return marker !== null && (marker[2].at(-1) === kind || indentOf(line) >= baseIndent + 2);
}

/** @param {string[]} lines @param {number} i */
function startsTable(lines, i) {
  if (i + 1 >= lines.length || !lines[i].includes('|') || !lines[i + 1].includes('-')) return false;
  const delimiters = splitRow(lines[i + 1]);
  if (!delimiters.every((cell) => DELIMITER_CELL.test(cell))) return false;
  return delimiters.length === splitRow(lines[i]).length;
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @returns {{block: Block, next: number}}
 */
function readTable(lines, i) {
  const header = splitRow(lines[i]);
  const align = splitRow(lines[i + 1]).map((cell) => {
    if (cell.endsWith(':')) return cell.startsWith(':') ? 'center' : 'right';
    return cell.startsWith(':') ? 'left' : null;
  });
  const rows = [];
  let next = i + 2;
  for (; next < lines.length && !isBlank(lines[next]) && lines[next].includes('|'); next += 1) {
    const cells = splitRow(lines[next]);
    rows.push(header.map((_, column) => cells[column] ?? ''));
  }
  return { block: { type: 'table', align, header, rows }, next };
}

/** Cells of a table row; `\|` and a bar in inline code belong to the cell. @param {string} line */
function splitRow(line) {
  const row = line.trim().replace(/^\|/, '');
  const cells = [];
  let cell = '';
  let inCode = false;
  for (let i = 0; i < row.length; i += 1) {
    if (row[i] === '\\' && row[i + 1] === '|') {
      cell += '|';
      i += 1;
    } else if (row[i] === '|' && !inCode) {
      cells.push(cell.trim());
      cell = '';
    } else {
      if (row[i] === '`') inCode = !inCode && row.includes('`', i + 1);
      cell += row[i];
    }
  }
  if (cell.trim() !== '' || cells.length === 0) cells.push(cell.trim());
  return cells;
}

/**
 * @param {string[]} lines
 * @param {number} i
 * @param {number} depth
 * @returns {{block: Block, next: number}}
 */
function readParagraph(lines, i, depth) {
  let next = i + 1;
  while (next < lines.length && !isBlank(lines[next]) && !(depth <= MAX_DEPTH && interrupts(lines, next))) next += 1;
  const text = lines
    .slice(i, next)
    .map((line) => line.trim())
    .join('\n');
  return { block: { type: 'paragraph', text }, next };
}

/** Whether line i ends a paragraph by starting something else. @param {string[]} lines @param {number} i */
function interrupts(lines, i) {
  const line = lines[i];
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const marker = LIST_MARKER.exec(line);
  if (marker !== null && marker[3] !== '' && (marker[2].length === 1 || parseInt(marker[2], 10) === 1)) return true;
  return startsTable(lines, i) || readMath(lines, i) !== null;
}

/**
 * While text still arrives: without an end that may turn into something else with the next token (`-` may become a
 * list, `|` a table), so that nothing shown jumps.
 * @param {string} text
 */
export function withoutUndecidedEnd(text) {
  const lines = text.split('\n');
  if (/^\s*(?:[-*+_#>~`$\\[]{0,3}|\d{1,3}[.)]?)\s*$/.test(lines.at(-1) ?? '')) lines.pop();
  const last = lines.length - 1;
  const isRow = (/** @type {string | undefined} */ line) => line !== undefined && line.trimStart().startsWith('|');
  if (isRow(lines[last]) && !isRow(lines[last - 1])) lines.pop();
  else if (isRow(lines[last - 1]) && !isRow(lines[last - 2]) && /^[\s|:-]*$/.test(lines[last])) {
    if (!startsTable(lines, last - 1)) lines.length -= 2;
  }
  return lines.join('\n');
}
