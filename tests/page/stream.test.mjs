// The stream's parser, the API's chunks and errors, and one answer's course over a scripted API.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApiError, BoxApi, errorOf, eventOfComment, eventsOfChunk } from '../../appliance/api/web/js/api.js';
import { newAnswer } from '../../appliance/api/web/js/chat.js';
import { AnswerRun } from '../../appliance/api/web/js/run.js';
import { SseParser } from '../../appliance/api/web/js/sse.js';

const STREAM =
  '\uFEFF: queued position=2\r\n\r\ndata: {"a":1}\ndata: {"b":2}\n\nevent: x\nid: 7\ndata:é\r\rdata: [DONE]\n\n';
const EVENTS = [
  { type: 'comment', text: 'queued position=2' },
  { type: 'data', data: '{"a":1}\n{"b":2}' },
  { type: 'data', data: 'é' },
  { type: 'data', data: '[DONE]' },
];

test('a stream gives the same events however it is cut', () => {
  assert.deepEqual(new SseParser().feed(STREAM), EVENTS);
  for (let size = 1; size < 12; size += 1) {
    const parser = new SseParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...parser.feed(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS, `pieces of ${size}`);
  }
});

test('an event without its blank line has not come', () => {
  assert.deepEqual(new SseParser().feed('data: half\n'), []);
});

test('a line without end is refused', () => {
  const parser = new SseParser();
  assert.throws(() => {
    for (let i = 0; i < 10; i += 1) parser.feed('x'.repeat(1024 * 1024));
  }, RangeError);
});

test('chunks become events', () => {
  const delta = { reasoning_content: 'hm', content: 'yes' };
  assert.deepEqual(eventsOfChunk({ choices: [{ delta, finish_reason: 'stop' }] }), [
    { type: 'reasoning', text: 'hm' },
    { type: 'content', text: 'yes' },
    { type: 'finish', reason: 'stop' },
  ]);
  const usage = { prompt_tokens: 5, completion_tokens: 7 };
  assert.deepEqual(eventsOfChunk({ choices: [], usage }), [
    { type: 'usage', usage: { ...usage, reasoning_tokens: null } },
  ]);
  assert.deepEqual(
    eventsOfChunk({ choices: [{ delta: { role: 'assistant', content: '' }, finish_reason: null }] }),
    [],
  );
  assert.deepEqual(eventsOfChunk(null), []);
});

test('an error in the stream is thrown with its code', () => {
  const chunk = { error: { message: 'The process ended.', code: 'engine_died' } };
  assert.throws(
    () => eventsOfChunk(chunk),
    (error) => error instanceof ApiError && error.code === 'engine_died',
  );
});

test('queue comments', () => {
  assert.deepEqual(eventOfComment('queued position=3 wait_s=22'), { type: 'queued', position: 3, wait_s: 22 });
  assert.deepEqual(eventOfComment('queued position=1'), { type: 'queued', position: 1, wait_s: null });
  assert.equal(eventOfComment('keep-alive'), null);
});

test('an error without an envelope still says its status', () => {
  assert.equal(errorOf(null, 502, null).code, 'http_502');
  assert.equal(errorOf({ error: 'plain words' }, 500, null).detail, 'plain words');
});

/** A Response whose body arrives in the given pieces. */
function streamed(pieces, init = {}) {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === 'string' ? encoder.encode(piece) : piece);
      controller.close();
    },
  });
  return new Response(body, { headers: { 'Content-Type': 'text/event-stream' }, ...init });
}

const refused = (status, code, headers = {}) =>
  new Response(JSON.stringify({ error: { message: 'no', code } }), { status, headers });

async function collect(api) {
  const events = [];
  const call = { key: 'k', body: { model: 'm', messages: [] }, signal: new AbortController().signal };
  for await (const event of api.streamChat(call)) events.push(event);
  return events;
}

test('a character cut between two packets arrives whole', async () => {
  const bytes = new TextEncoder().encode('data: {"choices":[{"delta":{"content":"好"},"finish_reason":"stop"}]}\n\n');
  const cut = bytes.indexOf(0xe5) + 1;
  const api = new BoxApi('http://box/', async () => streamed([bytes.slice(0, cut), bytes.slice(cut)]));
  assert.deepEqual(await collect(api), [
    { type: 'content', text: '好' },
    { type: 'finish', reason: 'stop' },
  ]);
});

test('a stream that just ends is an error', async () => {
  const api = new BoxApi('http://box/', async () => streamed(['data: {"choices":[{"delta":{"content":"a"}}]}\n\n']));
  await assert.rejects(collect(api), { code: 'stream_ended' });
});

