/**
 * LaTeX made readable as plain text: `\frac{1}{2}` becomes 1/2, `x^2` x², `\boxed{42}` a marked 42. Pure: no DOM.
 *
 * It is no typesetter. What it does not know stays as the model wrote it, so nothing is ever lost or invented.
 *
 * @typedef {{text: string, boxed: boolean}} MathRun
 */

import { closingBrace } from './inline.js';

// prettier-ignore
const SYMBOLS = new Map(
  Object.entries({
    times: '×', cdot: '·', div: '÷', pm: '±', mp: '∓', ast: '∗', circ: '°', degree: '°',
    le: '≤', leq: '≤', ge: '≥', geq: '≥', ne: '≠', neq: '≠', approx: '≈', equiv: '≡', sim: '∼', propto: '∝', ll: '≪', gg: '≫',
    to: '→', rightarrow: '→', Rightarrow: '⇒', implies: '⇒', leftarrow: '←', Leftarrow: '⇐', iff: '⇔',
    leftrightarrow: '↔', Leftrightarrow: '⇔', mapsto: '↦',
    in: '∈', notin: '∉', subset: '⊂', subseteq: '⊆', supset: '⊃', cup: '∪', cap: '∩', emptyset: '∅', setminus: '∖',
    forall: '∀', exists: '∃', neg: '¬', land: '∧', wedge: '∧', lor: '∨', vee: '∨', therefore: '∴', because: '∵',
    infty: '∞', partial: '∂', nabla: '∇', int: '∫', sum: '∑', prod: '∏', angle: '∠', perp: '⊥', parallel: '∥', triangle: '△',
    ldots: '…', cdots: '⋯', dots: '…', vdots: '⋮', prime: '′', mid: '|', vert: '|', lvert: '|', rvert: '|',
    langle: '⟨', rangle: '⟩', lfloor: '⌊', rfloor: '⌋', lceil: '⌈', rceil: '⌉', quad: '  ', qquad: '    ',
    alpha: 'α', beta: 'β', gamma: 'γ', delta: 'δ', epsilon: 'ε', varepsilon: 'ε', zeta: 'ζ', eta: 'η', theta: 'θ', iota: 'ι',
    kappa: 'κ', lambda: 'λ', mu: 'μ', nu: 'ν', xi: 'ξ', pi: 'π', rho: 'ρ', sigma: 'σ', tau: 'τ', upsilon: 'υ', phi: 'φ',
    varphi: 'φ', chi: 'χ', psi: 'ψ', omega: 'ω', Gamma: 'Γ', Delta: 'Δ', Theta: 'Θ', Lambda: 'Λ', Xi: 'Ξ', Pi: 'Π',
    Sigma: 'Σ', Phi: 'Φ', Psi: 'Ψ', Omega: 'Ω',
    sin: 'sin', cos: 'cos', tan: 'tan', cot: 'cot', arcsin: 'arcsin', arccos: 'arccos', arctan: 'arctan', log: 'log', ln: 'ln',
    lg: 'lg', exp: 'exp', lim: 'lim', max: 'max', min: 'min', gcd: 'gcd', det: 'det', bmod: 'mod', mod: 'mod',
    left: '', right: '', big: '', Big: '', bigg: '', Bigg: '', displaystyle: '', limits: '',
  }),
);
const WRAPPERS = new Set([
  'text',
  'textbf',
  'textit',
  'mathrm',
  'mathbf',
  'mathit',
  'operatorname',
  'mbox',
  'boldsymbol',
]);
const SET_LETTERS = new Map(Object.entries({ R: 'ℝ', N: 'ℕ', Z: 'ℤ', Q: 'ℚ', C: 'ℂ' }));
const SUPERSCRIPT = new Map([...'0123456789+-=()n'].map((from, i) => [from, [...'⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ'][i]]));
const SUBSCRIPT = new Map([...'0123456789+-=()'].map((from, i) => [from, [...'₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎'][i]]));
const MAX_DEPTH = 8;

/** @param {string} source LaTeX without its delimiters @returns {MathRun[]} */
export function readableMath(source) {
  /** @type {MathRun[]} */
  const runs = [];
  let rest = source;
  for (let at = rest.indexOf('\\boxed{'); at >= 0; at = rest.indexOf('\\boxed{')) {
    const end = closingBrace(rest, at + 6);
    if (end < 0) break;
    pushRun(runs, rest.slice(0, at), false);
    pushRun(runs, rest.slice(at + 7, end), true);
    rest = rest.slice(end + 1);
  }
  pushRun(runs, rest, false);
  return runs;
}

