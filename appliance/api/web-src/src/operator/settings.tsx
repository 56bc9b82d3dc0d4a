/** The box's own settings: what holds, where it comes from, changes and when they hold; and how the box is reached. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Field } from '../views/entry.js';
import { Dialog } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import type { BoxIdentity, Certificate, Setting, SettingKind, SettingList } from './types.js';
import { type Word, type Words, useWords } from './words.js';

export function Settings(): JSX.Element {
  const store = useStore();
  const words = useWords();
  const { w } = words;
  const settings = useResource<SettingList>('api/admin/settings', null);
  const [query, setQuery] = useState('');
  const [changing, setChanging] = useState<Setting | null>(null);
  const may = store.session.may('settings:write');
  const found = (item: Setting): boolean => `${item.name} ${item.description}`.toLowerCase().includes(query.trim().toLowerCase());
  return (
    <>
      <Identity />
      <Shown of={settings}>
        {({ items, restart_needed, file }) => (
          <>
            {restart_needed.length > 0 && (
              <p class="op-problem" role="status">
                {w('settings_restart', { names: restart_needed.join(', ') })}
              </p>
            )}
            <p class="op-bar">
              <input class="op-search" type="search" autoComplete="off" spellcheck={false} aria-label={w('settings_search')} placeholder={w('settings_search')} value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
            </p>
            {items.filter(found).map((item) => (
              <section key={item.name} class="op-card setting-item" aria-label={item.name}>
                <header>
                  <h3>
                    <code>{item.name}</code>
                  </h3>
                  <span class="badge">{w(`setting_${item.source}` as Word)}</span>
                  {item.pending && <span class="badge warning">{w('setting_pending')}</span>}
                </header>
                <p class="setting-value">{shown(item, item.value, words)}</p>
                {item.pending && <p>{w('setting_after', { value: shown(item, item.stored, words) })}</p>}
                <p class="op-details">{item.description}</p>
                <p class="op-bar">
                  <span>{item.locked ? w('setting_locked', { origin: item.origin }) : w(`setting_applies_${item.applies}` as Word)}</span>
                  {may && !item.locked && item.applies !== 'file' && (
                    <button type="button" class="button plain" onClick={() => setChanging(item)}>
                      {w('setting_change')}
                      <span class="visually-hidden"> {item.name}</span>
                    </button>
                  )}
                </p>
              </section>
            ))}
            <p class="op-note">{w('settings_file', { file })}</p>
            {changing !== null && <Change item={changing} onClose={() => setChanging(null)} onDone={settings.refresh} />}
          </>
        )}
      </Shown>
    </>
  );
}

/** How people come to the box, and what they compare when a browser asks whether to trust it. */
function Identity(): JSX.Element {
  const { w, time } = useWords();
  const box = useResource<BoxIdentity>('api/admin/box', null);
  const certificate = (name: Word, one: Certificate | null): JSX.Element | null =>
    one && (
      <div>
        <dt>{w(name)}</dt>
        <dd>
          <code class="fingerprint">{one.fingerprint}</code>
          {w('certificate_until', { time: time(one.not_after) })}
        </dd>
      </div>
    );
  return (
    <Shown of={box}>
      {(identity) => (
        <section class="op-card" aria-label={w('box')}>
          <header>
            <h3>{identity.hostname}</h3>
          </header>
          <dl class="facts-row">
            <div>
              <dt>{w('box_addresses')}</dt>
              <dd>{identity.urls.join(' · ') || w('none')}</dd>
            </div>
            <div>
              <dt>{w('box_version')}</dt>
              <dd>{identity.version}</dd>
            </div>
            <div>
              <dt>{w('box_since')}</dt>
              <dd>{time(identity.started_at)}</dd>
            </div>
            {certificate('box_certificate', identity.certificate)}
            {certificate('box_authority', identity.authority)}
          </dl>
          {identity.only_local && <p class="op-note">{w('box_only_local')}</p>}
        </section>
      )}
    </Shown>
  );
}

function shown(item: Setting, value: unknown, { w, i18n, bytes }: Words): string {
  if (value === null || value === '' || (Array.isArray(value) && value.length === 0)) return w('setting_none');
  if (typeof value === 'boolean') return w(value ? 'yes' : 'no');
  if (Array.isArray(value)) return value.join(', ');
  if (typeof value !== 'number') return String(value);
  return item.name.endsWith('_bytes') ? `${i18n.number(value)} (${bytes(value)})` : i18n.number(value);
}

/** The form of a value without the null beside it. */
const plainKind = (kind: SettingKind): SettingKind => kind.anyOf?.find((one) => one.type !== 'null') ?? kind;
const mayBeNull = (kind: SettingKind): boolean => kind.anyOf?.some((one) => one.type === 'null') ?? false;

const textOf = (value: unknown): string => (value === null ? '' : Array.isArray(value) ? value.join(', ') : String(value));

function valueOf(text: string, kind: SettingKind): unknown {
  const { type } = plainKind(kind);
  const trimmed = text.trim();
  if (type === 'boolean') return trimmed === 'true';
  if (type === 'array') return trimmed === '' ? [] : trimmed.split(',').map((part) => part.trim());
  if (trimmed === '' && mayBeNull(kind)) return null;
  // What is no number goes as it is: the box says why it does not take it.
  if ((type === 'integer' || type === 'number') && trimmed !== '' && Number.isFinite(Number(trimmed))) return Number(trimmed);
  return trimmed;
}

function Change({ item, onClose, onDone }: { item: Setting; onClose: () => void; onDone: () => Promise<void> }): JSX.Element {
  const store = useStore();
  const words = useWords();
  const { w } = words;
  const kind = plainKind(item.kind);
  const [text, setText] = useState(item.secret ? '' : textOf(item.stored));
  const send = (value: unknown): void =>
    store.run(async () => {
      await store.http.done('api/admin/settings', { method: 'PATCH', json: { values: { [item.name]: value } } });
      store.notify(w(item.applies === 'restart' ? 'setting_saved_restart' : 'setting_saved'));
      onClose();
      await onDone();
    });
  const choices = kind.type === 'boolean' ? ['true', 'false'] : (kind.enum ?? null);
  const word = (choice: string): string => (kind.type === 'boolean' ? w(choice === 'true' ? 'yes' : 'no') : choice);
  return (
    <Dialog title={item.name} onClose={onClose}>
      <p class="op-details">{item.description}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          send(valueOf(text, item.kind));
        }}
      >
        {choices === null ? (
          <Field name="setting" label={w('setting_value')} value={text} onInput={setText} hint={kind.type === 'array' ? w('setting_commas') : w('setting_empty', { value: shown(item, item.default, words) })} mono />
        ) : (
          <label class="setting">
            <span>{w('setting_value')}</span>
            <select value={text} onChange={(event) => setText(event.currentTarget.value)}>
              {choices.map((choice) => (
                <option key={choice} value={choice}>
                  {word(choice)}
                </option>
              ))}
            </select>
          </label>
        )}
        <p class="op-note">{w(`setting_applies_${item.applies}` as Word)}</p>
        <div class="dialog-foot">
          {item.source === 'changed' && (
            <button type="button" class="button plain" onClick={() => send(null)}>
              {w('setting_back')}
            </button>
          )}
          <button type="button" class="button plain" onClick={onClose}>
            {w('cancel')}
          </button>
          <button type="submit" class="button">
            {w('setting_change')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
