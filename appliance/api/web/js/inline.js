/**
 * The inside of a Markdown block: emphasis, code, links, mathematics, line breaks. Pure: no DOM.
 *
 * Emphasis follows CommonMark's delimiter runs (section 6.2), with one change: beside Chinese, Japanese or Korean text
 * the rule about punctuation is dropped. By the letter of the rule `**注意：**请` is not bold, and R1 writes that often.
 *
 * @typedef {{type: 'text', text: string}
 *   | {type: 'code', text: string}
 *   | {type: 'math', text: string}
 *   | {type: 'break'}
 *   | {type: 'strong' | 'emphasis' | 'deleted', children: Inline[]}
 *   | {type: 'link', href: string, children: Inline[]}} Inline
 *
 * @typedef {{node: Inline} | Delimiter} Piece
 * @typedef {{mark: string, count: number, canOpen: boolean, canClose: boolean}} Delimiter
 */

const ESCAPABLE = /[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff00-\uffef“”‘’…—]/u;
const SPECIAL = /[\\`*_~[!<$\nh]/g;
const BARE_URL = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/y;
const BREAK_TAG = /<br\s*\/?>/iy;
const ANGLE_URL = /<(https?:\/\/[^\s<>]+)>/y;
const LINK_TARGET = /\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
/** How far a bracket or brace is followed; further would make hostile text slow. */
const MAX_LABEL = 2000;
const MAX_GROUP = 4000;
const MAX_DEPTH = 8;

/**
 * @param {string} text
 * @param {{open?: boolean}} [options] open: more text may follow, so a mark that is not closed yet holds to the end
 * @returns {Inline[]}
 */
export function parseInline(text, { open = false } = {}) {
  return new InlineParser(text, open, 0).parse();
}

/** The address if it is one a reader may follow, else null. @param {string} href */
export function safeHref(href) {
  try {
    const url = new URL(href);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null; // relative or malformed: nothing on this box to point at
  }
}

class InlineParser {
  /** @type {Piece[]} */
  #pieces = [];
  #plain = '';
  /** Marks known to have no closing partner further on, so that hostile text is not searched again and again. */
  #unclosed = new Set();

  /** @param {string} text @param {boolean} open @param {number} depth */
  constructor(text, open, depth) {
    this.text = text;
    this.open = open;
    this.depth = depth;
  }

  /** @returns {Inline[]} */
  parse() {
    const { text } = this;
    let i = 0;
    while (i < text.length) {
      SPECIAL.lastIndex = i;
      const found = SPECIAL.exec(text);
      const at = found === null ? text.length : found.index;
      this.#plain += text.slice(i, at);
      i = at < text.length ? this.#special(at) : at;
    }
    this.#flush();
    return resolveEmphasis(this.#pieces, this.open);
  }

  /** Handles the character at i and returns where to go on. @param {number} i @returns {number} */
  #special(i) {
    const { text } = this;
    switch (text[i]) {
      case '\n':
        return this.#push({ type: 'break' }, i + 1);
      case '\\':
        return this.#backslash(i);
      case '`':
        return this.#code(i);
      case '$':
        return this.#dollar(i);
      case '*':
      case '_':
      case '~':
        return this.#delimiters(i);
      case '!':
        return text[i + 1] === '[' ? this.#link(i, i + 1) : this.#literal(i, i + 1);
      case '[':
        return this.#link(i, i);
      case '<':
        return this.#angle(i);
      default:
        return this.#bareUrl(i);
    }
  }

  /** @param {number} from @param {number} to */
  #literal(from, to) {
    this.#plain += this.text.slice(from, to);
    return to;
  }

  /** @param {Inline} node @param {number} next */
  #push(node, next) {
    this.#flush();
    this.#pieces.push({ node });
    return next;
  }

  #flush() {
    if (this.#plain !== '') this.#pieces.push({ node: { type: 'text', text: this.#plain } });
    this.#plain = '';
  }

  /** Where `mark` comes next at or after `from`; -1 when it does not. @param {string} mark @param {number} from */
  #find(mark, from) {
    if (this.#unclosed.has(mark)) return -1;
    const at = this.text.indexOf(mark, from);
    if (at < 0) this.#unclosed.add(mark);
    return at;
  }

  /** `\(x\)` and `\[x\]` are mathematics, `\*` a plain star, `\boxed{}` mathematics without signs. */
  #backslash(/** @type {number} */ i) {
    const { text } = this;
    const next = text[i + 1] ?? '';
    if (next === '(' || next === '[') {
      const end = this.#find(next === '(' ? '\\)' : '\\]', i + 2);
      if (end >= 0) return this.#push({ type: 'math', text: text.slice(i + 2, end).trim() }, end + 2);
      return this.open
        ? this.#push({ type: 'math', text: text.slice(i + 2).trim() }, text.length)
        : this.#literal(i, i + 2);
    }
    if (next === '\n') return this.#push({ type: 'break' }, i + 2);
    if (text.startsWith('\\boxed{', i)) {
      const end = closingBrace(text, i + 6);
      if (end >= 0) return this.#push({ type: 'math', text: text.slice(i, end + 1) }, end + 1);
    }
    if (ESCAPABLE.test(next)) {
      this.#plain += next;
      return i + 2;
    }
    return this.#literal(i, i + 1);
  }

  /** @param {number} i */
  #code(i) {
    const { text } = this;
    let width = 1;
    while (text[i + width] === '`') width += 1;
    const ticks = '`'.repeat(width);
    let end = this.#find(ticks, i + width);
    while (end >= 0 && text[end + width] === '`') {
      let after = end + width;
      while (text[after] === '`') after += 1;
      end = text.indexOf(ticks, after);
    }
    if (end < 0) {
      if (!this.open || width > 1) return this.#literal(i, i + width);
      return this.#push({ type: 'code', text: text.slice(i + 1) }, text.length);
    }
    const inner = text.slice(i + width, end).replaceAll('\n', ' ');
    const padded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim() !== '';
    return this.#push({ type: 'code', text: padded ? inner.slice(1, -1) : inner }, end + width);
  }

  /** `$x$` is mathematics when it cannot be money: no space inside the signs, no digit after the second. */
  #dollar(/** @type {number} */ i) {
    const { text } = this;
    const width = text[i + 1] === '$' ? 2 : 1;
    const mark = '$'.repeat(width);
    const end = this.#find(mark, i + width);
    if (end < 0 || end === i + width) return this.#literal(i, i + width);
    const inner = text.slice(i + width, end);
    const isMath = width === 2 || (/^\S(?:[^\n]*\S)?$/.test(inner) && !/\d/.test(text[end + 1] ?? ''));
    return isMath ? this.#push({ type: 'math', text: inner.trim() }, end + width) : this.#literal(i, i + 1);
  }

  /** @param {number} i */
  #delimiters(i) {
    const { text } = this;
    const mark = text[i];
    let count = 1;
    while (text[i + count] === mark) count += 1;
    if (mark === '~' && count !== 2) return this.#literal(i, i + count);
    const before = i === 0 ? ' ' : String.fromCodePoint(text.codePointAt(i - 1) ?? 32);
    const after = i + count >= text.length ? ' ' : String.fromCodePoint(text.codePointAt(i + count) ?? 32);
    const { left, right } = flanking(before, after);
    const canOpen = mark === '_' ? left && (!right || PUNCTUATION.test(before)) : left;
    const canClose = mark === '_' ? right && (!left || PUNCTUATION.test(after)) : right;
    this.#flush();
    this.#pieces.push({ mark, count, canOpen, canClose });
    return i + count;
  }

  /**
   * `[label](address)`; an image, which this page never loads, becomes a link to it. An address that is not http or
   * https leaves the source as text.
   * @param {number} i where the source starts
   * @param {number} bracket where `[` is
   */
  #link(i, bracket) {
    const { text } = this;
    const end = this.depth >= MAX_DEPTH ? -1 : closingBracket(text, bracket);
    if (end < 0) return this.#literal(i, bracket + 1);
    const label = text.slice(bracket + 1, end);
    LINK_TARGET.lastIndex = end + 1;
    const target = LINK_TARGET.exec(text);
    if (target === null) {
      if (this.open && text[end + 1] === '(' && !text.slice(end).includes(')')) {
        this.#plain += label; // the address is still arriving
        return text.length;
      }
      return this.#literal(i, bracket + 1);
    }
    const next = LINK_TARGET.lastIndex;
    const href = safeHref((target[1] ?? target[2]).replace(/\\(.)/g, '$1'));
    if (href === null) return this.#literal(i, next);
    const children = new InlineParser(label, false, this.depth + 1).parse().map(withoutLink);
    return this.#push({ type: 'link', href, children: children.length > 0 ? children : [textNode(href)] }, next);
  }

  /** @param {number} i */
  #angle(i) {
    BREAK_TAG.lastIndex = i;
    if (BREAK_TAG.test(this.text)) return this.#push({ type: 'break' }, BREAK_TAG.lastIndex);
    ANGLE_URL.lastIndex = i;
    const url = ANGLE_URL.exec(this.text);
    const href = url === null ? null : safeHref(url[1]);
    if (url === null || href === null) return this.#literal(i, i + 1);
    return this.#push({ type: 'link', href, children: [textNode(url[1])] }, ANGLE_URL.lastIndex);
  }

  /** @param {number} i */
  #bareUrl(i) {
    BARE_URL.lastIndex = i;
    const found = /\w/.test(this.text[i - 1] ?? '') ? null : BARE_URL.exec(this.text);
    if (found === null) return this.#literal(i, i + 1);
    let url = found[0].replace(/[.,;:!?*_~]+$/, '');
    while (url.endsWith(')') && url.split(')').length > url.split('(').length) url = url.slice(0, -1);
    const href = safeHref(url);
    if (href === null) return this.#literal(i, i + 1);
    return this.#push({ type: 'link', href, children: [textNode(url)] }, i + url.length);
  }
}

