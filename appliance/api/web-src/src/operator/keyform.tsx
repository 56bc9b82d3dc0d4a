/** What a key may: the fields of a new one, and of one that is changed. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Field } from '../views/entry.js';
import { useResource } from './resource.js';
import type { Key, Model, Page, User } from './types.js';
import { type Word, useWords } from './words.js';

const DAY_MS = 86_400_000;
const DAYS = [7, 30, 90, 365] as const;
const REASONING = ['reasoning_content', 'reasoning', 'both', 'inline', 'hidden'] as const;
const SCOPES = ['inference', 'metrics', 'admin:read', 'admin:write', 'accounts:read', 'accounts:write', 'audit:read', 'settings:write'] as const;

/** A count of one or more; empty is null, which is no limit; anything else is a mistake. */
const countOf = (text: string): number | null | 'wrong' =>
  text.trim() === '' ? null : /^[1-9]\d{0,11}$/.test(text.trim()) ? Number(text) : 'wrong';
const shown = (value: number | null | undefined): string => (value === null || value === undefined ? '' : String(value));

interface KeyFormProps {
  /** null: a new key, which has a name to choose. */
  row: Key | null;
  action: string;
  onClose: () => void;
  onSend: (body: Record<string, unknown>) => Promise<void>;
}

export function KeyForm({ row, action, onClose, onSend }: KeyFormProps): JSX.Element {
  const store = useStore();
  const { w, i18n } = useWords();
  const models = useResource<{ models: Model[] }>('api/admin/models', null);
  const users = useResource<Page<User>>('api/admin/users?limit=500', null);
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<ReadonlySet<string>>(new Set(row?.scopes ?? ['inference']));
  const [rpm, setRpm] = useState(shown(row?.requests_per_minute));
  const [tpm, setTpm] = useState(shown(row?.tokens_per_minute));
  const [tpd, setTpd] = useState(shown(row?.tokens_per_day));
  const [expires, setExpires] = useState(row?.expires_at ? 'keep' : 'never');
  const [owner, setOwner] = useState(shown(row?.user_id));
  const [allowed, setAllowed] = useState<ReadonlySet<string> | null>(row?.models ? new Set(row.models) : null);
  const [priority, setPriority] = useState(row?.priority ?? 'interactive');
  const [override, setOverride] = useState(row?.may_override_sampling ?? false);
  const [reasoning, setReasoning] = useState(row?.reasoning_format ?? '');
  const limits = [rpm, tpm, tpd].map(countOf);
  const ready = (row !== null || name.trim() !== '') && !limits.includes('wrong') && scopes.size > 0 && allowed?.size !== 0;

  const body = (): Record<string, unknown> => ({
    ...(row === null ? { name: name.trim() } : {}),
    scopes: [...scopes],
    user_id: owner === '' ? null : Number(owner),
    expires_at: expires === 'keep' ? row!.expires_at : expires === 'never' ? null : new Date(Date.now() + Number(expires) * DAY_MS).toISOString(),
    models: allowed === null ? null : [...allowed],
    requests_per_minute: limits[0],
    tokens_per_minute: limits[1],
    tokens_per_day: limits[2],
    priority,
    may_override_sampling: override,
    reasoning_format: reasoning || null,
  });
  const choices = models.value?.models ?? [];
  // What one does not have oneself, one cannot give away.
  const grantable = SCOPES.filter((scope) => store.session.may(scope) || scopes.has(scope));
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (ready) store.run(() => onSend(body()));
      }}
    >
      {row === null && <Field name="key-name" label={w('key_name')} value={name} onInput={setName} />}
      <div class="field-pair">
        <Field name="key-rpm" label={w('key_rpm')} value={rpm} onInput={setRpm} />
        <Field name="key-tpm" label={w('key_tpm')} value={tpm} onInput={setTpm} />
      </div>
      <Field name="key-tpd" label={w('key_tpd')} value={tpd} onInput={setTpd} hint={limits.includes('wrong') ? w('key_limit_wrong') : w('key_limit_hint')} />
      <label class="setting">
        <span>{w('key_expires')}</span>
        <select value={expires} onChange={(event) => setExpires(event.currentTarget.value)}>
          <option value="never">{w('never')}</option>
          {row?.expires_at && <option value="keep">{i18n.time(row.expires_at)}</option>}
          {DAYS.map((days) => (
            <option key={days} value={days}>
              {w('key_in_days', { days })}
            </option>
          ))}
        </select>
      </label>
      <label class="setting">
        <span>{w('key_priority')}</span>
        <select value={priority} onChange={(event) => setPriority(event.currentTarget.value as Key['priority'])}>
          <option value="interactive">{w('key_interactive')}</option>
          <option value="batch">{w('key_batch')}</option>
        </select>
      </label>
      <details class="more-fields">
        <summary>{w('key_more')}</summary>
        <label class="setting">
          <span>{w('key_owner')}</span>
          <select value={owner} onChange={(event) => setOwner(event.currentTarget.value)}>
            <option value="">{w('key_owner_none')}</option>
            {(users.value?.items ?? []).map((user) => (
              <option key={user.id} value={user.id}>
                {user.name}
              </option>
            ))}
          </select>
        </label>
        <label class="setting">
          <span>{w('key_reasoning')}</span>
          <select value={reasoning} onChange={(event) => setReasoning(event.currentTarget.value)}>
            <option value="">{w('key_reasoning_usual')}</option>
            {REASONING.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <label class="check">
          <input type="checkbox" checked={override} onChange={(event) => setOverride(event.currentTarget.checked)} />
          <span>{w('key_override')}</span>
        </label>
        <fieldset>
          <legend>{w('key_scopes')}</legend>
          {grantable.map((scope) => (
            <label key={scope} class="check">
              <input type="checkbox" checked={scopes.has(scope)} onChange={(event) => setScopes(changed(scopes, scope, event.currentTarget.checked))} />
              <span>
                {w(`scope_${scope.replace(':', '_')}` as Word)} <code>{scope}</code>
              </span>
            </label>
          ))}
        </fieldset>
        <fieldset>
          <legend>{w('key_models')}</legend>
          <label class="check">
            <input type="checkbox" checked={allowed === null} onChange={(event) => setAllowed(event.currentTarget.checked ? null : new Set(choices.map((one) => one.id)))} />
            <span>{w('key_models_all')}</span>
          </label>
          {allowed !== null &&
            [...new Set([...choices.map((one) => one.id), ...(row?.models ?? [])])].map((id) => (
              <label key={id} class="check">
                <input type="checkbox" checked={allowed.has(id)} onChange={(event) => setAllowed(changed(allowed, id, event.currentTarget.checked))} />
                <span>{id}</span>
              </label>
            ))}
        </fieldset>
      </details>
      <div class="dialog-foot">
        <button type="button" class="button plain" onClick={onClose}>
          {w('cancel')}
        </button>
        <button type="submit" class="button" disabled={!ready}>
          {action}
        </button>
      </div>
    </form>
  );
}

function changed(set: ReadonlySet<string>, member: string, there: boolean): ReadonlySet<string> {
  const copy = new Set(set);
  if (there) copy.add(member);
  else copy.delete(member);
  return copy;
}
