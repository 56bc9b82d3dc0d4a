/** KaTeX, in a chunk of its own. */

import katex from 'katex';

/** Writes the formula into `target`; one that KaTeX cannot read stays as its TeX. */
export function typeset(tex: string, target: HTMLElement, display: boolean): void {
  try {
    katex.render(tex, target, {
      displayMode: display,
      throwOnError: true,
      strict: 'ignore',
      trust: false,
      maxSize: 20,
      maxExpand: 500,
      output: 'htmlAndMathml',
    });
    target.classList.add('typeset');
  } catch {
    target.textContent = tex;
    target.classList.add('math-raw');
  }
}
