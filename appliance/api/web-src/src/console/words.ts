/** What the page with the console says itself; everything else is the console's, or the box's refusal. */

import type { LanguageCode } from '../api/types.js';

const EN = {
  title: 'R1 Box: console',
  opening: 'Opening the console …',
  log_in: 'Log in on the chat page as an operator or an administrator first, then open the console again.',
  password: 'Choose a new password on the chat page first.',
  left: 'You left the console.',
  logged_out: 'The session has ended, and the console with it. Log in again on the chat page.',
  stopped: 'The box has ended the console.',
  failed: 'The console has ended by itself. The log of the box says more.',
  network: 'The connection to the box is lost.',
  again: 'Open the console',
  page: 'Chat page',
};

const ZH: Record<keyof typeof EN, string> = {
  title: 'R1 Box：控制台',
  opening: '正在打开控制台……',
  log_in: '请先在聊天页面以操作员或管理员身份登录，然后再打开控制台。',
  password: '请先在聊天页面设置新密码。',
  left: '您已离开控制台。',
  logged_out: '会话已结束，控制台也随之关闭。请在聊天页面重新登录。',
  stopped: '设备已关闭此控制台。',
  failed: '控制台意外退出，详情见设备日志。',
  network: '与设备的连接已断开。',
  again: '打开控制台',
  page: '聊天页面',
};

export type Word = keyof typeof EN;

export const isWord = (name: string): name is Word => name in EN;

/** The words of a language. */
export const wordsOf = (language: LanguageCode): Record<Word, string> => (language === 'zh' ? ZH : EN);
