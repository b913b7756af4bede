// The files of a collection, a window of them: the server sorts, finds and turns it. A click deletes one, or all.
let view = {}, key = '', opened = false, typed = null, timer = 0;
let asks = 0;  // answers may come in another order: only the last one is taken
const asking = () => ({...view, ask: ++asks});
const send = () => trigger('select', asking());
const ask = (change) => {
  view = {...view, page: 1, ...change};
  send();
};
// Others change what is shown, too: the server is asked for it again soon, and once a second at most.
let news = '', waiting = 0, refreshed = -1000, delays = 0;
const refresh = () => {
  // Who is asked whether to delete a file has ten seconds to answer before the list is replaced.
  waiting = element.querySelector('.confirm[open], select:focus') && delays < 10 ? setTimeout(refresh, 1000) : 0;
  delays = waiting ? delays + 1 : 0;
  if (waiting) return;
  const {key: of, version} = element.querySelector('[data-version]')?.dataset ?? {};
  if (version === undefined || version === news) return;
  refreshed = performance.now();
  trigger('submit', {key: of});
};
window.addEventListener('dormouse-version', ({detail}) => {
  if (detail.key !== element.querySelector('[data-version]')?.dataset.key) return;
  news = detail.version;
  waiting ||= setTimeout(refresh, Math.max(500, refreshed + 1000 - performance.now()));
});
const arrive = () => {
  const shown = element.querySelector('[data-version]');
  if (shown) {
    window.dormouseCollection = shown.dataset.key;
    window.dispatchEvent(new CustomEvent('dormouse-collection'));
  }
  const list = element.querySelector('.files');
  if (!list) return;
  const asked = {sort: list.dataset.by, find: list.dataset.find, page: +list.dataset.page};
  const same = list.dataset.key === key;
  if (!same) [key, opened, typed] = [list.dataset.key, false, null];
  const answers = list.dataset.asked === String(asks);
  if (!same || answers) view = asked;
  list.open = opened;
  const search = list.querySelector('[data-search]');
  if (search && typed !== null) {
    search.value = typed;
    search.focus();
  }
  // After an upload, say, the list comes as it is at first.
  if (Object.keys(asked).some((name) => asked[name] !== view[name])) send();
};
watch('value', arrive);
arrive();
element.addEventListener('change', (event) => {
  if (event.target.closest('[data-sort]')) ask({sort: event.target.value});
});
element.addEventListener('input', (event) => {
  if (!event.target.closest('[data-search]')) return;
  typed = event.target.value;
  clearTimeout(timer);
  timer = setTimeout(() => ask({find: typed}), 200);
});
element.addEventListener('focusout', (event) => {
  // Not when the field is taken away by the next list.
  if (event.target.closest('[data-search]') && event.target.isConnected && event.relatedTarget) typed = null;
});
element.addEventListener('click', (event) => {
  // At once: the list may be replaced before it says that it was opened.
  const summary = event.target.closest('.files > summary');
  if (summary) opened = !summary.parentElement.open;
  const turn = event.target.closest('[data-turn]');
  if (turn) ask({page: +turn.dataset.turn});
  const file = event.target.closest('[data-file]');
  if (file) trigger('click', {file: file.dataset.file, found: 0, all: false, ...asking()});
  const found = event.target.closest('[data-found]');
  if (found) trigger('click', {file: '', found: +found.dataset.found, all: false, ...asking()});
  if (event.target.closest('[data-collection]')) trigger('click', {file: '', found: 0, all: true, ...asking()});
});
