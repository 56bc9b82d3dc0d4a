/**
 * Shows Markdown as DOM nodes while it streams in. Model text only ever becomes text nodes and attributes from a short
 * list, so nothing in it can run.
 *
 * Cost: blocks that can no longer change are built once; only the last block is parsed and built again. A code block
 * that grows only gets its new text appended.
 *
 * @typedef {import('./markdown.js').Block} Block
 * @typedef {import('./inline.js').Inline} Inline
 * @typedef {{copy: string, copied: string, code: string}} MarkdownLabels
 */

import { copyButton, h } from './dom.js';
import { parseInline } from './inline.js';
import { placeBlocks, withoutUndecidedEnd } from './markdown.js';
import { readableMath } from './math.js';

export class MarkdownView {
  #labels;
  /** Characters of the text whose blocks are final. */
  #committed = 0;
  /** @type {{block: Block, node: HTMLElement} | null} the block at the end, which may still change */
  #live = null;

  /** @param {HTMLElement} root @param {MarkdownLabels} labels */
  constructor(root, labels) {
    this.root = root;
    this.#labels = labels;
  }

  /**
   * Shows `text`, which must begin with what was shown before.
   * @param {string} text
   * @param {boolean} complete nothing more will follow
   */
  update(text, complete) {
    const rest = text.slice(this.#committed);
    const lines = (complete ? rest : withoutUndecidedEnd(rest)).split('\n');
    const placed = placeBlocks(lines);
    const last = placed.at(-1);
    for (const { block } of placed.slice(0, -1)) this.#show(block, false);
    if (last === undefined) {
      this.#live?.node.remove();
      this.#live = null;
      return;
    }
    if (placed.length > 1) {
      this.#committed += lines.slice(0, last.line).reduce((sum, line) => sum + line.length + 1, 0);
    }
    this.#show(last.block, !complete);
    if (!complete) return;
    this.#committed = text.length;
    this.#live = null;
  }

  /**
   * Puts a block in the live block's place; when it is final, the place after it is next.
   * @param {Block} block
   * @param {boolean} open
   */
  #show(block, open) {
    if (this.#live !== null && appendCode(this.#live, block)) {
      this.#live.block = block;
    } else {
      const node = buildBlock(block, open, this.#labels);
      if (this.#live === null) this.root.append(node);
      else this.#live.node.replaceWith(node);
      this.#live = { block, node };
    }
    if (!open) this.#live = null;
  }
}

/** Grows a shown code block in place. @param {{block: Block, node: HTMLElement}} live @param {Block} block */
function appendCode(live, block) {
  const before = live.block;
  if (before.type !== 'code' || block.type !== 'code' || before.language !== block.language) return false;
  const code = live.node.querySelector('code');
  if (code === null || !block.text.startsWith(before.text)) return false;
  if (code.firstChild instanceof Text) code.firstChild.appendData(block.text.slice(before.text.length));
  else code.textContent = block.text;
  return true;
}

/** @param {Block} block @param {boolean} open @param {MarkdownLabels} labels @returns {HTMLElement} */
function buildBlock(block, open, labels) {
  switch (block.type) {
    case 'heading':
      // The page's name is the h1, each answer's hidden heading an h2.
      return h(`h${Math.min(6, block.level + 1)}`, { class: `md-h${block.level}` }, ...buildInline(block.text, open));
    case 'code':
      return buildCode(block, labels);
    case 'math':
      return h('div.math-block', { tabindex: 0, title: block.text }, ...buildMath(block.text));
    case 'quote':
      return h('blockquote', {}, ...buildBlocks(block.blocks, open, labels));
    case 'list':
      return buildList(block, open, labels);
    case 'table':
      return buildTable(block, open);
    case 'rule':
      return h('hr');
    default:
      return h('p', {}, ...buildInline(block.text, open));
  }
}

/** @param {Block[]} blocks @param {boolean} open @param {MarkdownLabels} labels */
function buildBlocks(blocks, open, labels) {
  return blocks.map((block, index) => buildBlock(block, open && index === blocks.length - 1, labels));
}

/** @param {Extract<Block, {type: 'code'}>} block @param {MarkdownLabels} labels */
function buildCode(block, labels) {
  const code = h('code', {}, block.text);
  const copy = copyButton({ text: () => code.textContent ?? '', label: labels.copy, copiedLabel: labels.copied });
  const name = block.language === '' ? labels.code : block.language;
  return h(
    'div.code-block',
    {},
    h('div.code-head', {}, h('span', {}, name), copy),
    h('pre', { tabindex: 0, 'aria-label': name }, code),
  );
}

/** @param {Extract<Block, {type: 'list'}>} block @param {boolean} open @param {MarkdownLabels} labels */
function buildList(block, open, labels) {
  const list = h(block.ordered ? 'ol' : 'ul', { class: block.tight ? 'tight' : null });
  if (block.ordered && block.start !== 1) list.setAttribute('start', String(block.start));
  block.items.forEach((item, index) => {
    list.append(h('li', {}, ...buildBlocks(item, open && index === block.items.length - 1, labels)));
  });
  return list;
}

/** @param {Extract<Block, {type: 'table'}>} block @param {boolean} open */
function buildTable(block, open) {
  const cell = (/** @type {string} */ tag, /** @type {string} */ text, /** @type {number} */ column, last = false) => {
    const align = block.align[column];
    const scope = tag === 'th' ? 'col' : null;
    return h(tag, { scope, class: align === null ? null : `align-${align}` }, ...buildInline(text, last));
  };
  const head = h('tr', {}, ...block.header.map((text, column) => cell('th', text, column)));
  const rows = block.rows.map((row, index) => {
    const isLast = open && index === block.rows.length - 1;
    return h('tr', {}, ...row.map((text, column) => cell('td', text, column, isLast)));
  });
  return h('div.table-scroll', { tabindex: 0 }, h('table', {}, h('thead', {}, head), h('tbody', {}, ...rows)));
}

/** @param {string} text @param {boolean} open */
function buildInline(text, open) {
  return parseInline(text, { open }).map(buildNode);
}

/** @param {Inline} node @returns {Node} */
function buildNode(node) {
  switch (node.type) {
    case 'strong':
      return h('strong', {}, ...node.children.map(buildNode));
    case 'emphasis':
      return h('em', {}, ...node.children.map(buildNode));
    case 'deleted':
      return h('del', {}, ...node.children.map(buildNode));
    case 'code':
      return h('code', {}, node.text);
    case 'math':
      return h('span.math', { title: node.text }, ...buildMath(node.text));
    case 'break':
      return h('br');
    case 'link':
      // safeHref in inline.js let only http and https pass.
      return h('a', { href: node.href, target: '_blank', rel: 'noopener noreferrer' }, ...node.children.map(buildNode));
    default:
      return document.createTextNode(node.text);
  }
}

/** @param {string} source */
function buildMath(source) {
  return readableMath(source).map((run) =>
    run.boxed ? h('span.boxed', {}, run.text) : document.createTextNode(run.text),
  );
}
