/** Starts the page. */

import './css/app.css';
import { render } from 'preact';
import { Store, StoreContext } from './state/store.js';
import { App } from './views/app.js';

const store = new Store(document.baseURI.replace(/#.*$/, ''));

// A link with a key in it may be opened while the page is open already.
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#key=')) void store.session.begin();
});

render(
  <StoreContext.Provider value={store}>
    <App />
  </StoreContext.Provider>,
  document.getElementById('root')!,
);
void store.session.begin();
