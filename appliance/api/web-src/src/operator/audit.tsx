/** Who did what: the audit log, and whether nobody has changed it. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { download } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { AuditItem, AuditVerdict, Page } from './types.js';
import { useWords } from './words.js';

const FAMILIES = ['session.', 'user.', 'key.', 'job.', 'setup.', 'audit.', 'bundle.'] as const;

export function Audit(): JSX.Element {
  const store = useStore();
  const { w, i18n, time } = useWords();
  const [family, setFamily] = useState('');
  const [verdict, setVerdict] = useState<AuditVerdict | null>(null);
  const chosen = family === '' ? '' : `&action=${encodeURIComponent(family)}`;
  const rows = useResource<Page<AuditItem>>(`api/admin/audit?limit=200${chosen}`, 10_000);
  const verify = async (): Promise<void> => {
    setVerdict(await store.http.json<AuditVerdict>('api/admin/audit/verify'));
  };
  const save = async (): Promise<void> => {
    const response = await store.http.request('api/admin/audit/export', { headers: { Accept: '*/*' } });
    download(await response.blob(), 'r1box-audit.jsonl');
  };
  return (
    <>
      <p class="op-bar">
        <select class="pick" aria-label={w('audit_action')} value={family} onChange={(event) => setFamily(event.currentTarget.value)}>
          <option value="">{w('audit_all')}</option>
          {FAMILIES.map((one) => (
            <option key={one} value={one}>
              {one.replace('.', '')}
            </option>
          ))}
        </select>
        <button type="button" class="button plain" onClick={() => store.run(verify)}>
          {w('audit_verify')}
        </button>
        <button type="button" class="button plain" onClick={() => store.run(save)}>
          {w('audit_export')}
        </button>
      </p>
      {verdict !== null && (
        <p class={verdict.whole ? 'op-note' : 'op-problem'} role="status">
          {verdict.whole ? w('audit_whole', { rows: i18n.number(verdict.rows) }) : w('audit_broken', { problem: verdict.problem ?? '' })}
        </p>
      )}
      <Shown of={rows}>
        {({ items }) =>
          items.length === 0 ? (
            <p class="op-note">{w('audit_none')}</p>
          ) : (
            <Table
              label={w('tab_audit')}
              rows={items}
              keyOf={(row) => row.seq}
              columns={[
                { name: w('request_at'), cell: (row) => time(row.at) },
                { name: w('request_who'), cell: (row) => [row.actor_name, row.address].filter(Boolean).join(' · ') },
                { name: w('audit_action'), cell: (row) => <code>{row.action}</code> },
                { name: w('audit_target'), cell: (row) => row.target ?? w('none') },
                { name: w('details'), wraps: true, cell: (row) => <span class="op-details">{told(row.details)}</span> },
              ]}
            />
          )
        }
      </Shown>
    </>
  );
}

const told = (details: Record<string, unknown>): string =>
  Object.entries(details)
    .map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ');
