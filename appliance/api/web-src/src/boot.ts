// Runs before the first paint, as a classic script: sets the colours and the language so that the page never flashes
// the wrong ones. Everything else is in modules. Settings are read again, with the same names, by state/prefs.ts.
(() => {
  const root = document.documentElement;
  const read = (name: string): string | null => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is blocked: the browser's own preferences apply
    }
  };
  const theme = read('r1box.theme');
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = theme === 'dark' || theme === 'light' ? theme : dark ? 'dark' : 'light';
  const language = read('r1box.language') ?? navigator.language ?? 'en';
  root.lang = language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en';
})();
