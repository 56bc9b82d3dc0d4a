// OpenAI's client for Node.
import OpenAI from 'openai';

const { BOX_URL, BOX_KEY, BOX_MODEL, BOX_LIMITED_KEY } = process.env;
const CASES = JSON.parse(process.env.BOX_CASES);

const client = (apiKey = BOX_KEY) => new OpenAI({ baseURL: `${BOX_URL}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });

const ask = (fields = {}, asking = client()) =>
  asking.chat.completions.create({
    model: BOX_MODEL,
    messages: [{ role: 'user', content: CASES.question }],
    temperature: 0,
    ...fields,
  });

const seen = (content, reasoning, usage) => ({
  content,
  reasoning,
  prompt: usage.prompt_tokens,
  completion: usage.completion_tokens,
  thinking: usage.completion_tokens_details.reasoning_tokens,
});

const caught = async (call) => {
  try {
    await call();
  } catch (error) {
    return { type: error.constructor.name, status: error.status ?? null, text: error.message };
  }
  return { type: null, status: 200, text: '' };
};

const cases = {
  async whole() {
    const answer = await ask();
    const { content, reasoning_content: reasoning } = answer.choices[0].message;
    return seen(content, reasoning, answer.usage);
  },

  async stream() {
    let content = '';
    let reasoning = '';
    let usage = null;
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
      usage = chunk.usage ?? usage;
      content += chunk.choices[0]?.delta.content ?? '';
      reasoning += chunk.choices[0]?.delta.reasoning_content ?? '';
    }
    return seen(content, reasoning, usage);
  },

  async tools() {
    const messages = [{ role: 'user', content: CASES.weather }];
    const first = (await ask({ messages, tools: CASES.tools })).choices[0].message;
    const calls = first.tool_calls.map(({ function: { name, arguments: text } }) => ({
      name,
      arguments: JSON.parse(text),
    }));
    const result = { role: 'tool', tool_call_id: first.tool_calls[0].id, content: CASES.result };
    const second = await ask({ messages: [...messages, first, result], tools: CASES.tools });
    return { calls, answer: second.choices[0].message.content };
  },

  async errors() {
    const limited = client(BOX_LIMITED_KEY);
    return {
      401: await caught(() => ask({}, client('r1b_wrong'))),
      404: await caught(() => ask({ model: 'gone' })),
      400: await caught(() => ask({ messages: [{ role: 'user', content: 'word '.repeat(3000) }] })),
      429: await caught(() => ask({}, limited)),
    };
  },
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(cases);
const told = {};
for (const name of wanted) told[name] = await cases[name]();
console.log(JSON.stringify(told));
