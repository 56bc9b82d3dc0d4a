/** Bodies of the admin API, as the operator area uses them. */

export interface Device {
  key: string;
  name: string | null;
  chip: string | null;
  state: 'present' | 'lost' | 'unknown';
  problem: string | null;
  health: 'ok' | 'warning' | 'alarm' | 'critical' | 'unknown';
  utilization_percent: number | null;
  memory_used_bytes: number | null;
  memory_total_bytes: number | null;
  temperature_celsius: number | null;
  power_watts: number | null;
  clock_mhz: number | null;
  throttle_reasons: string[];
}

export interface Host {
  cpu_percent: number | null;
  load_1: number | null;
  memory_used_bytes: number | null;
  memory_total_bytes: number | null;
  disk_free_bytes: number | null;
  network_in_bytes_per_s: number | null;
  network_out_bytes_per_s: number | null;
}

export interface TelemetryEvent {
  id: number;
  time: string;
  kind: string;
  subject: string;
  severity: 'info' | 'warning' | 'error';
  message: string;
}

export interface Telemetry {
  enabled: boolean;
  host: Host | null;
  devices: Device[];
  events: TelemetryEvent[];
}

export interface Series {
  subject: string;
  field: string;
  mean: (number | null)[];
}

export interface History {
  start: string;
  step_s: number;
  buckets: number;
  series: Series[];
}

export type ModelState = 'installed' | 'starting' | 'ready' | 'draining' | 'stopping' | 'failed';

export interface Model {
  id: string;
  name: string;
  quantization: string;
  size_bytes: number;
  state: ModelState;
  default: boolean;
  pinned: boolean;
  load_fraction: number | null;
  error: string | null;
  seats: number | null;
  context_tokens: number | null;
  devices: string[];
  offload: string | null;
  running: number;
  waiting: number;
}

export type Severity = 'error' | 'warning' | 'info';

export interface Issue {
  id: string;
  code: string;
  severity: Severity;
  message: string;
  since: string;
  hint: string | null;
  fixups: { name: string; label: string }[];
}

export interface Issues {
  issues: Issue[];
  checked_at: string | null;
}

export interface UsageItem {
  day: string | null;
  subject: string | null;
  name: string | null;
  requests: number;
  errors: number;
  prompt_tokens: number;
  thinking_tokens: number;
  answer_tokens: number;
  total_tokens: number;
}

export interface RequestItem {
  id: number;
  at: string;
  name: string;
  model: string;
  finish: string;
  error_code: string | null;
  prompt_tokens: number;
  thinking_tokens: number;
  answer_tokens: number;
  first_token_s: number | null;
  duration_s: number;
}

export interface Key {
  id: number;
  name: string;
  prefix: string;
  last_used_at: string | null;
  expires_at: string | null;
  user_name: string | null;
  scopes: string[];
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  tokens_per_day: number | null;
  user_id: number | null;
  models: string[] | null;
  priority: 'interactive' | 'batch';
  may_override_sampling: boolean;
  reasoning_format: string | null;
}

export type RoleName = 'viewer' | 'user' | 'operator' | 'admin';

export interface User {
  id: number;
  name: string;
  role: RoleName;
  has_password: boolean;
  must_change_password: boolean;
  disabled: boolean;
  last_login_at: string | null;
}

export interface Session {
  id: number;
  user_name: string;
  created_at: string;
  last_seen_at: string;
  address: string | null;
  user_agent: string | null;
  current: boolean;
}

export interface Offload {
  model: string;
  state: string;
  reasons: { code: string; message: string }[];
  proof: string[];
  checked_at: string;
  expected_tokens_per_s: [number, number] | null;
}

export interface Job {
  id: string;
  kind: string;
  state: 'queued' | 'running' | 'cancelling' | 'succeeded' | 'failed' | 'cancelled' | 'interrupted';
  request: { target?: string; model?: string; path?: string; paths?: string[]; to?: string | string[] };
  created_by: string;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  cancellable: boolean;
  progress: {
    phase: string | null;
    done_bytes: number | null;
    total_bytes: number | null;
    fraction: number | null;
    bytes_per_s: number | null;
    eta_s: number | null;
  };
  result: Record<string, unknown> | null;
  error: { code: string; message: string; hint: string | null } | null;
}

export interface JobList {
  jobs: Job[];
  /** Where imports may read from now. */
  folders: string[];
}

export interface AuditItem {
  seq: number;
  at: string;
  actor_name: string;
  address: string | null;
  action: string;
  target: string | null;
  details: Record<string, unknown>;
}

export interface AuditVerdict {
  whole: boolean;
  rows: number;
  problem: string | null;
}

export interface LogItem {
  seq: number;
  at: string;
  level: string;
  part: string;
  event: string;
  request_id: string | null;
  fields: Record<string, unknown>;
}

/** The part of JSON Schema that settings have. */
export interface SettingKind {
  type?: string;
  enum?: string[];
  anyOf?: SettingKind[];
}

export interface Setting {
  name: string;
  value: unknown;
  stored: unknown;
  default: unknown;
  source: 'flag' | 'environment' | 'changed' | 'file' | 'default';
  origin: string;
  applies: 'now' | 'load' | 'restart' | 'file';
  locked: boolean;
  pending: boolean;
  secret: boolean;
  kind: SettingKind;
  description: string;
}

export interface SettingList {
  items: Setting[];
  restart_needed: string[];
  file: string;
}

export interface Certificate {
  fingerprint: string;
  not_after: string;
}

export interface BoxIdentity {
  version: string;
  hostname: string;
  started_at: string;
  urls: string[];
  only_local: boolean;
  certificate: Certificate | null;
  authority: Certificate | null;
}

export interface Page<Item> {
  items: Item[];
  next: number | null;
}

/** A model that fits, and how; `installed` is false where the box does not have the engine. */
export interface Plan {
  variant: string;
  quantization: string;
  engine: string;
  devices: string[];
  seats: number;
  context_tokens: number;
  file_bytes: number;
  decode_tokens_per_s: { low: number; high: number } | null;
  installed: boolean;
}

export interface WhyNot {
  variant: string;
  quantization: string;
  engine: string;
  reason: string;
  counter_offer: { seats: number; context_tokens: number } | null;
}

export interface Plans {
  cards: { name: string; count: number }[];
  host_memory_available_bytes: number | null;
  plans: Plan[];
  rejections: WhyNot[];
  notes: string[];
}
