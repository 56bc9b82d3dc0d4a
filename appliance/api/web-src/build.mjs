// Builds the chat page: src/ into ../web/ (or the folder named as first argument). `make web` calls it.
//
// What it writes depends on the sources and the locked packages alone, so that a test can build anew and compare byte
// for byte. Names in assets/ carry a hash of their content: browsers keep them for ever.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile, copyFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const target = path.resolve(here, process.argv[2] ?? '../web');

/** KaTeX names each font in three formats; every browser that this page supports reads the smallest. */
const woff2Only = {
  name: 'woff2-only',
  setup(builder) {
    builder.onLoad({ filter: /katex[\\/]dist[\\/]katex\.css$/ }, async ({ path: file }) => {
      const css = await readFile(file, 'utf8');
      return { contents: css.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\([^)]*\)/g, ''), loader: 'css' };
    });
  },
};

const common = {
  absWorkingDir: here,
  // Names carry hashes of the sources' paths too: a node_modules that is a link must look as one that is none.
  preserveSymlinks: true,
  bundle: true,
  minify: true,
  legalComments: 'none',
  charset: 'utf8',
  // Browsers of the last four years.
  target: ['chrome107', 'edge107', 'firefox107', 'safari16'],
  outdir: 'out',
  write: false,
  metafile: true,
  logLevel: 'warning',
};

const pages = await build({
  ...common,
  // The style sheets of lazy parts are entries of their own; index.html tells their names to the script.
  entryPoints: { app: 'src/main.tsx', katex: 'src/css/katex.css', operator: 'src/css/operator.css' },
  format: 'esm',
  splitting: true,
  entryNames: 'assets/[name]-[hash]',
  chunkNames: 'assets/[name]-[hash]',
  assetNames: 'assets/[name]-[hash]',
  loader: { '.woff2': 'file' },
  jsx: 'automatic',
  jsxImportSource: 'preact',
  plugins: [woff2Only],
});
const boot = await build({
  ...common,
  entryPoints: { boot: 'src/boot.ts' },
  format: 'iife',
  entryNames: 'assets/[name]-[hash]',
});
// A page of its own, apart from the chat page's parts: few people open it.
const consolePage = await build({
  ...common,
  entryPoints: { console: 'src/console/main.ts' },
  format: 'esm',
  entryNames: 'assets/[name]-[hash]',
});

const files = [...pages.outputFiles, ...boot.outputFiles, ...consolePage.outputFiles];
const nameOf = (file) => path.relative(path.join(here, 'out'), file.path).split(path.sep).join('/');
const named = (pattern) => {
  const found = files.map(nameOf).filter((name) => pattern.test(name));
  if (found.length !== 1) throw new Error(`${pattern} is ${found.length} files: ${found.join(', ')}`);
  return found[0];
};

const template = await readFile(path.join(here, 'src/index.html'), 'utf8');
const html = template
  .replaceAll('%BOOT%', named(/^assets\/boot-\w+\.js$/))
  .replaceAll('%SCRIPT%', named(/^assets\/app-\w+\.js$/))
  .replaceAll('%STYLE%', named(/^assets\/app-\w+\.css$/))
  .replaceAll('%KATEX_STYLE%', named(/^assets\/katex-\w+\.css$/))
  .replaceAll('%OPERATOR_STYLE%', named(/^assets\/operator-\w+\.css$/));
const consoleHtml = (await readFile(path.join(here, 'src/console/index.html'), 'utf8'))
  .replaceAll('%BOOT%', named(/^assets\/boot-\w+\.js$/))
  .replaceAll('%CONSOLE_SCRIPT%', named(/^assets\/console-\w+\.js$/))
  .replaceAll('%CONSOLE_STYLE%', named(/^assets\/console-\w+\.css$/));

await rm(target, { recursive: true, force: true });
await mkdir(path.join(target, 'assets'), { recursive: true });
for (const file of files) await writeFile(path.join(target, nameOf(file)), file.contents);
await writeFile(path.join(target, 'index.html'), html);
await mkdir(path.join(target, 'console'), { recursive: true });
await writeFile(path.join(target, 'console/index.html'), consoleHtml);
await copyFile(path.join(here, 'src/favicon.svg'), path.join(target, 'favicon.svg'));
await writeFile(path.join(target, 'licenses.txt'), await licenses());

const digest = createHash('sha256').update(html).digest('hex').slice(0, 12);
console.log(`${files.length + 4} files in ${path.relative(process.cwd(), target) || '.'}, page ${digest}`);

/** The licences of the packages whose code is in the page, as they ask for. */
async function licenses() {
  const inputs = [pages, boot, consolePage].flatMap((result) => Object.keys(result.metafile.inputs));
  const packages = new Set(
    inputs.map((name) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(name)?.[1]).filter((name) => name !== undefined),
  );
  if (packages.size === 0) throw new Error('no package was found among the inputs');
  const parts = [];
  for (const name of [...packages].sort()) {
    const folder = path.join(here, 'node_modules', name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
    parts.push(`${name} ${version} (${license})\n\n${await licenseText(folder)}`);
  }
  const text = `The chat page contains these packages.\n\n${parts.join('\n\n----\n\n')}\n`;
  return text.replaceAll('\r\n', '\n').replace(/[ \t]+$/gm, '');
}

async function licenseText(folder) {
  for (const name of ['LICENSE', 'LICENSE.txt', 'LICENSE.md', 'LICENSE-MIT.txt', 'license', 'License']) {
    try {
      return (await readFile(path.join(folder, name), 'utf8')).trim();
    } catch {
      // Another of the usual names.
    }
  }
  throw new Error(`${folder} has no licence file`);
}
