/** The page's colours: the reader's choice, else the system's, also when that changes in the evening. */

const darkSystem = matchMedia('(prefers-color-scheme: dark)');

/**
 * @param {() => string | null} chosen 'light', 'dark' or null
 * @returns {() => void} to be called when the choice changes
 */
export function followTheme(chosen) {
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (darkSystem.matches ? 'dark' : 'light');
  };
  darkSystem.addEventListener('change', apply);
  apply();
  return apply;
}
