// Markdown into trees: what models write, what hostile text does, and that streaming shows no jumps.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseInline, safeHref } from '../../appliance/api/web/js/inline.js';
import { parseMarkdown, withoutUndecidedEnd } from '../../appliance/api/web/js/markdown.js';
import { readableMath } from '../../appliance/api/web/js/math.js';

const types = (text) => parseMarkdown(text).map((block) => block.type);
const paragraph = (text) => ({ type: 'paragraph', text });

/** Inline nodes as a short string: strong [s:..], emphasis [e:..], and so on. */
function short(text, options) {
  const show = (node) => {
    if (node.type === 'text') return node.text;
    if (node.type === 'break') return '[br]';
    if (node.type === 'code' || node.type === 'math') return `[${node.type}:${node.text}]`;
    const inner = node.children.map(show).join('');
    return node.type === 'link' ? `[a ${node.href}:${inner}]` : `[${node.type[0]}:${inner}]`;
  };
  return parseInline(text, options).map(show).join('');
}

test('blocks', () => {
  assert.deepEqual(types('# a\n\ntext\n---\n> q\n\n```py\nx\n```\n- a\n\n| a |\n|---|\n| 1 |\n\n$$\nx\n$$'), [
    'heading',
    'paragraph',
    'rule',
    'quote',
    'code',
    'list',
    'table',
    'math',
  ]);
  assert.deepEqual(parseMarkdown('## Title ##'), [{ type: 'heading', level: 2, text: 'Title' }]);
  assert.deepEqual(parseMarkdown('#no heading'), [paragraph('#no heading')]);
});

test('nested lists, also indented by two under a number', () => {
  for (const indent of ['  ', '   ']) {
    const [list] = parseMarkdown(`1. one\n${indent}- a\n${indent}- b\n2. two`);
    assert.equal(list.items.length, 2, `indented by ${indent.length}`);
    assert.deepEqual(list.items[0][0], paragraph('one'));
    assert.equal(list.items[0][1].items.length, 2);
    assert.equal(list.tight, true);
  }
});

test('a list keeps its start, its second paragraphs and the code in it', () => {
  const [list, after] = parseMarkdown('3. one\n\n   more\n\n   ```\n   code\n   ```\n4. two\n\nafter');
  assert.equal(list.start, 3);
  assert.deepEqual(list.items[0], [
    paragraph('one'),
    paragraph('more'),
    { type: 'code', language: '', text: 'code', open: false },
  ]);
  assert.deepEqual(after, paragraph('after'));
});

test('a year or a dash in a sentence starts no list', () => {
  assert.deepEqual(types('It was\n1984. A year'), ['paragraph']);
  assert.deepEqual(types('-5 degrees'), ['paragraph']);
});

test('tables: alignment, escaped bars, code, missing cells', () => {
  const [table] = parseMarkdown('| a | b | c |\n|:--|:-:|--:|\n| x\\|y | `p|q` |');
  assert.deepEqual(table.align, ['left', 'center', 'right']);
  assert.deepEqual(table.rows, [['x|y', '`p|q`', '']]);
});

test('a fence takes its language as a plain word and ends only at its own mark', () => {
  const [code] = parseMarkdown('~~~js" onload="x\n```\na\n~~~');
  assert.deepEqual(code, { type: 'code', language: 'js', text: '```\na', open: false });
  assert.equal(parseMarkdown('```\nnot closed')[0].open, true);
});

test('displayed mathematics stands alone', () => {
  assert.deepEqual(parseMarkdown('\\[ x = 1 \\]'), [{ type: 'math', text: 'x = 1' }]);
  assert.deepEqual(types('$$ not closed\n\ntext'), ['paragraph', 'paragraph']);
  assert.deepEqual(types('$$x$$ is in a sentence'), ['paragraph']);
});

test('emphasis', () => {
  assert.equal(short('**b** *i* ***both*** ~~d~~'), '[s:b] [e:i] [e:[s:both]] [d:d]');
  assert.equal(short('snake_case_name 2 * 3 * 4 __init__.py'), 'snake_case_name 2 * 3 * 4 [s:init].py');
  assert.equal(short('**a *b* c**'), '[s:a [e:b] c]');
  assert.equal(short('not ** closed'), 'not ** closed');
});

test('Chinese punctuation does not break bold', () => {
  assert.equal(short('**注意：**请先测量'), '[s:注意：]请先测量');
  assert.equal(short('这是**“重点”**内容'), '这是[s:“重点”]内容');
});

test('code, mathematics and money', () => {
  assert.equal(short('`` a`b `` and `*x*`'), '[code:a`b] and [code:*x*]');
  assert.equal(short('\\(a_1 * b_2\\) and $x_1*y$'), '[math:a_1 * b_2] and [math:x_1*y]');
  assert.equal(short('from $5 to $10'), 'from $5 to $10');
  assert.equal(short('so \\boxed{\\frac{1}{2}}.'), 'so [math:\\boxed{\\frac{1}{2}}].');
  assert.equal(short('\\*plain\\* a\nb<br>c'), '*plain* a[br]b[br]c');
});

