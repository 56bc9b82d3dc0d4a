/** What strangers see: log in, make the first administrator, enter a key; and the first change of a password. */

import type { ComponentChildren, JSX } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError, asApiError } from '../api/errors.js';
import { useStore } from '../state/store.js';

type Way = 'login' | 'setup' | 'key';

export function Entry(): JSX.Element {
  const { session, i18n } = useStore();
  const { t } = i18n;
  const [chosen, setChosen] = useState<Way | null>(null);
  const way = chosen ?? (session.ended.value === 'key' ? 'key' : session.setupNeeded.value ? 'setup' : 'login');
  return (
    <Card title={t(way === 'setup' ? 'setup_title' : 'entry_title')} intro={t(way === 'setup' ? 'setup_intro' : 'entry_intro')}>
      {way === 'login' && <Login />}
      {way === 'setup' && <Setup />}
      {way === 'key' && <KeyForm />}
      <p class="entry-other">
        {way === 'key' ? (
          <button type="button" class="quiet link" onClick={() => setChosen(session.setupNeeded.value ? 'setup' : 'login')}>
            {t(session.setupNeeded.value ? 'setup_title' : 'login_instead')}
          </button>
        ) : (
          <button type="button" class="quiet link" onClick={() => setChosen('key')}>
            {t('key_instead')}
          </button>
        )}
      </p>
    </Card>
  );
}

function Card(props: { title: string; intro: string; children: ComponentChildren }): JSX.Element {
  const { prefs, i18n } = useStore();
  const other = i18n.language.value === 'zh' ? 'en' : 'zh';
  return (
    <main class="entry">
      <button
        type="button"
        class="quiet other-language"
        lang={other === 'zh' ? 'zh-CN' : 'en'}
        onClick={() => (prefs.language.value = other)}
      >
        {other === 'zh' ? '中文' : 'English'}
      </button>
      <div class="entry-card">
        <img class="mark" src="favicon.svg" alt="" width="40" height="40" />
        <h1>{props.title}</h1>
        <p class="entry-intro">{props.intro}</p>
        {props.children}
      </div>
    </main>
  );
}

interface FormProps {
  submit: () => Promise<void>;
  label: string;
  ready: boolean;
  /** Shown instead of the box's own words when it knows better. */
  said?: (code: string) => string | null;
  notice?: string | null;
  children: ComponentChildren;
}

function Form(props: FormProps): JSX.Element {
  const { i18n } = useStore();
  const { t } = i18n;
  const form = useRef<HTMLFormElement>(null);
  const [working, setWorking] = useState(false);
  const [message, setMessage] = useState<string | null>(props.notice ?? null);
  useLayoutEffect(() => form.current?.querySelector('input')?.focus(), []);

  const onSubmit = async (): Promise<void> => {
    if (!props.ready) {
      setMessage(t('field_needed'));
      form.current?.querySelector<HTMLInputElement>('input:placeholder-shown, input[value=""]')?.focus();
      return;
    }
    setWorking(true);
    setMessage(null);
    try {
      await props.submit();
    } catch (error) {
      const problem = asApiError(error);
      const own = props.said?.(problem.code) ?? null;
      const wait = problem.retryAfterS === null ? '' : i18n.duration(problem.retryAfterS * 1000);
      setMessage(
        problem.code === 'network'
          ? t('unreachable')
          : problem.code === 'login_throttled' && wait !== ''
            ? t('login_throttled', { time: wait })
            : (own ?? i18n.said(problem)),
      );
      setWorking(false);
      form.current?.querySelector('input')?.focus();
    }
  };
  return (
    <form
      ref={form}
      class="entry-form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void onSubmit();
      }}
    >
      {props.children}
      <p class="field-message" id="entry-message" role="alert">
        {message}
      </p>
      <button type="submit" class="button wide" disabled={working}>
        {working ? t('working') : props.label}
      </button>
    </form>
  );
}

interface FieldProps {
  name: string;
  label: string;
  value: string;
  onInput: (value: string) => void;
  secret?: boolean;
  autoComplete?: string;
  hint?: string;
  mono?: boolean;
}

const HIDDEN = { type: 'password' } as const;
const SHOWN = { type: 'text' } as const;

