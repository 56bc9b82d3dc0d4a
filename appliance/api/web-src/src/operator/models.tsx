/** Models: what is installed and loaded; new ones, load, unload, make default, check; where each runs and the proof. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Confirm } from '../views/parts.js';
import { GetModel } from './getmodel.js';
import { JobCard, isGoingOn, useJobs } from './jobs.js';
import { Plans } from './plans.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Job, Model, Offload } from './types.js';
import { type Word, type Words, useWords } from './words.js';

const EVERY_MS = 2000;

export function Models(): JSX.Element {
  const store = useStore();
  const words = useWords();
  const { w, i18n, bytes } = words;
  const models = useResource<{ models: Model[] }>('api/admin/models', EVERY_MS);
  const [busy, setBusy] = useState<ReadonlySet<string>>(new Set());
  const [unloading, setUnloading] = useState<Model | null>(null);
  const [getting, setGetting] = useState(false);
  const jobs = useJobs();
  const working = (jobs.value?.jobs ?? []).filter(isGoingOn);
  const may = store.session.may('admin:write');

  const check = (model: Model): void =>
    store.run(async () => {
      await store.http.json<Job>('api/admin/jobs', { method: 'POST', json: { kind: 'verify', model: model.id } });
      await jobs.refresh();
    });

  const act = (model: Model, verb: 'load' | 'unload' | 'activate'): void =>
    store.run(async () => {
      setBusy((before) => new Set(before).add(model.id));
      try {
        const json = verb === 'activate' ? {} : { json: {} };
        await store.http.done(`api/admin/models/${encodeURIComponent(model.id)}/${verb}`, { method: 'POST', ...json });
      } finally {
        setBusy((before) => new Set([...before].filter((id) => id !== model.id)));
        await models.refresh();
        void store.session.refresh();
        store.health.now();
      }
    });

  const buttons = (model: Model): JSX.Element | null => {
    if (!may) return null;
    const loaded = model.state === 'ready';
    const idle = model.state === 'installed' || model.state === 'failed';
    return (
      <span class="op-buttons">
        {idle && (
          <button type="button" class="button plain" disabled={busy.has(model.id)} onClick={() => act(model, 'load')}>
            {w('model_load')}
          </button>
        )}
        {loaded && (
          <button type="button" class="button plain" disabled={busy.has(model.id)} onClick={() => setUnloading(model)}>
            {w('model_unload')}
          </button>
        )}
        {!model.default && (idle || loaded) && (
          <button type="button" class="button plain" disabled={busy.has(model.id)} onClick={() => act(model, 'activate')}>
            {w('model_make_default')}
          </button>
        )}
        <button type="button" class="button plain" disabled={working.some((job) => job.kind === 'verify' && job.request.model === model.id)} title={w('model_check_hint')} onClick={() => check(model)}>
          {w('model_check')}
        </button>
      </span>
    );
  };
  return (
    <Shown of={models}>
      {({ models: rows }) => (
        <>
          {may && rows.length > 0 && (
            <p class="op-bar">
              <button type="button" class="button" onClick={() => setGetting(true)}>
                {w('get_model')}
              </button>
            </p>
          )}
          {working.map((job) => (
            <JobCard key={job.id} job={job} onChange={jobs.refresh} />
          ))}
          {rows.length === 0 && working.length === 0 && (
            <section class="op-card first-model">
              <h3>{w('models_none')}</h3>
              <p>{w(may ? 'models_first' : 'models_first_other')}</p>
              {may && (
                <button type="button" class="button" onClick={() => setGetting(true)}>
                  {w('get_model')}
                </button>
              )}
            </section>
          )}
          {rows.length > 0 && (
            <Table
              label={w('tab_models')}
              rows={rows}
              keyOf={(model) => model.id}
              columns={[
                {
                  name: w('model'),
                  wraps: true,
                  cell: (model) => (
                    <>
                      <strong class="nowrap">{model.name}</strong> {model.quantization}
                      {model.default && <span class="badge">{w('model_default')}</span>}
                      {model.pinned && <span class="badge">{w('model_pinned')}</span>}
                      {model.error !== null && <p class="op-problem">{model.error}</p>}
                    </>
                  ),
                },
                { name: w('model_state'), cell: (model) => <State model={model} words={words} /> },
                {
                  name: w('model_seats'),
                  cell: (model) =>
                    model.seats === null || model.context_tokens === null
                      ? w('none')
                      : w('model_seats_value', { seats: model.seats, context: i18n.short(model.context_tokens) }),
                },
                {
                  name: w('model_where'),
                  cell: (model) =>
                    model.state === 'installed' ? w('none') : model.devices.join(', ') || w('model_processor'),
                },
                { name: w('model_offload'), cell: (model) => (model.offload === null ? w('none') : <span class={`badge offload-${model.offload.toLowerCase()}`}>{model.offload}</span>) },
                { name: w('model_requests'), wraps: true, cell: (model) => (model.state === 'installed' ? w('none') : w('model_requests_value', { running: model.running, waiting: model.waiting })) },
                { name: w('model_size'), number: true, cell: (model) => bytes(model.size_bytes) },
                ...(may ? [{ name: w('actions'), wraps: true, cell: buttons }] : []),
              ]}
            />
          )}
          {busy.size > 0 && (
            <p class="op-note" role="status">
              {w('model_working')}
            </p>
          )}
          {rows.some((model) => model.offload !== null) && <Proofs may={may} />}
          <Plans may={may} onBegun={jobs.refresh} />
          {getting && <GetModel folders={jobs.value?.folders ?? []} onClose={() => setGetting(false)} onBegun={jobs.refresh} />}
          {unloading !== null && (
            <Confirm
              title={w('unload_title', { name: unloading.name })}
              text={w('unload_text')}
              action={w('model_unload')}
              onConfirm={() => act(unloading, 'unload')}
              onClose={() => setUnloading(null)}
            />
          )}
        </>
      )}
    </Shown>
  );
}

function State({ model, words: { w } }: { model: Model; words: Words }): JSX.Element {
  const percent = model.state === 'starting' && model.load_fraction !== null ? Math.round(model.load_fraction * 100) : null;
  return (
    <>
      <span class={`badge state-${model.state}`}>
        {percent === null ? w(`state_${model.state}` as Word) : w('state_starting_percent', { percent })}
      </span>
      {percent !== null && <progress class="progress" max={100} value={percent} aria-label={w('state_starting')} />}
    </>
  );
}

/** Whether each loaded model really runs on its cards, what speaks for it, and how quick it was. */
function Proofs({ may }: { may: boolean }): JSX.Element {
  const store = useStore();
  const { w, time, meaning } = useWords();
  const offload = useResource<{ models: Offload[] }>('api/admin/offload', 15_000);
  const [busy, setBusy] = useState(false);
  const again = async (): Promise<void> => {
    setBusy(true);
    try {
      await store.http.done('api/admin/offload/check', { method: 'POST' });
    } finally {
      setBusy(false);
      await offload.refresh();
    }
  };
  const expected = ({ expected_tokens_per_s: band }: Offload): string | null =>
    band === null ? null : w('offload_expected', { low: Math.round(band[0]), high: Math.round(band[1]) });
  return (
    <section aria-labelledby="offload-title">
      <h3 id="offload-title">{w('offload')}</h3>
      <Shown of={offload}>
        {({ models }) => (
          <>
            {models.map((one) => (
              <section key={one.model} class="op-card" aria-label={one.model}>
                <header>
                  <span class={`badge offload-${one.state.toLowerCase()}`}>{one.state}</span>
                  <h4>{one.model}</h4>
                </header>
                {one.reasons.map((reason) => (
                  <p key={reason.code} class="op-problem">
                    {meaning(reason.code)} <span lang="en">{reason.message}</span>
                  </p>
                ))}
                <ul class="op-proof">
                  {[...one.proof, expected(one)].filter(Boolean).map((line) => (
                    <li key={line}>{line}</li>
                  ))}
                </ul>
                <p class="op-bar">
                  <span>{w('issues_checked', { time: time(one.checked_at) })}</span>
                </p>
              </section>
            ))}
            {may && (
              <p class="op-bar">
                <button type="button" class="button plain" disabled={busy} onClick={() => store.run(again)}>
                  {w('offload_again')}
                </button>
              </p>
            )}
          </>
        )}
      </Shown>
    </section>
  );
}
