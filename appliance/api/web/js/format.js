/** Numbers and times as a reader of either language expects them. Pure. */

/**
 * 412 -> "412", 3140 -> "3.1k", 16384 -> "16k": a context's size is a multiple of 1024.
 * @param {number} count
 */
export function shortCount(count) {
  if (count < 1000) return String(count);
  const unit = count >= 1024 && count % 1024 === 0 ? 1024 : 1000;
  const thousands = count / unit;
  return `${thousands < 10 ? Number(thousands.toFixed(1)) : Math.round(thousands)}k`;
}

/** @param {number} count @param {string} language */
export const fullCount = (count, language) => new Intl.NumberFormat(language).format(count);

/** @param {number} tokensPerS */
export const speed = (tokensPerS) => (tokensPerS < 100 ? tokensPerS.toFixed(1) : String(Math.round(tokensPerS)));

/**
 * Whole seconds under two minutes, then minutes and seconds.
 * @param {number} ms
 * @returns {{minutes: number, seconds: number}}
 */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 120 ? { minutes: 0, seconds } : { minutes: Math.floor(seconds / 60), seconds: seconds % 60 };
}

/**
 * Which heading of the chat list a time belongs under.
 * @param {number} timeMs
 * @param {number} nowMs
 * @returns {'today' | 'yesterday' | 'week' | 'older'}
 */
export function period(timeMs, nowMs) {
  const midnight = new Date(nowMs).setHours(0, 0, 0, 0);
  const dayMs = 86_400_000;
  if (timeMs >= midnight) return 'today';
  if (timeMs >= midnight - dayMs) return 'yesterday';
  return timeMs >= midnight - 6 * dayMs ? 'week' : 'older';
}