test('only http and https are links', () => {
  assert.equal(short('[a](https://b.example/c_(d))'), '[a https://b.example/c_(d):a]');
  for (const bad of [
    'javascript:alert(1)',
    ' JaVaScRiPt:x',
    'data:text/html,x',
    'vbscript:x',
    '/admin',
    '//evil.example',
  ]) {
    assert.equal(safeHref(bad), null, bad);
    assert.equal(short(`[a](${bad})`), `[a](${bad})`);
  }
  assert.equal(safeHref('java\nscript:alert(1)'), null);
  assert.equal(short('![pic](https://a.example/x.png)'), '[a https://a.example/x.png:pic]');
  assert.equal(short('见 https://a.example/b。好'), '见 [a https://a.example/b:https://a.example/b]。好');
  assert.equal(short('(https://a.example/b).'), '([a https://a.example/b:https://a.example/b]).');
});

test('HTML is text', () => {
  assert.equal(short('<script>x</script><img onerror=1>'), '<script>x</script><img onerror=1>');
  assert.deepEqual(types('<div onclick="x">\n\n</div>'), ['paragraph', 'paragraph']);
});

test('while it streams, what is open is shown as it will be', () => {
  assert.equal(short('this is **bol', { open: true }), 'this is [s:bol]');
  assert.equal(short('run `make', { open: true }), 'run [code:make]');
  assert.equal(short('see [the book](https://exa', { open: true }), 'see the book');
});

test('an end that is not decided yet is held back', () => {
  assert.equal(withoutUndecidedEnd('text\n-'), 'text');
  assert.equal(withoutUndecidedEnd('text\n12.'), 'text');
  assert.equal(withoutUndecidedEnd('text\n``'), 'text');
  assert.equal(withoutUndecidedEnd('text\n| a | b |'), 'text');
  assert.equal(withoutUndecidedEnd('text\n| a | b |\n|--'), 'text');
  assert.equal(withoutUndecidedEnd('| a |\n|---|'), '| a |\n|---|');
  assert.equal(withoutUndecidedEnd('text\n- a'), 'text\n- a');
});

test('a block once followed by another never changes', () => {
  const text =
    '# T\n\npara **b**\nline\n\n1. a\n   - b\n\n2. c\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\n```py\nx\n\ny\n```\nend\n---\n$$\nx\n$$\n';
  const final = parseMarkdown(text);
  for (let length = 1; length < text.length; length += 1) {
    const blocks = parseMarkdown(withoutUndecidedEnd(text.slice(0, length)));
    assert.deepEqual(blocks.slice(0, -1), final.slice(0, Math.max(0, blocks.length - 1)), `after ${length} characters`);
  }
});

test('hostile text takes time in proportion to its length', () => {
  const inline = [
    '*a _b ',
    '[',
    '![',
    '[](',
    '`',
    '``a`',
    '\\boxed{',
    '$a b $1',
    '\\(',
    '<br',
    'http://a ',
    '*a**b***c',
  ];
  const block = [
    '> ',
    '- ',
    '- a\n\n',
    '$$ a\n',
    '\\[ a\n',
    '|a\n',
    '|a|\n|-|\n\n',
    '```\n',
    '1. a\n   - b\n\n',
    '> a\nb\n',
  ];
  const math = ['\\boxed{', '\\frac{', '\\frac', '^{', '\\sqrt', '\\text{a', 'x_'];
  const start = performance.now();
  for (const unit of inline) parseInline(unit.repeat(5000), { open: true });
  for (const unit of block) withoutUndecidedEnd(unit.repeat(5000)) && parseMarkdown(unit.repeat(5000));
  for (const unit of math) readableMath(unit.repeat(5000));
  assert.ok(performance.now() - start < 10_000, 'quadratic work would take minutes');
});

test('nesting has a floor', () => {
  assert.doesNotThrow(() => parseMarkdown('> '.repeat(2000) + 'x'));
  assert.doesNotThrow(() => parseMarkdown(Array.from({ length: 500 }, (_, i) => `${'  '.repeat(i)}- x`).join('\n')));
});

test('LaTeX reads as plain text', () => {
  const text = (source) =>
    readableMath(source)
      .map((run) => (run.boxed ? `[${run.text}]` : run.text))
      .join('');
  assert.equal(text('\\boxed{42}'), '[42]');
  assert.equal(text('x = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}'), 'x = (-b ± √(b²-4ac))/2a');
  assert.equal(text('a_{12} \\le \\pi \\cdot 10^{-3}'), 'a₁₂ ≤ π · 10⁻³');
  assert.equal(text('\\text{Dosis} = 5\\%'), 'Dosis = 5%');
  assert.equal(text('\\boxed{\\frac{1}{2}} \\in \\mathbb{R}'), '[1/2] ∈ ℝ');
  assert.equal(text('\\unknown{x}'), '\\unknownx');
});
