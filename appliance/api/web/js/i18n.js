/**
 * Every word the page shows, in English and Chinese. Both tables have the same keys (a test says so).
 *
 * `{name}` in a text is filled in; index.html names its texts with data-i18n, data-i18n-label, data-i18n-placeholder.
 *
 * @typedef {'en' | 'zh'} Language
 * @typedef {keyof typeof EN} TextKey
 */

export const EN = {
  product: 'R1 Box',
  language: 'Language',
  language_auto: 'As in the browser',
  appearance: 'Appearance',
  theme_auto: 'As in the system',
  theme_light: 'Light',
  theme_dark: 'Dark',
  skip_to_input: 'Skip to the message field',
  close: 'Close',
  cancel: 'Cancel',

  key_title: 'Welcome to R1 Box',
  key_intro: 'Chat with the model that runs on this box. Your messages stay on your own network.',
  key_label: 'API key',
  key_show: 'Show',
  key_hide: 'Hide',
  key_remember: 'Remember me on this computer',
  key_remember_hint:
    'Keeps your key and chats in this browser. Leave it off on a shared computer: both then go when the tab closes.',
  key_continue: 'Continue',
  key_checking: 'Checking…',
  key_help: 'Where do I get a key?',
  key_help_text: 'Ask the person who runs this box. On the box itself, this command makes one:',
  key_empty: 'Please enter a key.',
  key_rejected: 'The box does not know this key. Check that it was copied whole; it begins with r1b_.',
  key_unreachable: 'The box does not answer. Check that this computer is on its network, then try again.',

  sidebar: 'Chats',
  open_sidebar: 'Show chats',
  close_sidebar: 'Hide chats',
  new_chat: 'New chat',
  search_chats: 'Search chats',
  no_chats: 'Your chats will be listed here.',
  no_matches: 'No chat matches.',
  period_today: 'Today',
  period_yesterday: 'Yesterday',
  period_week: 'Last 7 days',
  period_older: 'Older',
  untitled: 'New chat',
  delete_chat: 'Delete “{title}”',
  chat_deleted: 'Chat deleted.',
  undo: 'Undo',
  chats_evicted: 'The oldest chats were removed to make room: {count}.',
  not_stored: 'This browser cannot keep this chat. It is lost when the page closes.',
  chat_running: 'is being answered',

  settings: 'Settings',
  sign_out: 'Sign out',
  sign_out_title: 'Sign out of this box?',
  sign_out_text: 'The key is removed from this browser. You need it again to come back.',
  sign_out_delete: 'Also delete the chats kept in this browser',

  model: 'Model',
  state_connecting: 'Connecting…',
  state_ready: 'Ready',
  state_loading: 'Loading the model',
  state_loading_percent: 'Loading the model, {percent} %',
  state_stopped: 'No model is loaded',
  state_draining: 'The model is being changed',
  state_failed: 'The model is not running',
  state_failed_hint:
    'The box tries to start it again by itself. If it stays like this, tell the person who runs the box.',
  state_unreachable: 'The box does not answer',
  state_unreachable_hint: 'Trying again by itself. Check that this computer is on the same network.',

  conversation: 'Conversation',
  welcome: 'What can I help you with?',
  welcome_note: 'Everything stays on your network.',
  example_1: 'Explain a lab report in plain words',
  example_1_text: 'Explain in plain words what these laboratory values mean, and which of them are unusual:\n\n',
  example_2: 'Write a handover note',
  example_2_text: 'Turn these points into a short, clear handover note:\n\n',
  example_3: 'Solve a problem step by step',
  example_3_text: 'Solve this step by step and state the result at the end:\n\n',
  you_said: 'You',
  answer: 'Answer',
  waiting: 'Waiting for the model…',
  waiting_time: 'Waiting for the model… {time}',
  queued: 'Position {position} in the queue',
  queued_wait: 'Position {position} in the queue, about {time}',
  retrying_loading: 'The model is loading. Your message is sent when it is ready.',
  retrying_loading_percent: 'The model is loading, {percent} %. Your message is sent when it is ready.',
  retrying_failed: 'The model is being started again. Your message is sent when it is ready.',
  retrying_busy: 'The box is busy. Your message is tried again in a moment.',
  thinking: 'Thinking…',
  thinking_time: 'Thinking… {time}',
  thought: 'Thought for {time}',
  thought_unknown: 'Thought',
  thought_tokens: '{count} tokens',
  under_a_second: 'under 1 s',
  seconds: '{seconds} s',
  minutes: '{minutes} min {seconds} s',
  stopped: 'Stopped.',
  stopped_thinking: 'Stopped while thinking.',
  cut_by_length: 'The answer reached the length limit and ends here.',
  cut_while_thinking:
    'The length limit was reached while still thinking, so there is no answer. A narrower question may help.',
  empty_answer: 'The model ended without an answer.',
  copy: 'Copy',
  copied: 'Copied',
  code: 'Code',
  regenerate: 'Answer again',
  edit: 'Edit',
  tokens_per_s: '{speed} tokens/s',
  answer_tokens: '{count} tokens',
  jump_to_latest: 'Jump to the latest',

  message: 'Message',
  placeholder: 'Ask anything',
  send: 'Send',
  stop: 'Stop',
  editing: 'Editing your last message. Its answer will be replaced.',
  send_hint: 'Enter sends · Shift + Enter makes a new line',
  disclaimer: 'Answers can be wrong. Check what matters.',
  context_used: '{used} tokens',
  context_meter: '{used} of {total} tokens',
  context_title: 'What this conversation takes of the model’s context. Earlier thinking is not sent again.',

  error_retry: 'Try again',
  error_new_key: 'Enter another key',
  error_new_chat: 'Start a new chat',
  error_edit: 'Edit the message',
  error_network: 'The box does not answer',
  error_network_next: 'Check that this computer is on the same network, then try again.',
  error_ended: 'The connection ended in the middle of the answer',
  error_ended_next: 'What arrived is kept. Try again for a whole answer.',
  error_key: 'The box does not accept this key',
  error_key_next: 'It may have been revoked. Enter another key or ask the person who runs this box.',
  error_too_long: 'This conversation is too long for the model',
  error_too_long_next: 'Shorten the message or start a new chat.',
  error_model: 'This model is not on the box any more',
  error_model_next: 'Try again to use the model that is loaded now.',
  error_rate: 'Too many requests just now',
  error_rate_next: 'Wait a moment, then try again.',
  error_rate_next_s: 'Try again in {time}.',
  error_busy: 'The box has no free place just now',
  error_busy_next: 'Others are being answered. Try again in a moment.',
  error_engine: 'The model stopped in the middle of the answer',
  error_engine_next: 'The box starts it again by itself. Try again in a moment.',
  error_request: 'The box cannot answer this message',
  error_request_next: 'Change the message and try again.',
  error_other: 'Something went wrong on the box',
  error_other_next: 'Try again. If it stays, tell the person who runs this box.',

  said_thinking: 'The model is thinking.',
  said_answering: 'The model is answering.',
  said_done: 'The answer is complete.',
  said_stopped: 'Stopped.',
  title_thinking: 'Thinking…',
  title_answering: 'Answering…',
  title_waiting: 'Waiting…',
  title_done: '✓ Answered',
};

