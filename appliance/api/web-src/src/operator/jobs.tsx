/** Long work of the box: what goes on with how far it is, and how the last of it ended. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Confirm } from '../views/parts.js';
import { type Resource, Shown, useResource } from './resource.js';
import type { Job, JobList } from './types.js';
import { type Word, formatBytes, useWords } from './words.js';

const EVERY_MS = 2000;
const GOING_ON: ReadonlySet<Job['state']> = new Set(['queued', 'running', 'cancelling']);

export const isGoingOn = (job: Job): boolean => GOING_ON.has(job.state);

export const useJobs = (): Resource<JobList> => useResource<JobList>('api/admin/jobs?limit=100', EVERY_MS);

export function Jobs(): JSX.Element {
  const { w } = useWords();
  const jobs = useJobs();
  return (
    <Shown of={jobs}>
      {({ jobs: rows }) => (
        <>
          {rows.length === 0 && <p class="op-note">{w('jobs_none')}</p>}
          {rows.map((job) => (
            <JobCard key={job.id} job={job} onChange={jobs.refresh} />
          ))}
        </>
      )}
    </Shown>
  );
}

/** What a job is about, in the words it was asked for with. */
function subject(job: Job): string {
  const { target, model, path, paths, to } = job.request;
  return [target, model, path, ...(paths ?? []), ...(Array.isArray(to) ? to : [to])].filter(Boolean).join(' · ');
}

export function JobCard({ job, onChange }: { job: Job; onChange: () => Promise<void> }): JSX.Element {
  const store = useStore();
  const { w, i18n, time } = useWords();
  const [asking, setAsking] = useState(false);
  const name = w(`job_${job.kind}` as Word);
  const title = [name, subject(job)].filter(Boolean).join(': ');
  const mayCancel = job.cancellable && (job.state === 'queued' || job.state === 'running') && store.session.may('admin:write');
  const cancel = async (): Promise<void> => {
    try {
      await store.http.done(`api/admin/jobs/${encodeURIComponent(job.id)}`, { method: 'DELETE' });
    } finally {
      await onChange();
    }
  };
  return (
    <section class="op-card job" aria-label={title}>
      <header>
        <span class={`badge job-${job.state}`}>{w(`job_state_${job.state}` as Word)}</span>
        <h3>{title}</h3>
      </header>
      {isGoingOn(job) && <JobProgress job={job} />}
      {job.error !== null && (
        <p class="op-problem">
          {i18n.meaning(job.error.code)} <span lang="en">{[job.error.message, job.error.hint].filter(Boolean).join(' ')}</span>
        </p>
      )}
      {job.result !== null && <Result result={job.result} />}
      <p class="op-bar">
        <span>
          {w('job_by', { name: job.created_by, time: time(job.created_at) })}
          {job.started_at !== null && job.ended_at !== null &&
            ` · ${i18n.duration(Date.parse(job.ended_at) - Date.parse(job.started_at))}`}
        </span>
        {mayCancel && (
          <button type="button" class="button plain" onClick={() => setAsking(true)}>
            {w('cancel')}
            <span class="visually-hidden"> {title}</span>
          </button>
        )}
      </p>
      {asking && (
        <Confirm
          title={w('job_cancel_title')}
          text={w('job_cancel_text', { title })}
          action={w('job_cancel')}
          onConfirm={() => store.run(cancel)}
          onClose={() => setAsking(false)}
        />
      )}
    </section>
  );
}

function JobProgress({ job }: { job: Job }): JSX.Element {
  const { w, i18n } = useWords();
  const { phase, fraction, done_bytes, total_bytes, bytes_per_s, eta_s } = job.progress;
  const known = phase !== null && ['choose', 'download', 'copy', 'check', 'compute', 'write', 'examine'].includes(phase);
  const parts = [
    known ? w(`phase_${phase}` as Word) : phase,
    fraction === null ? null : `${Math.floor(fraction * 100)} %`,
    done_bytes === null ? null : total_bytes === null ? formatBytes(done_bytes) : `${formatBytes(done_bytes)} / ${formatBytes(total_bytes)}`,
    bytes_per_s === null ? null : `${formatBytes(bytes_per_s)}/s`,
    eta_s === null ? null : w('job_left', { time: i18n.duration(Math.max(eta_s, 1) * 1000) }),
  ];
  const label = w('job_progress');
  return (
    <div class="job-progress">
      {fraction === null ? (
        <progress class="progress" aria-label={label} />
      ) : (
        <progress class="progress" max={1} value={fraction} aria-label={label} />
      )}
      <span>{parts.filter(Boolean).join(' · ')}</span>
    </div>
  );
}

/** What came of it: the model that is there now, else everything that was told, folded. */
function Result({ result }: { result: Record<string, unknown> }): JSX.Element {
  const { w } = useWords();
  const warnings = Array.isArray(result.warnings) ? result.warnings.map(String) : [];
  const damaged = result.whole === false;
  const written = Array.isArray(result.folders) ? result.folders.map(String) : null;
  return (
    <>
      {written !== null && <p>{w('job_written', { folders: written.join(', ') })}</p>}
      {written === null && typeof result.id === 'string' && <p>{w('job_made', { id: result.id })}</p>}
      {result.whole === true && <p>{w('job_whole')}</p>}
      {damaged && <p class="op-problem">{w('job_damaged')}</p>}
      {warnings.map((warning) => (
        <p key={warning} class="op-problem">
          {warning}
        </p>
      ))}
      <details class="job-details">
        <summary>{w('details')}</summary>
        <pre tabIndex={0}>{JSON.stringify(result, null, 2)}</pre>
      </details>
    </>
  );
}