export function Field(props: FieldProps): JSX.Element {
  const { i18n } = useStore();
  const [shown, setShown] = useState(false);
  const id = `field-${props.name}`;
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <div class={props.secret ? 'field-box secret-box' : 'field-box'}>
        <input
          id={id}
          name={props.name}
          class={props.mono ? 'mono' : ''}
          {...(props.secret && !shown ? HIDDEN : SHOWN)}
          value={props.value}
          placeholder=" "
          autoComplete={props.autoComplete ?? 'off'}
          autoCapitalize="none"
          spellcheck={false}
          aria-describedby={props.hint ? `${id}-hint` : 'entry-message'}
          onInput={(event) => props.onInput(event.currentTarget.value)}
        />
        {props.secret && (
          <button type="button" class="quiet" aria-pressed={shown} onClick={() => setShown(!shown)}>
            {i18n.t(shown ? 'hide' : 'show')}
          </button>
        )}
      </div>
      {props.hint && (
        <p class="field-hint" id={`${id}-hint`}>
          {props.hint}
        </p>
      )}
    </div>
  );
}

function Login(): JSX.Element {
  const { session, i18n } = useStore();
  const { t } = i18n;
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  return (
    <Form
      label={t('login')}
      ready={name.trim() !== '' && password !== ''}
      submit={() => session.logIn(name.trim(), password)}
      said={(code) => (code === 'login_failed' ? t('login_failed') : null)}
      notice={session.ended.value === 'session' ? t('login_ended') : null}
    >
      <Field name="name" label={t('login_name')} value={name} onInput={setName} autoComplete="username" />
      <Field name="password" label={t('login_password')} value={password} onInput={setPassword} secret autoComplete="current-password" />
    </Form>
  );
}

function Setup(): JSX.Element {
  const { session, i18n } = useStore();
  const { t } = i18n;
  const [token, setToken] = useState('');
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  return (
    <Form
      label={t('setup_done')}
      ready={token.trim() !== '' && name.trim() !== '' && password !== ''}
      submit={() => session.setUp(token.trim(), name.trim(), password, i18n.language.value)}
    >
      <Field name="token" label={t('setup_token')} value={token} onInput={setToken} hint={t('setup_token_hint')} mono />
      <Field name="name" label={t('setup_name')} value={name} onInput={setName} autoComplete="username" />
      <Field name="password" label={t('login_password')} value={password} onInput={setPassword} secret autoComplete="new-password" />
    </Form>
  );
}

function KeyForm(): JSX.Element {
  const { session, prefs, i18n } = useStore();
  const { t } = i18n;
  const [key, setKey] = useState('');
  const [remember, setRemember] = useState(prefs.keyIsRemembered());
  return (
    <Form
      label={t('key_continue')}
      ready={key.trim() !== ''}
      submit={() => session.useKey(key.trim(), remember)}
      said={(code) => (code === 'invalid_api_key' ? t('key_rejected') : null)}
      notice={session.ended.value === 'key' ? t('key_rejected') : null}
    >
      <Field name="key" label={t('key_label')} value={key} onInput={setKey} secret mono />
      <label class="check">
        <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)} />
        <span>{t('key_remember')}</span>
      </label>
      <p class="field-hint indented">{t('key_remember_hint')}</p>
      <details class="key-help">
        <summary>{t('key_help')}</summary>
        <p>{t('key_help_text')}</p>
        <code>r1box keys create</code>
      </details>
    </Form>
  );
}

/** Shown before anything else while the password was set by somebody else; and in the settings. */
export function NewPassword(): JSX.Element {
  const { i18n } = useStore();
  return (
    <Card title={i18n.t('password_title')} intro={i18n.t('password_intro')}>
      <PasswordForm onDone={() => undefined} />
    </Card>
  );
}

export function PasswordForm({ onDone }: { onDone: () => void }): JSX.Element {
  const { session, i18n } = useStore();
  const { t } = i18n;
  const [old, setOld] = useState('');
  const [fresh, setFresh] = useState('');
  const [again, setAgain] = useState('');
  const submit = async (): Promise<void> => {
    if (fresh !== again) throw new ApiError({ code: 'passwords_differ' });
    await session.changePassword(old, fresh);
    onDone();
  };
  return (
    <Form
      label={t('password_change')}
      ready={old !== '' && fresh !== '' && again !== ''}
      submit={submit}
      said={(code) => (code === 'passwords_differ' ? t('password_differs') : null)}
    >
      <Field name="old" label={t('password_old')} value={old} onInput={setOld} secret autoComplete="current-password" />
      <Field name="new" label={t('password_new')} value={fresh} onInput={setFresh} secret autoComplete="new-password" />
      <Field name="again" label={t('password_again')} value={again} onInput={setAgain} secret autoComplete="new-password" />
    </Form>
  );
}