/** @type {Record<TextKey, string>} */
export const ZH = {
  product: 'R1 Box',
  language: '语言',
  language_auto: '跟随浏览器',
  appearance: '外观',
  theme_auto: '跟随系统',
  theme_light: '浅色',
  theme_dark: '深色',
  skip_to_input: '跳到输入框',
  close: '关闭',
  cancel: '取消',

  key_title: '欢迎使用 R1 Box',
  key_intro: '与运行在本机上的模型对话，内容不会离开您的内部网络。',
  key_label: 'API 密钥',
  key_show: '显示',
  key_hide: '隐藏',
  key_remember: '在这台电脑上记住我',
  key_remember_hint: '密钥和对话会保存在此浏览器中。公用电脑请勿勾选，关闭标签页后两者即被清除。',
  key_continue: '继续',
  key_checking: '正在验证…',
  key_help: '如何获得密钥？',
  key_help_text: '请联系管理员。在设备上可用以下命令创建：',
  key_empty: '请输入密钥。',
  key_rejected: '密钥无效。请确认已完整复制，密钥以 r1b_ 开头。',
  key_unreachable: '无法连接到设备。请确认这台电脑在同一网络中，然后重试。',

  sidebar: '对话',
  open_sidebar: '显示对话列表',
  close_sidebar: '隐藏对话列表',
  new_chat: '新对话',
  search_chats: '搜索对话',
  no_chats: '您的对话会显示在这里。',
  no_matches: '没有匹配的对话。',
  period_today: '今天',
  period_yesterday: '昨天',
  period_week: '最近 7 天',
  period_older: '更早',
  untitled: '新对话',
  delete_chat: '删除“{title}”',
  chat_deleted: '对话已删除。',
  undo: '撤销',
  chats_evicted: '为腾出空间，已删除最早的 {count} 个对话。',
  not_stored: '此浏览器无法保存该对话，关闭页面后将丢失。',
  chat_running: '正在回答',

  settings: '设置',
  sign_out: '退出',
  sign_out_title: '要退出吗？',
  sign_out_text: '密钥将从此浏览器中移除，再次使用时需要重新输入。',
  sign_out_delete: '同时删除保存在此浏览器中的对话',

  model: '模型',
  state_connecting: '正在连接…',
  state_ready: '就绪',
  state_loading: '正在加载模型',
  state_loading_percent: '正在加载模型 {percent}%',
  state_stopped: '尚未加载模型',
  state_draining: '正在切换模型',
  state_failed: '模型未在运行',
  state_failed_hint: '设备会自动尝试重新启动模型。如果仍然如此，请告知管理员。',
  state_unreachable: '无法连接到设备',
  state_unreachable_hint: '正在自动重试。请确认这台电脑在同一网络中。',

  conversation: '对话内容',
  welcome: '有什么可以帮您？',
  welcome_note: '所有内容都留在您的内部网络中。',
  example_1: '通俗解读化验单',
  example_1_text: '请用通俗的语言解释以下化验结果，并指出哪些数值异常：\n\n',
  example_2: '撰写交接班记录',
  example_2_text: '请把以下要点整理成一份简明的交接班记录：\n\n',
  example_3: '逐步解答问题',
  example_3_text: '请逐步解答下面的问题，并在最后给出结论：\n\n',
  you_said: '您',
  answer: '回答',
  waiting: '等待模型响应…',
  waiting_time: '等待模型响应… {time}',
  queued: '排队中，第 {position} 位',
  queued_wait: '排队中，第 {position} 位，约 {time}',
  retrying_loading: '模型正在加载，就绪后会自动发送您的消息。',
  retrying_loading_percent: '模型正在加载（{percent}%），就绪后会自动发送您的消息。',
  retrying_failed: '模型正在重新启动，就绪后会自动发送您的消息。',
  retrying_busy: '设备繁忙，稍后会自动重试。',
  thinking: '思考中…',
  thinking_time: '思考中… {time}',
  thought: '已思考 {time}',
  thought_unknown: '思考过程',
  thought_tokens: '{count} 个词元',
  under_a_second: '不到 1 秒',
  seconds: '{seconds} 秒',
  minutes: '{minutes} 分 {seconds} 秒',
  stopped: '已停止。',
  stopped_thinking: '已在思考时停止。',
  cut_by_length: '回答已达到长度上限，到此为止。',
  cut_while_thinking: '思考时已达到长度上限，因此没有给出回答。可以尝试把问题问得更具体。',
  empty_answer: '模型没有给出回答。',
  copy: '复制',
  copied: '已复制',
  code: '代码',
  regenerate: '重新回答',
  edit: '编辑',
  tokens_per_s: '{speed} 词元/秒',
  answer_tokens: '{count} 个词元',
  jump_to_latest: '回到最新内容',

  message: '消息',
  placeholder: '请输入您的问题',
  send: '发送',
  stop: '停止',
  editing: '正在编辑上一条消息，原回答将被替换。',
  send_hint: 'Enter 发送 · Shift + Enter 换行',
  disclaimer: '回答可能有误，重要内容请核实。',
  context_used: '{used} 词元',
  context_meter: '{used} / {total} 词元',
  context_title: '本对话占用的模型上下文。之前的思考过程不会再次发送。',

  error_retry: '重试',
  error_new_key: '更换密钥',
  error_new_chat: '开始新对话',
  error_edit: '编辑消息',
  error_network: '无法连接到设备',
  error_network_next: '请确认这台电脑在同一网络中，然后重试。',
  error_ended: '回答中途连接中断',
  error_ended_next: '已收到的内容会保留。重试可获得完整回答。',
  error_key: '设备不接受此密钥',
  error_key_next: '密钥可能已被撤销。请更换密钥或联系管理员。',
  error_too_long: '对话超出了模型的长度上限',
  error_too_long_next: '请缩短消息或开始新对话。',
  error_model: '设备上已没有此模型',
  error_model_next: '重试即可使用当前加载的模型。',
  error_rate: '请求过于频繁',
  error_rate_next: '请稍候再试。',
  error_rate_next_s: '请在 {time}后重试。',
  error_busy: '设备暂时没有空位',
  error_busy_next: '正在为其他人回答，请稍后重试。',
  error_engine: '模型在回答中途停止运行',
  error_engine_next: '设备会自动重新启动模型，请稍后重试。',
  error_request: '设备无法回答此消息',
  error_request_next: '请修改消息后重试。',
  error_other: '设备出现问题',
  error_other_next: '请重试。如果仍然如此，请告知管理员。',

  said_thinking: '模型正在思考。',
  said_answering: '模型正在回答。',
  said_done: '回答完毕。',
  said_stopped: '已停止。',
  title_thinking: '思考中…',
  title_answering: '回答中…',
  title_waiting: '等待中…',
  title_done: '✓ 已回答',
};

