/** markdown-it as this page uses it: no HTML of the model's, no pictures from elsewhere, links that leave no trace. */

import MarkdownIt from 'markdown-it';
import cjkFriendly from 'markdown-it-cjk-friendly';
import { mathRules } from './math.js';

export function createParser(): MarkdownIt {
  const md = new MarkdownIt({ html: false, linkify: true, breaks: false, typographer: false });
  md.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  // Only addresses that a browser opens as a page or a mail; everything else stays text.
  md.validateLink = (url) => /^(?:https?:|mailto:)/i.test(url.trim());
  // Without it **注意：**体温 stays as it is written: CommonMark's rule of emphasis knows words with spaces alone.
  md.use(cjkFriendly);
  md.use(mathRules);

  const { escapeHtml } = md.utils;
  md.renderer.rules.link_open = (tokens, index, options, _env, self) => {
    const token = tokens[index]!;
    token.attrSet('target', '_blank');
    token.attrSet('rel', 'noopener noreferrer');
    return self.renderToken(tokens, index, options);
  };
  // A picture would be loaded from another server: its text becomes a link to it.
  md.renderer.rules.image = (tokens, index) => {
    const token = tokens[index]!;
    const address = token.attrGet('src') ?? '';
    const label = token.content || address;
    return `<a href="${escapeHtml(address)}" target="_blank" rel="noopener noreferrer">${escapeHtml(label)}</a>`;
  };
  const code = (content: string, language: string): string =>
    `<div class="code-block" data-language="${escapeHtml(language)}">` +
    `<pre tabindex="0"><code>${escapeHtml(content)}</code></pre></div>\n`;
  md.renderer.rules.fence = (tokens, index) => {
    const { content, info } = tokens[index]!;
    return code(content, /^[\w+#.-]{1,30}/.exec(md.utils.unescapeAll(info).trim())?.[0] ?? '');
  };
  md.renderer.rules.code_block = (tokens, index) => code(tokens[index]!.content, '');
  md.renderer.rules.table_open = () => '<div class="table-scroll" tabindex="0"><table>\n';
  md.renderer.rules.table_close = () => '</table></div>\n';
  // The style attribute for columns would be refused by the page's policy.
  for (const name of ['th_open', 'td_open']) {
    md.renderer.rules[name] = (tokens, index, options, _env, self) => {
      const token = tokens[index]!;
      const align = /text-align:(left|center|right)/.exec(token.attrGet('style') ?? '')?.[1];
      token.attrs = align === undefined ? null : [['class', `align-${align}`]];
      return self.renderToken(tokens, index, options);
    };
  }
  // The answer's headings come below the page's own.
  for (const name of ['heading_open', 'heading_close']) {
    md.renderer.rules[name] = (tokens, index, options, _env, self) => {
      const token = tokens[index]!;
      const level = Number(token.tag.slice(1));
      if (token.nesting === 1) token.attrJoin('class', `md-h${level}`);
      const copy = Object.assign(Object.create(Object.getPrototypeOf(token) as object), token) as typeof token;
      copy.tag = `h${Math.min(level + 2, 6)}`;
      return self.renderToken([copy], 0, options);
    };
  }
  return md;
}
