/** Keys and users. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { copyText } from '../markdown/enhance.js';
import { useStore } from '../state/store.js';
import { Field } from '../views/entry.js';
import { Confirm, Dialog } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Key, Page, RoleName, User } from './types.js';
import { type Word, useWords } from './words.js';

const ROLES: RoleName[] = ['viewer', 'user', 'operator', 'admin'];

export function Keys(): JSX.Element {
  const store = useStore();
  const { w, i18n, time } = useWords();
  const keys = useResource<Page<Key>>('api/admin/keys?limit=500', null);
  const [dialog, setDialog] = useState<'create' | Key | null>(null);
  const may = store.session.may('accounts:write');
  const revoke = async (key: Key): Promise<void> => {
    await store.http.done(`api/admin/keys/${key.id}`, { method: 'DELETE' });
    store.notify(w('key_revoked'));
    await keys.refresh();
  };
  const limits = (key: Key): string =>
    [
      key.requests_per_minute && w('limit_rpm', { count: i18n.number(key.requests_per_minute) }),
      key.tokens_per_minute && w('limit_tpm', { count: i18n.number(key.tokens_per_minute) }),
      key.tokens_per_day && w('limit_tpd', { count: i18n.number(key.tokens_per_day) }),
    ]
      .filter(Boolean)
      .join(', ') || w('unlimited');
  return (
    <Shown of={keys}>
      {({ items }) => (
        <>
          {may && (
            <p class="op-bar">
              <button type="button" class="button" onClick={() => setDialog('create')}>
                {w('key_create')}
              </button>
            </p>
          )}
          {items.length === 0 && <p class="op-note">{w('keys_none')}</p>}
          {items.length > 0 && (
            <Table
              label={w('tab_keys')}
              rows={items}
              keyOf={(key) => key.id}
              columns={[
                { name: w('key_name'), cell: (key) => <strong>{key.name}</strong> },
                { name: w('key_prefix'), cell: (key) => <code>{key.prefix}…</code> },
                { name: w('key_owner'), cell: (key) => key.user_name ?? w('none') },
                { name: w('key_scopes'), cell: (key) => key.scopes.join(', ') },
                { name: w('key_limits'), cell: limits },
                { name: w('key_used'), cell: (key) => time(key.last_used_at, 'never') },
                { name: w('key_expires'), cell: (key) => time(key.expires_at, 'never') },
                ...(may
                  ? [
                      {
                        name: w('actions'),
                        cell: (key: Key) => (
                          <button type="button" class="button plain" onClick={() => setDialog(key)}>
                            {w('key_revoke')}
                            <span class="visually-hidden"> {key.name}</span>
                          </button>
                        ),
                      },
                    ]
                  : []),
              ]}
            />
          )}
          {dialog === 'create' && <NewKey onClose={() => setDialog(null)} onDone={keys.refresh} />}
          {dialog !== null && dialog !== 'create' && (
            <Confirm
              title={w('key_revoke_title', { name: dialog.name })}
              text={w('key_revoke_text')}
              action={w('key_revoke')}
              onConfirm={() => store.run(() => revoke(dialog))}
              onClose={() => setDialog(null)}
            />
          )}
        </>
      )}
    </Shown>
  );
}

const positive = (text: string): number | null => (/^[1-9]\d{0,11}$/.test(text.trim()) ? Number(text) : null);

function NewKey({ onClose, onDone }: { onClose: () => void; onDone: () => Promise<void> }): JSX.Element {
  const store = useStore();
  const { w, i18n } = useWords();
  const [name, setName] = useState('');
  const [rpm, setRpm] = useState('');
  const [tpd, setTpd] = useState('');
  const [priority, setPriority] = useState('interactive');
  const [secret, setSecret] = useState<string | null>(null);
  const create = async (): Promise<void> => {
    const body = { name: name.trim(), requests_per_minute: positive(rpm), tokens_per_day: positive(tpd), priority };
    const made = await store.http.json<{ key: string }>('api/admin/keys', { method: 'POST', json: body });
    setSecret(made.key);
    await onDone();
  };
  if (secret !== null) {
    return (
      <Dialog title={w('key_create')} onClose={onClose}>
        <p>{w('key_created')}</p>
        <code class="secret">{secret}</code>
        <div class="dialog-foot">
          <button type="button" class="button plain" onClick={(event) => void copyText(secret, event.currentTarget, i18n.t)}>
            {w('copy')}
          </button>
          <button type="button" class="button" onClick={onClose}>
            {w('done')}
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={w('key_create')} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim() !== '') store.run(create);
        }}
      >
        <Field name="key-name" label={w('key_name')} value={name} onInput={setName} />
        <Field name="key-rpm" label={`${w('key_rpm')} (${w('unlimited')})`} value={rpm} onInput={setRpm} />
        <Field name="key-tpd" label={`${w('key_tpd')} (${w('unlimited')})`} value={tpd} onInput={setTpd} />
        <label class="setting">
          <span>{w('key_priority')}</span>
          <select value={priority} onChange={(event) => setPriority(event.currentTarget.value)}>
            <option value="interactive">{w('key_interactive')}</option>
            <option value="batch">{w('key_batch')}</option>
          </select>
        </label>
        <div class="dialog-foot">
          <button type="button" class="button plain" onClick={onClose}>
            {w('cancel')}
          </button>
          <button type="submit" class="button" disabled={name.trim() === ''}>
            {w('create')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function Users(): JSX.Element {
  const store = useStore();
  const { w, time } = useWords();
  const users = useResource<Page<User>>('api/admin/users?limit=500', null);
  const [creating, setCreating] = useState(false);
  const may = store.session.may('accounts:write');
  const change = (user: User, body: { role?: string; disabled?: boolean }): void =>
    store.run(async () => {
      try {
        await store.http.done(`api/admin/users/${user.id}`, { method: 'PATCH', json: body });
      } finally {
        await users.refresh();
      }
    });
  const state = (user: User): string =>
    w(user.disabled ? 'user_disabled' : !user.has_password ? 'user_no_password' : user.must_change_password ? 'user_must_change' : 'user_active');
  const role = (user: User): JSX.Element => (
    <select class="pick" aria-label={w('user_change_role', { name: user.name })} value={user.role} onChange={(event) => change(user, { role: event.currentTarget.value })}>
      {ROLES.map((one) => (
        <option key={one} value={one}>
          {w(`role_${one}` as Word)}
        </option>
      ))}
    </select>
  );
  return (
    <Shown of={users}>
      {({ items }) => (
        <>
          {may && (
            <p class="op-bar">
              <button type="button" class="button" onClick={() => setCreating(true)}>
                {w('user_create')}
              </button>
            </p>
          )}
          {items.length === 0 && <p class="op-note">{w('users_none')}</p>}
          {items.length > 0 && (
            <Table
              label={w('tab_users')}
              rows={items}
              keyOf={(user) => user.id}
              columns={[
                { name: w('user_name'), cell: (user) => <strong>{user.name}</strong> },
                { name: w('user_role'), cell: (user) => (may ? role(user) : w(`role_${user.role}` as Word)) },
                { name: w('user_state'), cell: state },
                { name: w('user_last_login'), cell: (user) => time(user.last_login_at, 'never') },
                ...(may
                  ? [
                      {
                        name: w('actions'),
                        cell: (user: User) => (
                          <button type="button" class="button plain" onClick={() => change(user, { disabled: !user.disabled })}>
                            {w(user.disabled ? 'user_enable' : 'user_disable')}
                            <span class="visually-hidden"> {user.name}</span>
                          </button>
                        ),
                      },
                    ]
                  : []),
              ]}
            />
          )}
          {creating && <NewUser onClose={() => setCreating(false)} onDone={users.refresh} />}
        </>
      )}
    </Shown>
  );
}

function NewUser({ onClose, onDone }: { onClose: () => void; onDone: () => Promise<void> }): JSX.Element {
  const store = useStore();
  const { w, i18n } = useWords();
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [role, setRole] = useState<RoleName>('user');
  const create = async (): Promise<void> => {
    const body = { name: name.trim(), role, password, language: i18n.language.value };
    await store.http.done('api/admin/users', { method: 'POST', json: body });
    onClose();
    await onDone();
  };
  return (
    <Dialog title={w('user_create')} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim() !== '' && password !== '') store.run(create);
        }}
      >
        <Field name="user-name" label={w('user_name')} value={name} onInput={setName} />
        <Field name="user-password" label={w('user_password')} value={password} onInput={setPassword} secret autoComplete="new-password" hint={w('user_password_hint')} />
        <label class="setting">
          <span>{w('user_role')}</span>
          <select value={role} onChange={(event) => setRole(event.currentTarget.value as RoleName)}>
            {ROLES.map((one) => (
              <option key={one} value={one}>
                {w(`role_${one}` as Word)}
              </option>
            ))}
          </select>
        </label>
        <div class="dialog-foot">
          <button type="button" class="button plain" onClick={onClose}>
            {w('cancel')}
          </button>
          <button type="submit" class="button" disabled={name.trim() === '' || password === ''}>
            {w('create')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
