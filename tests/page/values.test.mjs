// What is kept and what is said: chats, their store, preferences, words and numbers.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import {
  conversationTokens,
  newAnswer,
  newChat,
  settle,
  titleOf,
  wireMessages,
} from '../../appliance/api/web/js/chat.js';
import { duration, period, shortCount } from '../../appliance/api/web/js/format.js';
import { EN, I18n, pickLanguage, ZH } from '../../appliance/api/web/js/i18n.js';
import { keyInFragment, MemoryStorage, Preferences, usableStorage } from '../../appliance/api/web/js/preferences.js';
import { ChatStore } from '../../appliance/api/web/js/store.js';

const WEB = new URL('../../appliance/api/web/', import.meta.url);

function chat(id, updated_ms, text = 'hello') {
  return { id, title: text, updated_ms, messages: [{ role: 'user', content: text }] };
}

/** A Storage with room for so many characters. */
class SmallStorage extends MemoryStorage {
  constructor(chars) {
    super();
    this.chars = chars;
  }
  setItem(name, value) {
    let used = name.length + value.length;
    for (let i = 0; i < this.length; i += 1) {
      const other = this.key(i);
      if (other !== name) used += other.length + this.getItem(other).length;
    }
    if (used > this.chars) throw new DOMException('full', 'QuotaExceededError');
    super.setItem(name, value);
  }
}

test('chats come back, the newest first', () => {
  const store = new ChatStore(new MemoryStorage());
  store.save(chat('a', 1));
  store.save(chat('b', 3));
  store.save(chat('a', 5, 'again'));
  assert.deepEqual(
    store.list().map((entry) => entry.id),
    ['a', 'b'],
  );
  assert.equal(store.load('a').title, 'again');
  store.remove('a');
  assert.equal(store.load('a'), null);
  assert.deepEqual(
    store.list().map((entry) => entry.id),
    ['b'],
  );
});

test('the oldest make room, in number and size', () => {
  const few = new ChatStore(new MemoryStorage(), { maxChats: 2 });
  const results = [1, 2, 3].map((time) => few.save(chat(`c${time}`, time)));
  assert.deepEqual(
    results.map((result) => result.evicted),
    [0, 0, 1],
  );
  assert.deepEqual(
    few.list().map((entry) => entry.id),
    ['c3', 'c2'],
  );
  const small = new ChatStore(new MemoryStorage(), { maxChars: 500 });
  small.save(chat('old', 1, 'x'.repeat(150)));
  assert.deepEqual(small.save(chat('new', 2, 'y'.repeat(150))), { stored: true, evicted: 1 });
});

test('a full browser evicts too, and says when even that is not enough', () => {
  const store = new ChatStore(new SmallStorage(900));
  store.save(chat('old', 1, 'x'.repeat(150)));
  assert.deepEqual(store.save(chat('new', 2, 'y'.repeat(200))), { stored: true, evicted: 1 });
  assert.deepEqual(store.save(chat('huge', 3, 'z'.repeat(2000))), { stored: false, evicted: 1 });
});

test('a broken index is read off the chats, and broken chats go', () => {
  const storage = new MemoryStorage();
  const store = new ChatStore(storage);
  store.save(chat('a', 1));
  storage.setItem('r1box.chat.bad', '{"id": 5');
  storage.setItem('r1box.chats', 'nonsense');
  assert.deepEqual(
    store.list().map((entry) => entry.id),
    ['a'],
  );
  assert.equal(storage.getItem('r1box.chat.bad'), null);
});

test('search looks into messages and wants every word', () => {
  const store = new ChatStore(new MemoryStorage());
  store.save(chat('a', 1, 'Dosage of aspirin'));
  store.save(chat('b', 2, '体温记录'));
  assert.deepEqual(
    store.search('ASPIRIN dosage').map((entry) => entry.id),
    ['a'],
  );
  assert.deepEqual(
    store.search('体温').map((entry) => entry.id),
    ['b'],
  );
  assert.equal(store.search('aspirin fever').length, 0);
  assert.equal(store.search('  ').length, 2);
});

test('the key is in the tab only, unless it is to be remembered', () => {
  const [local, session] = [new MemoryStorage(), new MemoryStorage()];
  const preferences = new Preferences(local, session);
  preferences.signIn('r1b_x', false);
  assert.equal(local.length, 0);
  assert.equal(preferences.chatStorage, session);
  preferences.signIn('r1b_x', true);
  assert.equal(session.length, 0);
  assert.equal(preferences.chatStorage, local);
  preferences.signOut();
  assert.equal(preferences.key, null);
});

test('storage that throws is replaced', () => {
  const storage = usableStorage(() => {
    throw new DOMException('denied', 'SecurityError');
  });
  storage.setItem('a', '1');
  assert.equal(storage.getItem('a'), '1');
});

