/** Style sheets of the parts that are loaded late; the build writes their names into index.html. */

const coming = new Map<string, Promise<void>>();

export function loadStyle(name: 'katexStyle' | 'operatorStyle'): Promise<void> {
  const known = coming.get(name);
  if (known !== undefined) return known;
  const loading = new Promise<void>((resolve) => {
    const link = document.createElement('link');
    link.rel = 'stylesheet';
    link.href = document.getElementById('root')?.dataset[name] ?? '';
    link.onload = () => resolve();
    link.onerror = () => resolve(); // unstyled is better than nothing
    document.head.append(link);
  });
  coming.set(name, loading);
  return loading;
}
