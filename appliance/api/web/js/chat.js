/**
 * A conversation as values: what is kept, and what of it is sent to the box.
 *
 * @typedef {object} Question
 * @property {'user'} role
 * @property {string} content
 *
 * @typedef {object} AnswerError
 * @property {string} code
 * @property {string} detail the box's own sentence, '' when there was none
 * @property {string | null} hint
 * @property {number | null} status
 * @property {number | null} retry_after_s
 *
 * @typedef {object} Answer
 * @property {'assistant'} role
 * @property {string} content
 * @property {string} reasoning
 * @property {'streaming' | 'done' | 'stopped' | 'failed'} status
 * @property {string | null} finish_reason
 * @property {string | null} model
 * @property {number | null} thought_ms how long the model thought
 * @property {number | null} tokens_per_s
 * @property {import('./api.js').Usage | null} usage
 * @property {AnswerError | null} error
 *
 * @typedef {Question | Answer} Message
 *
 * @typedef {object} Chat
 * @property {string} id
 * @property {string} title
 * @property {number} updated_ms
 * @property {Message[]} messages
 */

const TITLE_CHARS = 80;

/** @returns {Chat} */
export function newChat() {
  // crypto.randomUUID exists only on https and localhost; a box is often plain http on a local network.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return { id, title: '', updated_ms: Date.now(), messages: [] };
}

/** @param {string} text @returns {string} the first line that says something, cut to a title's length */
export function titleOf(text) {
  const line = text.split('\n').find((candidate) => candidate.trim() !== '') ?? '';
  const title = line.trim().replace(/\s+/g, ' ');
  return Array.from(title).slice(0, TITLE_CHARS).join('');
}

/** @param {string | null} model @returns {Answer} */
export function newAnswer(model) {
  return {
    role: 'assistant',
    content: '',
    reasoning: '',
    status: 'streaming',
    finish_reason: null,
    model,
    thought_ms: null,
    tokens_per_s: null,
    usage: null,
    error: null,
  };
}

/**
 * What is sent: the turns' text without their reasoning. An answer that never began leaves no turn, and the two
 * questions around it become one, since R1 was trained on turns that alternate.
 * @param {Message[]} messages
 * @returns {{role: string, content: string}[]}
 */
export function wireMessages(messages) {
  /** @type {{role: string, content: string}[]} */
  const wire = [];
  for (const { role, content } of messages) {
    if (role === 'assistant' && content.trim() === '') continue;
    const last = wire.at(-1);
    if (role === 'user' && last?.role === 'user') last.content += `\n\n${content}`;
    else wire.push({ role, content });
  }
  return wire;
}

/**
 * Tokens the conversation takes when the next question comes: the last answer's prompt and text, without its
 * thinking, which is not sent again. Null until the box has counted once.
 * @param {Message[]} messages
 * @returns {number | null}
 */
export function conversationTokens(messages) {
  for (let i = messages.length - 1; i >= 0; i -= 1) {
    const message = messages[i];
    if (message.role === 'assistant' && message.usage !== null) {
      const { prompt_tokens, completion_tokens, reasoning_tokens } = message.usage;
      return prompt_tokens + completion_tokens - (reasoning_tokens ?? 0);
    }
  }
  return null;
}

/** An answer that was streaming when the page was closed did not finish. @param {Chat} chat @returns {Chat} */
export function settle(chat) {
  for (const message of chat.messages) {
    if (message.role === 'assistant' && message.status === 'streaming') message.status = 'stopped';
  }
  return chat;
}
