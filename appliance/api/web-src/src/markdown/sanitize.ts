/** The only way from a string of HTML into the page. */

import DOMPurify from 'dompurify';

const ALLOWED_TAGS = [
  'a', 'blockquote', 'br', 'code', 'del', 'div', 'em', 'h3', 'h4', 'h5', 'h6', 'hr', 'li', 'ol', 'p', 'pre', 's',
  'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
]; // prettier-ignore
const ALLOWED_ATTR = ['class', 'data-language', 'href', 'rel', 'start', 'tabindex', 'target'];

const purifier = DOMPurify(window);
// DOMPurify takes `target` away from links, since a page opened so could steer this one; `rel` keeps it from that.
purifier.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A') return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer');
});

/** A fragment with nothing in it that runs, loads or looks like a part of the page. */
export function sanitize(html: string): DocumentFragment {
  return purifier.sanitize(html, {
    ALLOWED_TAGS,
    ALLOWED_ATTR,
    // Every attribute but these has to look like an address.
    ADD_URI_SAFE_ATTR: ['data-language', 'rel', 'start', 'tabindex', 'target'],
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    ALLOW_DATA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}