test('a key in the address', () => {
  assert.equal(keyInFragment('#key=r1b_abc'), 'r1b_abc');
  assert.equal(keyInFragment('#input'), null);
  assert.equal(keyInFragment('#key='), null);
});

test('what is sent has no reasoning, no empty answers, and turns that alternate', () => {
  const answered = { ...newAnswer('m'), content: 'four', reasoning: 'two and two' };
  const messages = [
    { role: 'user', content: '2+2?' },
    answered,
    { role: 'user', content: 'and 3?' },
    { ...newAnswer('m'), reasoning: 'hm', status: 'stopped' },
    { role: 'user', content: 'I mean 3+3' },
  ];
  assert.deepEqual(wireMessages(messages), [
    { role: 'user', content: '2+2?' },
    { role: 'assistant', content: 'four' },
    { role: 'user', content: 'and 3?\n\nI mean 3+3' },
  ]);
});

test('the meter counts what the next question finds', () => {
  const usage = { prompt_tokens: 100, completion_tokens: 50, reasoning_tokens: 30 };
  assert.equal(conversationTokens([{ ...newAnswer('m'), usage }]), 120);
  assert.equal(conversationTokens([{ role: 'user', content: 'x' }]), null);
});

test('titles, ids and answers that a closed page cut off', () => {
  assert.equal(titleOf('\n  Hello   there \nsecond'), 'Hello there');
  assert.equal(Array.from(titleOf('😀'.repeat(200))).length, 80);
  assert.notEqual(newChat().id, newChat().id);
  const cut = { ...newChat(), messages: [newAnswer('m')] };
  assert.equal(settle(cut).messages[0].status, 'stopped');
});

test('numbers and times', () => {
  assert.deepEqual([412, 3140, 16384, 131072, 12_345].map(shortCount), ['412', '3.1k', '16k', '128k', '12k']);
  assert.deepEqual(duration(42_400), { minutes: 0, seconds: 42 });
  assert.deepEqual(duration(125_000), { minutes: 2, seconds: 5 });
  const noon = new Date(2026, 4, 10, 12).getTime();
  const day = 86_400_000;
  assert.deepEqual(
    [0, 1, 3, 9].map((days) => period(noon - days * day, noon)),
    ['today', 'yesterday', 'week', 'older'],
  );
});

test('both languages have the same texts with the same places to fill', () => {
  assert.deepEqual(Object.keys(ZH).sort(), Object.keys(EN).sort());
  const places = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const key of Object.keys(EN)) {
    assert.notEqual(EN[key], '', key);
    assert.notEqual(ZH[key], '', key);
    assert.deepEqual(places(ZH[key]), places(EN[key]), key);
  }
});

test('every text is used and every text used exists', () => {
  const sources = readdirSync(new URL('js/', WEB))
    .filter((name) => name !== 'i18n.js')
    .map((name) => readFileSync(new URL(`js/${name}`, WEB), 'utf8'));
  const html = readFileSync(new URL('index.html', WEB), 'utf8');
  const all = [...sources, html].join('\n');
  for (const [, key] of html.matchAll(/data-i18n[a-z-]*="(\w+)"/g)) assert.ok(key in EN, `index.html names ${key}`);
  for (const [, key] of sources.join('\n').matchAll(/\bt\(\s*'(\w+)'/g)) assert.ok(key in EN, `code names ${key}`);
  const built = /^(period_|example_\d_text$|said_|title_|thinking_time$|waiting_time$)/;
  for (const key of Object.keys(EN)) {
    assert.ok(built.test(key) || new RegExp(`['"]${key}['"]`).test(all), `${key} is not used`);
  }
});

test('the language is the reader’s choice, else the browser’s first', () => {
  assert.equal(pickLanguage(null, ['zh-TW', 'en']), 'zh');
  assert.equal(pickLanguage(null, ['de', 'zh']), 'en');
  assert.equal(pickLanguage('zh', ['en']), 'zh');
  assert.equal(new I18n('en').t('thought', { time: '3 s' }), 'Thought for 3 s');
});

test('the page has no inline script or style, no foreign address and no HTML from strings', () => {
  const html = readFileSync(new URL('index.html', WEB), 'utf8');
  assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?:\/\//);
  for (const name of readdirSync(new URL('js/', WEB))) {
    const source = readFileSync(new URL(`js/${name}`, WEB), 'utf8');
    assert.doesNotMatch(
      source,
      /\.(innerHTML|outerHTML)\b|insertAdjacentHTML|document\.write|\beval\(|new Function/,
      name,
    );
    assert.ok(source.split('\n').length <= 400, `${name} is too long`);
  }
  for (const name of readdirSync(new URL('css/', WEB))) {
    assert.doesNotMatch(readFileSync(new URL(`css/${name}`, WEB), 'utf8'), /https?:|@import|url\(/, name);
  }
});
