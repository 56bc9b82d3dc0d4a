/** Where one is: `#/` a new chat, `#/chat/ID`, `#/operator/TAB`. */

import { signal } from '@preact/signals';

export type Route =
  | { view: 'chat'; id: number | null }
  | { view: 'operator'; tab: string };

export function parseRoute(hash: string): Route {
  const [, view, rest] = hash.replace(/^#/, '').split('/');
  if (view === 'chat' && /^\d{1,15}$/.test(rest ?? '')) return { view: 'chat', id: Number(rest) };
  if (view === 'operator') return { view: 'operator', tab: rest || 'cards' };
  return { view: 'chat', id: null };
}

export const chatHref = (id: number | null): string => (id === null ? '#/' : `#/chat/${id}`);

export class Router {
  readonly route = signal<Route>(parseRoute(location.hash));

  constructor() {
    addEventListener('hashchange', () => {
      this.route.value = parseRoute(location.hash);
    });
  }

  go(href: string, replace = false): void {
    if (replace) {
      history.replaceState(null, '', href);
      this.route.value = parseRoute(href);
    } else location.hash = href;
  }
}
