// The address names what is shown: ?c=collection&k=top_k&t=server&q=question&like=page&open=page&tab=tab.
// The browser's history has an entry for each search, tab and opened page. Runs in the head, before anything is shown.
(() => {
  const PLACE = {c: 'collection', k: 'top_k', t: 'server'};
  // Gradio takes `page` and `view` for itself.
  const NAMES = {...PLACE, q: 'query', like: 'like', open: 'page'};
  const NOTHING = {query: '', like: '', page: '', search: ''};
  let usual = '';  // the top_k that the address leaves out
  let shown = {collection: '', top_k: '', server: '', ...NOTHING};
  let ask = null;  // sends an entry to the page's server, which shows it
  let arrived = false, closing = false;
  let sent = '';  // the entry that the server has been asked for, until it answers

  const tab = () => new URL(window.location).searchParams.get('tab') ?? '';
  const current = () => {
    const given = new URL(window.location).searchParams;
    const entry = Object.fromEntries(Object.entries(NAMES).map(([short, name]) => [name, given.get(short) ?? '']));
    return {...entry, top_k: entry.top_k || usual, search: window.history.state?.search ?? ''};
  };
  const write = (entry, place, depth, isNew, turned = !isNew && Boolean(entry.page && window.history.state?.turned)) => {
    const url = new URL(window.location);
    const put = (name, value) => (value ? url.searchParams.set(name, value) : url.searchParams.delete(name));
    for (const [short, name] of Object.entries(NAMES)) put(short, name === 'top_k' && entry[name] === usual ? '' : entry[name]);
    put('tab', place);
    // `depth`: how many entries of opened pages lie above the one of the search. Closing a page passes them all.
    // `turned`: the page was turned to; the next one that is takes its place.
    const state = {search: entry.search, depth, turned};
    if (isNew) window.history.pushState(state, '', url);
    else window.history.replaceState(state, '', url);
    document.documentElement.classList.toggle('dormouse-page-open', Boolean(entry.page));
  };
  const depth = () => window.history.state?.depth ?? 0;
  const asked = ({query, like, search}) => Boolean(query || like || search);
  const same = (one, other) => (one.search && other.search
    ? one.search === other.search
    : asked(one) === asked(other)
      && ['collection', 'query', 'like', ...(asked(one) ? ['top_k', 'server'] : [])].every((name) => one[name] === other[name]));

  // Shows the current entry, if it is not what is shown already. What another tab shows is left until Search is chosen.
  const settle = (arriving = false) => {
    if (tab() || !arrived || sent) return;
    const wanted = current();
    const redraw = !same(wanted, shown);
    if (!redraw && wanted.page === shown.page) return;
    sent = JSON.stringify(wanted);
    if (wanted.page) window.dormouseChose = true;  // detail.js brings it into view
    ask(wanted.collection === shown.collection ? 'click' : 'select', {...wanted, redraw, arriving});
  };
  const chooseTab = () => {
    document.querySelector(`[role="tab"][data-tab-id="${CSS.escape(tab() || 'search')}"][aria-selected="false"]`)?.click();
  };
  const focusPage = (page) => {
    document.querySelector(`#gallery [data-page="${CSS.escape(page)}"]`)?.focus({preventScroll: true});
  };

  window.dormouseAddress = {
    connect(trigger) {
      ask = trigger;
      chooseTab();
    },

    // The page has been opened: its lists have their values. What the address asks is searched for.
    arrive(top_k, place) {
      usual = top_k;
      arrived = true;
      shown = asked(shown) ? shown : {...shown, ...place};
      write({...current(), ...place, ...(asked(shown) ? shown : {})}, tab(), depth(), false);
      settle(true);
    },

    // Another server, whose question is the same and is not asked yet; or a collection that has just got its key.
    move(place) {
      if (!arrived) return;
      const leaves = place.server !== shown.server && asked(shown);
      const gone = leaves ? {like: '', page: '', search: ''} : {};
      shown = {...shown, ...place, ...gone};
      write({...current(), ...place, ...gone}, tab(), leaves ? 0 : depth(), leaves);
    },

    // The server tells what it shows by now.
    tell(entry) {
      const before = current();
      // What it leaves out stays.
      shown = {...entry, top_k: entry.top_k || before.top_k, server: entry.server || before.server};
      const isLate = entry.returned && sent !== JSON.stringify(before);  // somebody has gone on meanwhile
      if (entry.returned) sent = '';
      if (isLate) {
        settle();
        return;
      }
      // The same question again is no new entry. An image is not in the address.
      const again = same({...before, search: ''}, shown) && !before.page && !entry.image;
      const isNew = entry.is_new && arrived && !tab() && !again;
      write(shown, tab(), isNew ? 0 : depth(), isNew);
    },

    // The server has not answered: the next step through the history asks again.
    forget() {
      sent = '';
      shown = {...shown, search: 'none'};
    },

    chooseTab(chosen) {
      const place = chosen === 'search' ? '' : chosen;
      if (!arrived || place === tab()) return;
      write(current(), place, 0, true);
      settle();
    },

    // `passing`: by the arrow keys, on the way to another one. `turned`: on from a page to others of its document.
    openPage(page, {passing = false, turned = false} = {}) {
      const entry = current();
      if (entry.page === page) return;
      const wasTurned = Boolean(window.history.state?.turned);
      const isNew = !(entry.page && (turned ? wasTurned : passing && !wasTurned));
      write({...entry, page}, tab(), depth() + (isNew ? 1 : 0), isNew, turned);
      shown = {...shown, page};
    },

    // Returns whether there was an opened page to close. It is like Back, so that Back does not open it again.
    closePage() {
      const {page} = current();
      if (!page) return false;
      focusPage(page);
      if (depth()) {
        closing = true;
        window.history.go(-depth());
      } else {
        write({...current(), page: ''}, tab(), 0, false);
        settle();
      }
      return true;
    },
  };

  window.addEventListener('popstate', () => {
    const entry = current();
    write(closing ? {...entry, page: ''} : entry, tab(), depth(), false);
    closing = false;
    chooseTab();
    settle();
  });
})();