const TABLES = { en: EN, zh: ZH };

/**
 * The language to speak, from the reader's choice or else the browser's list.
 * @param {string | null} chosen
 * @param {readonly string[]} preferred
 * @returns {Language}
 */
export function pickLanguage(chosen, preferred) {
  const tag = (chosen ?? preferred[0] ?? 'en').toLowerCase();
  return tag.startsWith('zh') ? 'zh' : 'en';
}

export class I18n {
  /** @param {Language} language */
  constructor(language) {
    this.language = language;
  }

  /** For Intl and the lang attribute. */
  get locale() {
    return this.language === 'zh' ? 'zh-CN' : 'en';
  }

  /** @param {TextKey} key @param {Record<string, string | number>} [values] */
  t(key, values = {}) {
    return TABLES[this.language][key].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  }

  /** Writes the texts that index.html names. @param {ParentNode} root */
  apply(root) {
    /** @type {[string, (element: Element, text: string) => void][]} */
    const targets = [
      ['data-i18n', (element, text) => (element.textContent = text)],
      ['data-i18n-label', (element, text) => element.setAttribute('aria-label', text)],
      ['data-i18n-placeholder', (element, text) => element.setAttribute('placeholder', text)],
      ['data-i18n-title', (element, text) => element.setAttribute('title', text)],
    ];
    for (const [attribute, write] of targets) {
      for (const element of root.querySelectorAll(`[${attribute}]`)) {
        write(element, this.t(/** @type {TextKey} */ (element.getAttribute(attribute))));
      }
    }
  }
}
