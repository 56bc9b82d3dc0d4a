/** Models: what is installed and loaded; load, unload, make default. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Confirm } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Model } from './types.js';
import { type Word, type Words, useWords } from './words.js';

const EVERY_MS = 2000;

export function Models(): JSX.Element {
  const store = useStore();
  const words = useWords();
  const { w, i18n, bytes } = words;
  const models = useResource<{ models: Model[] }>('api/admin/models', EVERY_MS);
  const [busy, setBusy] = useState<ReadonlySet<string>>(new Set());
  const [unloading, setUnloading] = useState<Model | null>(null);
  const may = store.session.may('admin:write');

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
      </span>
    );
  };
  return (
    <Shown of={models}>
      {({ models: rows }) => (
        <>
          {rows.length === 0 && <p class="op-note">{w('models_none')}</p>}
          {rows.length > 0 && (
            <Table
              label={w('tab_models')}
              rows={rows}
              keyOf={(model) => model.id}
              columns={[
                {
                  name: w('model'),
                  cell: (model) => (
                    <>
                      <strong>{model.name}</strong> {model.quantization}
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
                { name: w('model_requests'), cell: (model) => (model.state === 'installed' ? w('none') : w('model_requests_value', { running: model.running, waiting: model.waiting })) },
                { name: w('model_size'), number: true, cell: (model) => bytes(model.size_bytes) },
                ...(may ? [{ name: w('actions'), cell: buttons }] : []),
              ]}
            />
          )}
          {busy.size > 0 && (
            <p class="op-note" role="status">
              {w('model_working')}
            </p>
          )}
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