test('the request asks for a stream with usage and carries the key', async () => {
  let seen;
  const api = new BoxApi('http://box/base/', async (url, init) => {
    seen = { url: String(url), init };
    return streamed(['data: [DONE]\n\n']);
  });
  await collect(api);
  assert.equal(seen.url, 'http://box/base/v1/chat/completions');
  assert.equal(seen.init.headers.Authorization, 'Bearer k');
  const body = JSON.parse(seen.init.body);
  assert.equal(body.stream, true);
  assert.deepEqual(body.stream_options, { include_usage: true });
});

test('a box that does not answer is a state, not an exception', async () => {
  const api = new BoxApi('http://box/', async () => {
    throw new TypeError('fetch failed');
  });
  assert.equal((await api.readiness()).state, 'unreachable');
  await assert.rejects(collect(api), { code: 'network' });
});

test('readiness reads the body of a 503', async () => {
  const body = { state: 'STARTING', model: 'R1', load_fraction: 0.4, context_tokens: null, error: null };
  const api = new BoxApi('http://box/', async () => new Response(JSON.stringify(body), { status: 503 }));
  assert.deepEqual(await api.readiness(), { ...body, state: 'starting' });
});

/** A status that is loading at the first question and ready when the test says so. */
class ScriptedStatus {
  listeners = new Set();
  current = { state: 'starting', model: null, load_fraction: 0.5, error: null };
  async refresh() {
    return this.current;
  }
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  become(state) {
    this.current = { ...this.current, state };
    for (const listener of [...this.listeners]) listener(this.current);
  }
}

function run(responses, status = new ScriptedStatus(), failedPatience_ms = undefined) {
  const api = new BoxApi('http://box/', async (_url, init) => {
    if (init.signal?.aborted) throw init.signal.reason;
    const next = responses.shift();
    return typeof next === 'function' ? next(init) : next;
  });
  const answer = newAnswer('m');
  const body = () => ({ model: 'm', messages: [] });
  return new AnswerRun({ api, status, key: () => 'k', body, answer, failedPatience_ms });
}

test('an answer goes through its phases and ends once', async () => {
  const lines = [
    ': queued position=1\n\n',
    'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"yes"}}]}\n\n',
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,' +
      '"completion_tokens_details":{"reasoning_tokens":2}}}\n\n',
    'data: [DONE]\n\n',
  ];
  const one = run([streamed(lines)]);
  const phases = [];
  one.subscribe(({ phase }) => phases.at(-1) === phase || phases.push(phase));
  await one.start();
  assert.deepEqual(phases, ['queued', 'thinking', 'answering', 'ended']);
  assert.equal(one.answer.reasoning, 'hm');
  assert.equal(one.answer.content, 'yes');
  assert.equal(one.answer.status, 'done');
  assert.equal(one.answer.usage.reasoning_tokens, 2);
  assert.notEqual(one.answer.thought_ms, null);
});

test('while the model loads the question waits, and is asked again when it is ready', async () => {
  const status = new ScriptedStatus();
  const one = run([refused(503, 'model_loading', { 'Retry-After': '2' }), streamed(['data: [DONE]\n\n'])], status);
  one.subscribe(({ phase }) => {
    if (phase === 'retrying') setImmediate(() => status.become('ready'));
  });
  await one.start();
  assert.equal(one.answer.status, 'done');
  assert.equal(status.listeners.size, 0);
});

test('stop ends the waiting for a model', async () => {
  const one = run([refused(503, 'model_loading')]);
  one.subscribe(({ phase }) => {
    if (phase === 'retrying') setImmediate(() => one.stop());
  });
  await one.start();
  assert.equal(one.answer.status, 'stopped');
  assert.equal(one.answer.error, null);
});

test('a model that failed is waited for, since the box starts it again', async () => {
  const status = new ScriptedStatus();
  status.become('failed');
  const one = run([refused(503, 'model_not_ready'), streamed(['data: [DONE]\n\n'])], status);
  one.subscribe(({ phase }) => {
    if (phase === 'retrying') setImmediate(() => status.become('ready'));
  });
  await one.start();
  assert.equal(one.answer.status, 'done');
});

test('a model that stays failed is an error', async () => {
  const status = new ScriptedStatus();
  status.become('failed');
  const one = run([refused(503, 'model_not_ready')], status, 0);
  await one.start();
  assert.equal(one.answer.status, 'failed');
  assert.equal(one.answer.error.code, 'model_failed');
});

test('an error in mid-stream keeps what had come', async () => {
  const lines = [
    'data: {"choices":[{"delta":{"content":"half"}}]}\n\n',
    'data: {"error":{"message":"x","code":"engine_died"}}\n\n',
  ];
  const one = run([streamed(lines)]);
  await one.start();
  assert.equal(one.answer.content, 'half');
  assert.equal(one.answer.error.code, 'engine_died');
});
