/** Users, and who is logged in. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Field } from '../views/entry.js';
import { Confirm, Dialog } from '../views/parts.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Page, RoleName, Session, User } from './types.js';
import { type Word, useWords } from './words.js';

const ROLES: RoleName[] = ['viewer', 'user', 'operator', 'admin'];

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
          {may && <p class="op-note">{w('user_forgot')}</p>}
          <Sessions may={may} />
          {creating && <NewUser onClose={() => setCreating(false)} onDone={users.refresh} />}
        </>
      )}
    </Shown>
  );
}

/** Where people are logged in now; a stolen or forgotten session is ended here. */
function Sessions({ may }: { may: boolean }): JSX.Element {
  const store = useStore();
  const { w, time } = useWords();
  const sessions = useResource<Page<Session>>('api/admin/sessions?limit=500', 30_000);
  const [ending, setEnding] = useState<Session | null>(null);
  const end = async (session: Session): Promise<void> => {
    await store.http.done(`api/admin/sessions/${session.id}`, { method: 'DELETE' });
    await sessions.refresh();
  };
  return (
    <section aria-labelledby="sessions-title">
      <h3 id="sessions-title">{w('sessions')}</h3>
      <Shown of={sessions}>
        {({ items }) => (
          <Table
            label={w('sessions')}
            rows={items}
            keyOf={(session) => session.id}
            columns={[
              { name: w('user_name'), cell: (session) => <strong>{session.user_name}</strong> },
              { name: w('session_seen'), cell: (session) => (session.current ? w('session_current') : time(session.last_seen_at)) },
              { name: w('session_since'), cell: (session) => time(session.created_at) },
              { name: w('session_from'), cell: (session) => [session.address, browserOf(session.user_agent)].filter(Boolean).join(' · ') || w('none') },
              ...(may
                ? [
                    {
                      name: w('actions'),
                      cell: (session: Session) =>
                        session.current ? null : (
                          <button type="button" class="button plain" onClick={() => setEnding(session)}>
                            {w('session_end')}
                            <span class="visually-hidden"> {session.user_name}</span>
                          </button>
                        ),
                    },
                  ]
                : []),
            ]}
          />
        )}
      </Shown>
      {ending !== null && (
        <Confirm
          title={w('session_end_title', { name: ending.user_name })}
          text={w('session_end_text')}
          action={w('session_end')}
          onConfirm={() => store.run(() => end(ending))}
          onClose={() => setEnding(null)}
        />
      )}
    </section>
  );
}

/** The browser's own name out of its long description, which names others too. */
function browserOf(agent: string | null): string | null {
  const found = /(Edg|OPR|Firefox|Chrome|Safari)[A-Za-z]*\//.exec(agent ?? '')?.[1];
  if (found === undefined) return agent?.slice(0, 40) ?? null;
  const whole = agent ?? '';
  const name = whole.includes('Edg') ? 'Edge' : whole.includes('OPR/') ? 'Opera' : found;
  const system = /Windows|Android|iPhone|iPad|Mac OS X|Linux/.exec(whole)?.[0];
  return [name, system === 'Mac OS X' ? 'macOS' : system].filter(Boolean).join(', ');
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
