/** Problems that are so now, and the buttons that mend them. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Confirm } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import type { Issue, Issues as IssueList } from './types.js';
import { type Word, useWords } from './words.js';

const EVERY_MS = 5000;

export function Issues(): JSX.Element {
  const store = useStore();
  const { w, time, meaning, fixup: named } = useWords();
  const issues = useResource<IssueList>('api/admin/issues', EVERY_MS);
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState<{ issue: Issue; name: string; label: string } | null>(null);
  const may = store.session.may('admin:write');
  const act = (path: string): void =>
    store.run(async () => {
      setBusy(true);
      try {
        const done = await store.http.json<{ message?: string }>(`api/admin/issues/${path}`, { method: 'POST' });
        if (done.message) store.notify(done.message);
      } finally {
        setBusy(false);
        await issues.refresh();
      }
    });
  return (
    <Shown of={issues}>
      {({ issues: rows, checked_at }) => (
        <>
          <p class="op-bar">
            <span>{checked_at === null ? '' : w('issues_checked', { time: time(checked_at) })}</span>
            {may && (
              <button type="button" class="button plain" disabled={busy} onClick={() => act('check')}>
                {w('issues_check')}
              </button>
            )}
          </p>
          {rows.length === 0 && <p class="op-note">{w('issues_none')}</p>}
          {rows.map((issue) => (
            <section key={issue.id} class={`op-card issue ${issue.severity}`}>
              <header>
                <span class={`badge ${issue.severity}`}>{w(`severity_${issue.severity}` as Word)}</span>
                <h3>{meaning(issue.code) ?? issue.message}</h3>
              </header>
              {meaning(issue.code) !== null && <p lang="en">{issue.message}</p>}
              {issue.hint !== null && <p lang="en">{issue.hint}</p>}
              <p class="op-bar">
                <span>{w('issue_since', { time: time(issue.since) })}</span>
                {may &&
                  issue.fixups.map((fixup) => (
                    <button
                      key={fixup.name}
                      type="button"
                      class="button plain"
                      disabled={busy}
                      onClick={() => setAsking({ issue, name: fixup.name, label: named(fixup) })}
                    >
                      {named(fixup)}
                    </button>
                  ))}
              </p>
            </section>
          ))}
          {asking !== null && (
            <Confirm
              title={asking.label}
              text={meaning(asking.issue.code) ?? asking.issue.message}
              action={w('issue_fix')}
              harmless
              onConfirm={() => act(`${encodeURIComponent(asking.issue.id)}/fixups/${encodeURIComponent(asking.name)}`)}
              onClose={() => setAsking(null)}
            />
          )}
        </>
      )}
    </Shown>
  );
}
