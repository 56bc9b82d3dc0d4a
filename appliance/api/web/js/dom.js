/** Small helpers to build elements. Text always becomes a text node; nothing here parses HTML. */

const SVG = 'http://www.w3.org/2000/svg';

/** Line icons on a 24 grid, drawn with the current colour. */
const ICONS = {
  plus: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6 6 18',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4',
  trash: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  check: 'M5 12.5 10 17 19 7',
  retry: 'M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  chevron: 'M9 6l6 6-6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 9.5v-5M9 19.5v-5',
  warning: 'M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.2',
};

/**
 * `h('button.icon', {'aria-label': 'Copy', onclick: f}, child, ...)`.
 * Properties starting with `on` are listeners, true and false set or leave out an attribute.
 * @param {string} selector tag and classes
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string | null | undefined)} children
 * @returns {any} the element, as the type its tag says
 */
export function h(selector, properties = {}, ...children) {
  const [tag, ...classes] = selector.split('.');
  const element = document.createElement(tag);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** @param {keyof typeof ICONS} name @returns {SVGElement} */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** @param {string} id @returns {any} an element that index.html must have */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`index.html has no #${id}`);
  return element;
}

/**
 * Copies text. navigator.clipboard exists only on https and localhost; a box is often plain http on a local network.
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const field = h('textarea.visually-hidden', { 'aria-hidden': 'true', tabindex: -1, readonly: true });
    field.value = text;
    document.body.append(field);
    field.select();
    const copied = document.execCommand('copy');
    field.remove();
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
    return copied;
  }
}

/**
 * A button that copies and says so on itself for a moment.
 * @param {object} options
 * @param {() => string} options.text
 * @param {string} options.label
 * @param {string} options.copiedLabel
 * @param {string} [options.selector]
 */
export function copyButton({ text, label, copiedLabel, selector = 'button.quiet' }) {
  const words = h('span', {}, label);
  const button = h(selector, { type: 'button' }, icon('copy'), words);
  let timer = 0;
  const show = (/** @type {boolean} */ copied) => {
    button.replaceChild(icon(copied ? 'check' : 'copy'), button.firstChild);
    words.textContent = copied ? copiedLabel : label;
  };
  button.addEventListener('click', async () => {
    if (!(await copyText(text()))) return;
    show(true);
    clearTimeout(timer);
    timer = setTimeout(() => show(false), 1600);
  });
  return button;
}
