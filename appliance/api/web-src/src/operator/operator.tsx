/** What staff who run the box see: a tab for each part of the admin API that this person may read. */

import type { ComponentType, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Audit } from './audit.js';
import { Cards } from './cards.js';
import { Issues } from './issues.js';
import { Jobs } from './jobs.js';
import { Keys } from './keys.js';
import { Logs } from './logs.js';
import { Models } from './models.js';
import { useResource } from './resource.js';
import { Settings } from './settings.js';
import type { Issues as IssueList } from './types.js';
import { Requests, Usage } from './usage.js';
import { Users } from './users.js';
import { type Word, useWords } from './words.js';

interface Tab {
  id: string;
  view: ComponentType;
  needs: string;
}

const TABS: Tab[] = [
  { id: 'cards', view: Cards, needs: 'admin:read' },
  { id: 'models', view: Models, needs: 'admin:read' },
  { id: 'jobs', view: Jobs, needs: 'admin:read' },
  { id: 'issues', view: Issues, needs: 'admin:read' },
  { id: 'requests', view: Requests, needs: 'accounts:read' },
  { id: 'usage', view: Usage, needs: 'accounts:read' },
  { id: 'keys', view: Keys, needs: 'accounts:read' },
  { id: 'users', view: Users, needs: 'accounts:read' },
  { id: 'audit', view: Audit, needs: 'audit:read' },
  { id: 'logs', view: Logs, needs: 'accounts:read' },
  { id: 'settings', view: Settings, needs: 'accounts:read' },
];

const ISSUES_EVERY_MS = 15_000;

export function Operator({ tab }: { tab: string }): JSX.Element {
  const { session } = useStore();
  const { w } = useWords();
  const tabs = TABS.filter((one) => session.may(one.needs));
  const chosen = tabs.find((one) => one.id === tab) ?? tabs[0];
  const open = useResource<IssueList>('api/admin/issues', ISSUES_EVERY_MS).value?.issues ?? [];
  const grave = open.some((issue) => issue.severity === 'error');
  const bar = useRef<HTMLElement>(null);
  // On a phone the tabs are wider than the screen.
  useEffect(() => bar.current?.querySelector('[aria-current]')?.scrollIntoView({ inline: 'nearest', block: 'nearest' }), [chosen, open.length]);
  return (
    <div class="operator">
      <header class="op-head">
        <h2>{w('title')}</h2>
        {session.canChat.value && (
          <a class="op-back" href="#/">
            {w('back')}
          </a>
        )}
      </header>
      <nav class="op-tabs" aria-label={w('title')} ref={bar}>
        {tabs.map((one) => (
          <a key={one.id} href={`#/operator/${one.id}`} aria-current={one === chosen ? 'page' : undefined}>
            {w(`tab_${one.id}` as Word)}
            {one.id === 'issues' && open.length > 0 && (
              <>
                {' '}
                <span class={grave ? 'badge error' : 'badge warning'}>{open.length}</span>
              </>
            )}
          </a>
        ))}
      </nav>
      <div class="op-view">{chosen === undefined ? <p class="op-note">{w('forbidden')}</p> : <chosen.view key={chosen.id} />}</div>
    </div>
  );
}