/** @param {string} text @returns {Inline} */
const textNode = (text) => ({ type: 'text', text });

/** A link inside a link's label stays text. @param {Inline} node @returns {Inline} */
function withoutLink(node) {
  return node.type === 'link' ? { type: 'emphasis', children: node.children } : node;
}

/** @param {string} before @param {string} after */
function flanking(before, after) {
  const spaceBefore = /\s/.test(before);
  const spaceAfter = /\s/.test(after);
  const plainBefore = CJK.test(before) || !PUNCTUATION.test(before);
  const plainAfter = CJK.test(after) || !PUNCTUATION.test(after);
  const nearCjk = CJK.test(before) || CJK.test(after);
  const left = !spaceAfter && (plainAfter || spaceBefore || !plainBefore || nearCjk);
  const right = !spaceBefore && (plainBefore || spaceAfter || !plainAfter || nearCjk);
  return { left, right };
}

/** @param {string} text @param {number} bracket */
function closingBracket(text, bracket) {
  let depth = 0;
  const limit = Math.min(text.length, bracket + MAX_LABEL);
  for (let i = bracket; i < limit; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '[') depth += 1;
    else if (text[i] === ']' && (depth -= 1) === 0) return i;
  }
  return -1;
}

/**
 * The index of the `}` that closes the `{` at `brace`, or -1.
 * @param {string} text
 * @param {number} brace
 */
