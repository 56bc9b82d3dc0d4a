/** How a model comes to the box: over the network from a hub, or from a stick. Each way is a job. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Field } from '../views/entry.js';
import { Dialog } from '../views/parts.js';
import { useWords } from './words.js';

type Way = 'pull' | 'bundle_import' | 'import';

interface GetModelProps {
  /** Folders that the box reads sticks from now. */
  folders: string[];
  onClose: () => void;
  onBegun: () => Promise<void>;
}

export function GetModel({ folders, onClose, onBegun }: GetModelProps): JSX.Element {
  const store = useStore();
  const { w } = useWords();
  const [way, setWay] = useState<Way>('pull');
  const [target, setTarget] = useState('auto');
  const [hub, setHub] = useState('auto');
  const [path, setPath] = useState(folders[0] ?? '');
  const [unsigned, setUnsigned] = useState(false);
  const ready = way === 'pull' ? target.trim() !== '' : path.trim() !== '';

  const begin = async (): Promise<void> => {
    const wish =
      way === 'pull'
        ? { kind: way, target: target.trim(), hub }
        : way === 'import'
          ? { kind: way, path: path.trim() }
          : { kind: way, paths: [path.trim()], allow_unsigned: unsigned };
    await store.http.done('api/admin/jobs', { method: 'POST', json: wish });
    onClose();
    await onBegun();
  };
  return (
    <Dialog title={w('get_model')} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (ready) store.run(begin);
        }}
      >
        <fieldset class="ways">
          <legend class="visually-hidden">{w('get_way')}</legend>
          {(['pull', 'bundle_import', 'import'] as const).map((one) => (
            <label key={one} class="check">
              <input type="radio" name="way" checked={way === one} onChange={() => setWay(one)} />
              <span>
                {w(`get_${one}`)}
                <span class="field-hint">{w(`get_${one}_hint`)}</span>
              </span>
            </label>
          ))}
        </fieldset>
        {way === 'pull' ? (
          <>
            <Field name="target" label={w('get_target')} value={target} onInput={setTarget} hint={w('get_target_hint')} mono />
            <label class="setting">
              <span>{w('get_hub')}</span>
              <select value={hub} onChange={(event) => setHub(event.currentTarget.value)}>
                <option value="auto">{w('get_hub_auto')}</option>
                <option value="huggingface">Hugging Face</option>
                <option value="modelscope">ModelScope</option>
              </select>
            </label>
          </>
        ) : (
          <>
            <Field
              name="path"
              label={w('get_path')}
              value={path}
              onInput={setPath}
              hint={folders.length === 0 ? w('get_path_none') : w('get_path_hint', { folders: folders.join(', ') })}
              mono
            />
            {way === 'bundle_import' && (
              <label class="check">
                <input type="checkbox" checked={unsigned} onChange={(event) => setUnsigned(event.currentTarget.checked)} />
                <span>
                  {w('get_unsigned')}
                  <span class="field-hint">{w('get_unsigned_hint')}</span>
                </span>
              </label>
            )}
          </>
        )}
        <div class="dialog-foot">
          <button type="button" class="button plain" onClick={onClose}>
            {w('cancel')}
          </button>
          <button type="submit" class="button" disabled={!ready}>
            {w('get_begin')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
