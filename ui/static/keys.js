// Keys of the page, and who has been here before. Runs in the head, before anything is shown.
(() => {
  const KNOWN = 'dormouse-back';
  const remembered = () => { try { return localStorage.getItem(KNOWN) === '1'; } catch { return false; } };
  const back = () => document.documentElement.classList.add(KNOWN);
  const remember = () => { try { localStorage.setItem(KNOWN, '1'); } catch { /* not allowed: shown again next time */ } };
  if (remembered()) back();

  const box = () => document.querySelector('#ask textarea, #ask input');
  const hits = () => [...document.querySelectorAll('#gallery .hit')];
  const ask = () => {
    document.querySelector('[role="tab"][data-tab-id="search"][aria-selected="false"]')?.click();
    requestAnimationFrame(() => box()?.focus());
  };
  const clear = (field) => {
    field.value = '';
    field.dispatchEvent(new Event('input', {bubbles: true}));  // Gradio hears of it
  };
  const choose = (hit) => { hit?.focus(); hit?.click(); };

  // Rows are what the eye sees: the nearest hit above or below, by its middle.
  const beyond = (all, from, down) => {
    const middle = (hit) => { const r = hit.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; };
    const [x, y] = middle(from);
    const far = all.map((hit) => [hit, ...middle(hit)]).filter(([hit, , top]) => down ? top > y + 8 : top < y - 8);
    far.sort((a, b) => Math.abs(a[2] - y) - Math.abs(b[2] - y) || Math.abs(a[1] - x) - Math.abs(b[1] - x));
    return far[0]?.[0];
  };
  const next = (key, all, from) => {
    const at = all.indexOf(from);
    switch (key) {
      case 'ArrowRight': return all[at + 1];
      case 'ArrowLeft': return all[at - 1];
      case 'ArrowDown': return beyond(all, from, true);
      case 'ArrowUp': return beyond(all, from, false);
      case 'Home': return all[0];
      case 'End': return all.at(-1);
    }
  };

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing) return;
    const at = event.target instanceof Element ? event.target : document.body;
    const typing = at.closest('input, textarea, select, [contenteditable]');
    const hit = at.closest('#gallery .hit');
    if (event.key === '/' && !typing) {
      event.preventDefault();
      ask();
    } else if (hit && /^(Arrow|Home$|End$)/.test(event.key)) {
      event.preventDefault();  // no scrolling beside it
      choose(next(event.key, hits(), hit));
    } else if (!typing && !event.shiftKey && /^Arrow(Left|Right)$/.test(event.key)) {
      // Whatever has arrows of its own keeps them: lists, tabs, tables that scroll, a picture that is larger than its window.
      const own = at.closest('[role="tab"], [role="slider"], [role="listbox"], [role="region"], .window.is-zoomed, iframe');
      if (!own && window.dormousePages.turn(event.key === 'ArrowRight' ? 1 : -1)) event.preventDefault();
    } else if (!typing && /^[-+=0]$/.test(event.key) && (at === document.body || at.closest('#detail'))) {
      if (window.dormouseViewer.zoom({'-': -1, 0: 0}[event.key] ?? 1)) event.preventDefault();
    } else if (event.key === 'Escape') {
      const asks = at.closest('.confirm[open]');
      if (asks) {
        asks.open = false;
        asks.querySelector('summary').focus();
      } else if (at === box()) clear(at);
      else if (at.closest('#gallery, #detail') && !window.dormouseAddress.closePage()) ask();
    } else if (event.key === 'ArrowDown' && at === box() && at.selectionStart === at.value.length && hits().length) {
      event.preventDefault();
      choose(hits()[0]);
    }
  });
  document.addEventListener('click', (event) => {
    if (!(event.target instanceof Element)) return;
    const knows = event.target.closest('[data-known]');
    if (knows || event.target.closest('#gallery .hit')) remember();
    if (!knows) return;
    back();
    box()?.focus();
  });
})();
