// One page in full: others like it, its deletion, and its parts.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-delete], [data-like]');
  if (button) trigger('click', {page: button.dataset.delete ?? button.dataset.like, like: 'like' in button.dataset});
  if (event.target.closest('[data-close]')) window.dormouseAddress.closePage();
  const where = event.target.closest('[data-where]');
  if (!where || where.dataset.pending) return;
  where.dataset.pending = String(Math.random());  // until events.js has the answer
  where.nextElementSibling.textContent = where.dataset.looking;
  trigger('select', {page: where.dataset.where, token: where.dataset.pending});
});
watch('value', () => {
  const page = element.querySelector('.detail')?.dataset.page;
  for (const card of document.querySelectorAll('#gallery [data-page]')) {
    card.setAttribute('aria-current', card.dataset.page === page);
  }
  window.dispatchEvent(new CustomEvent('dormouse-detail', {detail: page ?? ''}));
  const mark = element.querySelector('.window .mark');  // on a long page it may be far below
  if (mark) {
    const view = mark.closest('.window');
    view.scrollTop = mark.offsetTop - view.clientHeight / 3;
  }
  if (window.dormouseChose) {
    window.dormouseChose = false;
    const box = element.getBoundingClientRect();
    if (box.top > window.innerHeight * 0.6 || box.top < 0) element.scrollIntoView({behavior: 'smooth', block: 'start'});
  }
  // The button that was pressed is gone, and with it where the keys were.
  if (window.dormouseLooked && document.activeElement === document.body) {
    element.querySelector('.where :is(input, [tabindex], button)')?.focus({preventScroll: true});
  }
  window.dormouseLooked = false;
});
