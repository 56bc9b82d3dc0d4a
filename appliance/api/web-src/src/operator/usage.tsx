/** What was used, by whom, and the log of requests (without what was said). */

import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { download } from '../views/parts.js';
import { Plot } from './plot.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Page, RequestItem, UsageItem } from './types.js';
import { useWords } from './words.js';

const DAY_MS = 86_400_000;

export function Usage(): JSX.Element {
  const store = useStore();
  const { w, i18n } = useWords();
  const [days, setDays] = useState(30);
  const since = useMemo(() => new Date(Date.now() - (days - 1) * DAY_MS).toISOString().slice(0, 10), [days]);
  const perDay = useResource<{ items: UsageItem[] }>(`api/admin/usage?by=day&since=${since}`, null);
  const perSubject = useResource<{ items: UsageItem[] }>(`api/admin/usage?by=key&by=user&since=${since}`, null);
  const number = (value: number): string => i18n.number(value);
  const csv = async (): Promise<void> => {
    const response = await store.http.request(`api/admin/usage?format=csv&since=${since}`, { headers: { Accept: 'text/csv' } });
    download(await response.blob(), 'r1box-usage.csv');
  };
  return (
    <>
      <p class="op-bar">
        <select class="pick" aria-label={w('tab_usage')} value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
          {[7, 30, 90].map((count) => (
            <option key={count} value={count}>
              {w('usage_days', { days: count })}
            </option>
          ))}
        </select>
        <button type="button" class="button plain" onClick={() => store.run(csv)}>
          {w('usage_csv')}
        </button>
      </p>
      <Shown of={perDay}>{({ items }) => <DayPlot items={items} since={since} days={days} />}</Shown>
      <Shown of={perSubject}>
        {({ items }) =>
          items.length === 0 ? (
            <p class="op-note">{w('usage_none')}</p>
          ) : (
            <Table
              label={w('tab_usage')}
              rows={[...items].sort((a, b) => b.total_tokens - a.total_tokens)}
              keyOf={(row) => row.subject ?? ''}
              columns={[
                { name: w('usage_who'), cell: (row) => row.name ?? row.subject },
                { name: w('usage_requests'), number: true, cell: (row) => number(row.requests) },
                { name: w('usage_errors'), number: true, cell: (row) => number(row.errors) },
                { name: w('usage_prompt'), number: true, cell: (row) => number(row.prompt_tokens) },
                { name: w('usage_thinking'), number: true, cell: (row) => number(row.thinking_tokens) },
                { name: w('usage_answer'), number: true, cell: (row) => number(row.answer_tokens - row.thinking_tokens) },
                { name: w('usage_total'), number: true, cell: (row) => number(row.total_tokens) },
              ]}
            />
          )
        }
      </Shown>
    </>
  );
}

function DayPlot({ items, since, days }: { items: UsageItem[]; since: string; days: number }): JSX.Element {
  const { w, i18n } = useWords();
  const { times, values, sum } = useMemo(() => {
    const byDay = new Map(items.map((item) => [item.day, item.total_tokens]));
    const start = Date.parse(since);
    const all = Array.from({ length: days }, (_, day) => start + day * DAY_MS);
    const tokens = all.map((at) => byDay.get(new Date(at).toISOString().slice(0, 10)) ?? 0);
    return { times: all.map((at) => at / 1000), values: tokens, sum: tokens.reduce((a, b) => a + b, 0) };
  }, [items, since, days]);
  const name = w('usage_tokens_per_day');
  return (
    <figure class="op-card">
      <figcaption>{name}</figcaption>
      <Plot times={times} values={values} label={`${name}: ${i18n.number(sum)}`} format={i18n.short} bars />
    </figure>
  );
}

export function Requests(): JSX.Element {
  const { w, i18n, time, seconds } = useWords();
  const [errorsOnly, setErrorsOnly] = useState(false);
  const requests = useResource<Page<RequestItem>>(`api/admin/requests?limit=100${errorsOnly ? '&errors_only=true' : ''}`, 5000);
  const tokens = (row: RequestItem): string =>
    [row.prompt_tokens, row.thinking_tokens, row.answer_tokens - row.thinking_tokens].map(i18n.number).join(' · ');
  return (
    <>
      <p class="op-bar">
        <label class="check inline">
          <input type="checkbox" checked={errorsOnly} onChange={(event) => setErrorsOnly(event.currentTarget.checked)} />
          <span>{w('errors_only')}</span>
        </label>
      </p>
      <Shown of={requests}>
        {({ items }) =>
          items.length === 0 ? (
            <p class="op-note">{w('requests_none')}</p>
          ) : (
            <Table
              label={w('tab_requests')}
              rows={items}
              keyOf={(row) => row.id}
              columns={[
                { name: w('request_at'), cell: (row) => time(row.at) },
                { name: w('request_who'), cell: (row) => row.name },
                { name: w('model'), cell: (row) => row.model },
                { name: w('request_finish'), cell: (row) => (row.error_code === null ? row.finish : <span class="badge error">{row.error_code}</span>) },
                { name: w('request_tokens'), number: true, cell: tokens },
                { name: w('request_first'), number: true, cell: (row) => seconds(row.first_token_s) },
                { name: w('request_took'), number: true, cell: (row) => seconds(row.duration_s) },
              ]}
            />
          )
        }
      </Shown>
    </>
  );
}
