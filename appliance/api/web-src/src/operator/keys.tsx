/** API keys: which there are, what each may, new ones, changes, the end of one. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { copyText } from '../markdown/enhance.js';
import { useStore } from '../state/store.js';
import { Confirm, Dialog } from '../views/parts.js';
import { KeyForm } from './keyform.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Key, Page } from './types.js';
import { type Words, useWords } from './words.js';

type Open = { what: 'create' } | { what: 'change'; key: Key } | { what: 'revoke'; key: Key } | null;

export function Keys(): JSX.Element {
  const store = useStore();
  const words = useWords();
  const { w, time } = words;
  const keys = useResource<Page<Key>>('api/admin/keys?limit=500', null);
  const [open, setOpen] = useState<Open>(null);
  const may = store.session.may('accounts:write');
  const close = (): void => setOpen(null);
  const revoke = async (key: Key): Promise<void> => {
    await store.http.done(`api/admin/keys/${key.id}`, { method: 'DELETE' });
    store.notify(w('key_revoked'));
    await keys.refresh();
  };
  const buttons = (key: Key): JSX.Element => (
    <span class="op-buttons">
      <button type="button" class="button plain" onClick={() => setOpen({ what: 'change', key })}>
        {w('key_change')}
        <span class="visually-hidden"> {key.name}</span>
      </button>
      <button type="button" class="button plain" onClick={() => setOpen({ what: 'revoke', key })}>
        {w('key_revoke')}
        <span class="visually-hidden"> {key.name}</span>
      </button>
    </span>
  );
  return (
    <Shown of={keys}>
      {({ items }) => (
        <>
          {may && (
            <p class="op-bar">
              <button type="button" class="button" onClick={() => setOpen({ what: 'create' })}>
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
                { name: w('key_scopes'), wraps: true, cell: (key) => key.scopes.join(', ') },
                { name: w('key_limits'), wraps: true, cell: (key) => limitsOf(key, words) },
                { name: w('key_used'), cell: (key) => time(key.last_used_at, 'never') },
                { name: w('key_expires'), cell: (key) => time(key.expires_at, 'never') },
                ...(may ? [{ name: w('actions'), cell: buttons }] : []),
              ]}
            />
          )}
          {open?.what === 'create' && <NewKey onClose={close} onDone={keys.refresh} />}
          {open?.what === 'change' && <ChangedKey row={open.key} onClose={close} onDone={keys.refresh} />}
          {open?.what === 'revoke' && (
            <Confirm
              title={w('key_revoke_title', { name: open.key.name })}
              text={w('key_revoke_text')}
              action={w('key_revoke')}
              onConfirm={() => store.run(() => revoke(open.key))}
              onClose={close}
            />
          )}
        </>
      )}
    </Shown>
  );
}

function limitsOf(key: Key, { w, i18n }: Words): string {
  const parts = [
    key.requests_per_minute && w('limit_rpm', { count: i18n.number(key.requests_per_minute) }),
    key.tokens_per_minute && w('limit_tpm', { count: i18n.number(key.tokens_per_minute) }),
    key.tokens_per_day && w('limit_tpd', { count: i18n.number(key.tokens_per_day) }),
    key.models && key.models.join(', '),
    key.priority === 'batch' && w('key_batch'),
  ];
  return parts.filter(Boolean).join(', ') || w('unlimited');
}

interface FormProps {
  onClose: () => void;
  onDone: () => Promise<void>;
}

function NewKey({ onClose, onDone }: FormProps): JSX.Element {
  const store = useStore();
  const { w, i18n } = useWords();
  const [secret, setSecret] = useState<string | null>(null);
  return (
    <Dialog title={w('key_create')} onClose={onClose}>
      {secret === null ? (
        <KeyForm
          row={null}
          action={w('create')}
          onClose={onClose}
          onSend={async (body) => {
            const made = await store.http.json<{ key: string }>('api/admin/keys', { method: 'POST', json: body });
            setSecret(made.key);
            await onDone();
          }}
        />
      ) : (
        <>
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
        </>
      )}
    </Dialog>
  );
}

function ChangedKey({ row, onClose, onDone }: FormProps & { row: Key }): JSX.Element {
  const store = useStore();
  const { w } = useWords();
  return (
    <Dialog title={w('key_change_title', { name: row.name })} onClose={onClose}>
      <KeyForm
        row={row}
        action={w('key_change')}
        onClose={onClose}
        onSend={async (body) => {
          await store.http.done(`api/admin/keys/${row.id}`, { method: 'PUT', json: body });
          onClose();
          await onDone();
        }}
      />
    </Dialog>
  );
}