/** @param {MathRun[]} runs @param {string} source @param {boolean} boxed */
function pushRun(runs, source, boxed) {
  const text = convert(source, 0).replace(/[ \t]+\n/g, '\n');
  const trimmed = boxed ? text.trim() : text;
  if (trimmed !== '') runs.push({ text: trimmed, boxed });
}

/** @param {string} source @param {number} depth @returns {string} */
function convert(source, depth) {
  if (depth > MAX_DEPTH) return source;
  let out = '';
  let i = 0;
  while (i < source.length) {
    const char = source[i];
    if (char === '\\') {
      const [text, next] = command(source, i, depth);
      out += text;
      i = next;
    } else if (char === '^' || char === '_') {
      const [inner, next] = argument(source, i + 1, depth);
      out += script(char, inner);
      i = next;
    } else if (char === '{' || char === '}') {
      i += 1;
    } else if (char === '&') {
      i += 1; // alignment inside aligned or cases
    } else {
      out += char;
      i += 1;
    }
  }
  return out;
}

/** @param {string} source @param {number} i @param {number} depth @returns {[string, number]} */
function command(source, i, depth) {
  const name = /^[A-Za-z]+/.exec(source.slice(i + 1, i + 33))?.[0] ?? '';
  if (name === '') return [controlSymbol(source[i + 1] ?? ''), i + 2];
  const after = i + 1 + name.length;
  if (name === 'frac' || name === 'dfrac' || name === 'tfrac') {
    const [top, middle] = argument(source, after, depth);
    const [bottom, next] = argument(source, middle, depth);
    return [`${grouped(top)}/${grouped(bottom)}`, next];
  }
  if (name === 'sqrt') {
    const root = /^\[([^\]]*)\]/.exec(source.slice(after, after + 40));
    const [inner, next] = argument(source, after + (root?.[0].length ?? 0), depth);
    return [`${root === null ? '' : script('^', root[1])}√${inner.length > 1 ? `(${inner})` : inner}`, next];
  }
  if (name === 'mathbb') {
    const [inner, next] = argument(source, after, depth);
    return [SET_LETTERS.get(inner) ?? inner, next];
  }
  if (WRAPPERS.has(name)) return argument(source, after, depth);
  if (name === 'begin' || name === 'end') {
    const environment = /^\{[a-z*]+\}/.exec(source.slice(after, after + 40));
    if (environment !== null) return ['', after + environment[0].length];
  }
  const symbol = SYMBOLS.get(name);
  return symbol === undefined ? [`\\${name}`, after] : [symbol, after];
}

/** @param {string} char */
function controlSymbol(char) {
  if (char === '\\') return '\n';
  if (char === '!') return '';
  if (char === ',' || char === ';' || char === ':' || char === ' ') return ' ';
  return char; // \% \{ \} \$ and the like
}

/**
 * The group or single sign that follows, converted, and where it ends.
 * @param {string} source
 * @param {number} i
 * @param {number} depth
 * @returns {[string, number]}
 */
function argument(source, i, depth) {
  while (source[i] === ' ') i += 1;
  if (source[i] === '{') {
    const end = closingBrace(source, i);
    if (end >= 0) return [convert(source.slice(i + 1, end), depth + 1), end + 1];
  }
  if (source[i] === '\\' && depth < MAX_DEPTH) return command(source, i, depth + 1);
  const char = String.fromCodePoint(source.codePointAt(i) ?? 32);
  return i < source.length ? [char, i + char.length] : ['', i];
}

/** @param {string} mark @param {string} inner */
function script(mark, inner) {
  if (inner === '°' || inner === '′') return inner;
  const table = mark === '^' ? SUPERSCRIPT : SUBSCRIPT;
  const small = [...inner].map((char) => table.get(char));
  if (inner !== '' && small.every((char) => char !== undefined)) return small.join('');
  return inner.length > 1 ? `${mark}(${inner})` : `${mark}${inner}`;
}

/** @param {string} text */
const grouped = (text) => (/^[\p{L}\p{N}.]+$/u.test(text) ? text : `(${text})`);
