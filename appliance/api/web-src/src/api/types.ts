/** Bodies of the box's API, as this page uses them. Times are RFC 3339; unknown is null. */

export type Role = 'viewer' | 'user' | 'operator' | 'admin';
export type LanguageCode = 'en' | 'zh';

export interface Me {
  kind: 'key' | 'session' | 'local';
  name: string;
  permissions: string[];
  user_id: number | null;
  role: Role | null;
  language: LanguageCode | null;
  must_change_password: boolean;
  csrf_token: string | null;
}

export interface PageModel {
  id: string;
  name: string | null;
  quantization: string | null;
  state: string | null;
  context_tokens: number | null;
  efforts: string[];
  default: boolean;
}

export interface PageLimits {
  question_characters: number;
  attachment_bytes: number;
  attachments_per_message: number;
  keep_days: number | null;
}

export interface PageStart {
  /** null for strangers. */
  version: string | null;
  limits: PageLimits | null;
  user: Me | null;
  models: PageModel[];
  setup_needed: boolean;
}

/** Where in a message the words that were searched for are; `marks` are [start, length] in code points. */
export interface Snippet {
  message_id: number;
  text: string;
  marks: [number, number][];
}

export interface ChatSummary {
  id: number;
  /** Empty before the first question. */
  title: string;
  model: string | null;
  created_at: string;
  updated_at: string;
  pinned: boolean;
  leaf_id: number | null;
  snippet?: Snippet | null;
}

export interface ChatPage {
  items: ChatSummary[];
  next_cursor: string | null;
}

export interface Usage {
  prompt: number | null;
  completion: number | null;
  reasoning: number | null;
  cached: number | null;
}

export interface Attachment {
  id: number;
  name: string;
  bytes: number;
  kind: string;
  tokens: number | null;
}

export interface ErrorFields {
  code: string;
  message: string;
}

export type MessageState = 'streaming' | 'done' | 'stopped' | 'interrupted' | 'error';

export interface Message {
  id: number;
  parent_id: number | null;
  role: 'user' | 'assistant';
  content: string;
  reasoning: string;
  model: string | null;
  state: MessageState;
  finish_reason: string | null;
  thinking_end: string | null;
  usage: Usage | null;
  thinking_ms: number | null;
  total_ms: number | null;
  error: ErrorFields | null;
  attachments: Attachment[];
  created_at: string;
}

export interface Chat extends ChatSummary {
  messages: Message[];
}

export interface Sent {
  user_message: Message | null;
  answer: Message;
  chat: ChatSummary;
}

export interface Count {
  prompt_tokens: number;
  context_tokens: number | null;
  fits: boolean;
  answer_room: number | null;
}

export interface Queued {
  position: number;
  wait_s: number | null;
}

export interface Readiness {
  state: string;
  model: string | null;
  load_fraction: number | null;
  context_tokens: number | null;
  error: string | null;
}