export function closingBrace(text, brace) {
  let depth = 0;
  const limit = Math.min(text.length, brace + MAX_GROUP);
  for (let i = brace; i < limit; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '{') depth += 1;
    else if (text[i] === '}' && (depth -= 1) === 0) return i;
  }
  return -1;
}

/**
 * Pairs delimiter runs into emphasis, innermost first (CommonMark's process emphasis). `floors` remembers for each kind
 * of closer how far down no opener was found, which keeps the work linear on hostile input.
 * @param {Piece[]} pieces
 * @param {boolean} open
 * @returns {Inline[]}
 */
function resolveEmphasis(pieces, open) {
  /** @type {Map<string, number>} */
  const floors = new Map();
  /** @type {Piece[]} */
  const stack = [];
  for (const piece of pieces) {
    if ('node' in piece || !piece.canClose) {
      stack.push(piece);
      continue;
    }
    while (piece.count > 0) {
      const kind = `${piece.mark}${piece.canOpen}${piece.count % 3}`;
      const at = openerFor(stack, piece, floors.get(kind) ?? 0);
      if (at < 0) {
        floors.set(kind, stack.length);
        break;
      }
      wrap(stack, at, piece);
      for (const [key, floor] of floors) if (floor > at) floors.set(key, at);
    }
    if (piece.count > 0) stack.push(piece);
  }
  if (open) closeAtEnd(stack);
  return stack.map(asNode).reduce(joinText, /** @type {Inline[]} */ ([]));
}

/** @param {Piece[]} stack @param {Delimiter} closer @param {number} floor */
function openerFor(stack, closer, floor) {
  for (let i = stack.length - 1; i >= floor; i -= 1) {
    const opener = stack[i];
    if ('node' in opener || opener.mark !== closer.mark || !opener.canOpen) continue;
    const bothWays = opener.canClose || closer.canOpen;
    if (bothWays && (opener.count + closer.count) % 3 === 0 && opener.count % 3 !== 0) continue;
    return i;
  }
  return -1;
}

/**
 * Takes what lies above the opener into one node and uses up the marks.
 * @param {Piece[]} stack
 * @param {number} at
 * @param {{mark: string, count: number}} closer
 */
function wrap(stack, at, closer) {
  const opener = /** @type {Delimiter} */ (stack[at]);
  const children = stack
    .splice(at + 1)
    .map(asNode)
    .reduce(joinText, /** @type {Inline[]} */ ([]));
  const width = opener.count >= 2 && closer.count >= 2 ? 2 : 1;
  const type = opener.mark === '~' ? 'deleted' : width === 2 ? 'strong' : 'emphasis';
  opener.count -= width;
  closer.count -= width;
  if (opener.count === 0) stack.pop();
  stack.push({ node: { type, children } });
}

/** The text still arrives: what is opened and not closed yet is shown as it will be. @param {Piece[]} stack */
function closeAtEnd(stack) {
  for (let i = stack.length - 1; i >= 0; i -= 1) {
    const piece = stack[i];
    if ('node' in piece || !piece.canOpen || piece.canClose) continue;
    while (piece.count > 0) wrap(stack, i, { mark: piece.mark, count: piece.count });
  }
}

/** @param {Piece} piece @returns {Inline} */
function asNode(piece) {
  return 'node' in piece ? piece.node : textNode(piece.mark.repeat(piece.count));
}

/** @param {Inline[]} nodes @param {Inline} node */
function joinText(nodes, node) {
  const last = nodes.at(-1);
  if (node.type === 'text' && last?.type === 'text') nodes[nodes.length - 1] = textNode(last.text + node.text);
  else nodes.push(node);
  return nodes;
}
